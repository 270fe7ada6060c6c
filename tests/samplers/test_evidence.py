import numpy as np
import pytest
from scipy import stats

from surrogate.samplers.evidence import importance_sample
from surrogate.samplers.mixture import Mixture
from tests.samplers.laws import assert_errors_are_honest


def normal(d):
    rng = np.random.default_rng(d)
    a = rng.standard_normal((d, d))
    density = stats.multivariate_normal(rng.standard_normal(d), a @ a.T + 0.1 * np.eye(d))
    return (
        lambda x: np.atleast_1d(density.logpdf(x)),
        lambda n, r: np.atleast_1d(density.rvs(n, random_state=r)).reshape(n, d),
    )


def banana():
    def draw(n, rng):
        x = rng.standard_normal(n)
        return np.column_stack([x, x**2 + 0.5 * rng.standard_normal(n)])

    constant = np.log(2 * np.pi * 0.5)
    return lambda x: -0.5 * (x[:, 0] ** 2 + 4 * (x[:, 1] - x[:, 0] ** 2) ** 2) - constant, draw


def half_normal():
    def density(x):
        return np.where(x[:, 0] > 0, np.log(2) - 0.5 * np.log(2 * np.pi) - 0.5 * x[:, 0] ** 2, -np.inf)

    return density, lambda n, rng: np.abs(rng.standard_normal((n, 1)))


def two_modes():
    def density(x):
        parts = [stats.multivariate_normal.logpdf(x, np.full(2, m), np.eye(2)) for m in (-5.0, 5.0)]
        return np.logaddexp(np.log(0.2) + parts[0], np.log(0.8) + parts[1])

    return density, lambda n, r: r.standard_normal((n, 2)) + np.where(r.random(n) < 0.2, -5.0, 5.0)[:, None]


TARGETS = {
    "normal 1": normal(1),
    "normal 2": normal(2),
    "normal 8": normal(8),
    "banana": banana(),
    "half normal": half_normal(),
    "two modes": two_modes(),
}


@pytest.fixture(params=TARGETS)
def target(request):
    return TARGETS[request.param]


def run(target, *, seed=0, n=6000, offset=0.0, **options):
    rng = np.random.default_rng(seed)
    density, draw = target
    return importance_sample(lambda x: density(x) + offset, draw(1000, rng), n, rng, **options)


@pytest.mark.parametrize("offset", [0.0, -1e5, 1e5])
def test_the_integral_is_exact_to_its_error(target, offset):
    """All targets are normalised; 5 standard errors."""
    sample = run(target, offset=offset)
    assert sample.log_integral == pytest.approx(offset, abs=max(5 * sample.log_integral_error, 1e-9 * abs(offset)))
    assert sample.log_integral_error < 0.05


def test_the_error_is_that_of_repetitions(target):
    assert_errors_are_honest([run(target, seed=seed, n=2000) for seed in range(20)])


def test_weighted_moments_are_those_of_the_target(target):
    sample = run(target)
    exact = target[1](200_000, np.random.default_rng(1))
    np.testing.assert_allclose(
        sample.weights @ sample.x, exact.mean(0), atol=5 * exact.std(0).max() / np.sqrt(0.5 * sample.ess)
    )


def test_what_a_sample_holds(target):
    sample = run(target)
    assert sample.weights.sum() == pytest.approx(1.0)
    assert sample.ess == pytest.approx(1 / (sample.weights**2).sum())
    assert np.isfinite(sample.log_density).all()
    np.testing.assert_allclose(sample.log_density, target[0](sample.x))


def test_more_components_are_tried_where_one_is_not_enough():
    one = run(TARGETS["banana"], components=(1,))
    assert run(TARGETS["banana"]).ess > one.ess


def test_a_mode_that_the_chain_missed_is_seen_by_extra_components():
    """Its draws all come from one side; the integral is whole again with a component on the other."""
    density = TARGETS["two modes"][0]
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((1000, 2)) + 5.0
    extra = Mixture(np.ones(1), np.full((1, 2), -5.0), np.eye(2)[None])
    sample = importance_sample(density, draws, 20_000, rng, extra=extra)
    assert sample.log_integral == pytest.approx(0.0, abs=max(5 * sample.log_integral_error, 0.01))


def test_nothing_finite_is_no_integral(rng):
    sample = importance_sample(lambda x: np.full(len(x), -np.inf), rng.standard_normal((100, 2)), 500, rng)
    assert sample.log_integral == -np.inf
    assert sample.ess == 0.0
    assert len(sample.x) == 0


def test_no_components_are_refused(rng):
    with pytest.raises(ValueError, match="components must not be empty"):
        importance_sample(TARGETS["normal 2"][0], rng.standard_normal((100, 2)), 500, rng, components=())
