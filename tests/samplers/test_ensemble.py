import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

from surrogate.samplers.coordinates import Unbounded
from surrogate.samplers.ensemble import independent_chain, sample_ensemble
from surrogate.samplers.evidence import importance_sample
from surrogate.samplers.mixture import Mixture

LINE = [-np.inf, np.inf]


def correlated(d):
    a = np.random.default_rng(d).standard_normal((d, d))
    factor = np.linalg.cholesky(a @ a.T + 0.1 * np.eye(d))
    whiten = np.linalg.inv(factor).T
    return (
        lambda x: -0.5 * ((x @ whiten) ** 2).sum(axis=1),
        lambda n, rng: rng.standard_normal((n, d)) @ factor.T,
        [LINE] * d,
    )


def banana():
    def draw(n, rng):
        x = rng.standard_normal(n)
        return np.column_stack([x, x**2 + 0.5 * rng.standard_normal(n)])

    return lambda x: -0.5 * (x[:, 0] ** 2 + 4 * (x[:, 1] - x[:, 0] ** 2) ** 2), draw, [LINE] * 2


def two_modes():
    def density(x):
        low, high = (-0.5 * ((x - m) ** 2).sum(axis=1) for m in (-4.0, 4.0))
        return np.logaddexp(np.log(0.3) + low, np.log(0.7) + high)

    def draw(n, rng):
        return rng.standard_normal((n, 2)) + np.where(rng.random(n) < 0.3, -4.0, 4.0)[:, None]

    return density, draw, [LINE] * 2


def truncated(d, high):
    draw = lambda n, rng: truncnorm.rvs(0, high, size=(n, d), random_state=rng)  # noqa: E731
    return lambda x: -0.5 * (x**2).sum(axis=1), draw, [[0.0, high]] * d


def cut():
    """A region of zero density inside the bounds."""
    draw = lambda n, rng: np.abs(rng.standard_normal((n, 3)))  # noqa: E731
    return lambda x: np.where((x > 0).all(axis=1), -0.5 * (x**2).sum(axis=1), -np.inf), draw, [LINE] * 3


TARGETS = {
    "normal 1": correlated(1),
    "normal 2": correlated(2),
    "normal 8": correlated(8),
    "normal 16": correlated(16),
    "banana": banana(),
    "two modes": two_modes(),
    "box": truncated(4, 3.0),
    "half-line": truncated(4, np.inf),
    "cut": cut(),
}


def run(name, seed=0, start=None, **options):
    density, draw, bounds = TARGETS[name]
    rng = np.random.default_rng(seed)
    walkers = draw(400, rng) if start is None else start
    return sample_ensemble(density, walkers, **{"rng": rng, "ess": 4000, "bounds": bounds} | options)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n in ("normal 8", "normal 16", "half-line"))) for n in TARGETS]
)
def test_moments_and_marginals_are_those_of_the_target(name):
    chain = run(name)
    exact = TARGETS[name][1](400_000, np.random.default_rng(1))
    assert chain.converged, chain.reason
    sd, root = exact.std(axis=0), np.sqrt(chain.ess)
    assert np.all(np.abs(chain.samples.mean(axis=0) - exact.mean(axis=0)) < 5 * sd / root)
    squares, exact_squares = chain.samples**2, exact**2
    # squares may be correlated for four times as long, see _TAIL
    allowed = 5 * exact_squares.std(axis=0) / (root / 2)
    assert np.all(np.abs(squares.mean(axis=0) - exact_squares.mean(axis=0)) < allowed)
    for ours, theirs in zip(chain.samples.T, exact.T, strict=True):
        distance = kstest(ours, theirs).statistic
        assert distance < 2.2 / root  # Kolmogorov's law: one in 10,000 for independent draws


@pytest.mark.parametrize("name", ["normal 2", "box", "cut"])
def test_log_density_belongs_to_its_row(name):
    chain = run(name)
    np.testing.assert_allclose(chain.log_density, TARGETS[name][0](chain.samples), rtol=1e-9, atol=1e-9)


def test_rows_are_few_and_shuffled():
    chain = run("normal 2", ess=1000)
    assert len(chain.samples) <= 4 * 1000 + 400
    lagged = np.corrcoef(chain.samples[1:, 0], chain.samples[:-1, 0])[0, 1]
    assert abs(lagged) < 5 / np.sqrt(len(chain.samples))


@pytest.mark.slow
def test_reported_ess_is_the_spread_of_means_over_runs():
    chains = [run("normal 2", seed=seed, ess=1500) for seed in range(24)]
    density_sd = TARGETS["normal 2"][1](200_000, np.random.default_rng(1)).std(axis=0)
    z = np.array([chain.samples.mean(axis=0) * np.sqrt(chain.ess) / density_sd for chain in chains])
    # 48 squares, correlated in pairs: the variance of their mean is below 2 * 2 / 48
    assert abs((z**2).mean() - 1) < 5 * np.sqrt(4 / 48)


def test_the_same_generator_gives_the_same_chain_and_the_global_one_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = run("normal 2", seed=3), run("normal 2", seed=3), run("normal 2", seed=4)
    np.testing.assert_array_equal(first.samples, second.samples)
    assert first.samples.shape != other.samples.shape or not np.array_equal(first.samples, other.samples)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_a_start_far_from_the_target_is_burnt_in():
    start = 8 + 0.3 * np.random.default_rng(5).standard_normal((400, 4))
    density = lambda x: -0.5 * (x**2).sum(axis=1)  # noqa: E731
    chain = sample_ensemble(density, start, rng=np.random.default_rng(0), ess=2000)
    assert chain.converged
    assert chain.burn_in > 20
    assert np.all(np.abs(chain.samples.mean(axis=0)) < 5 / np.sqrt(chain.ess))


def test_repeated_walkers_are_harmless():
    density, draw, _ = TARGETS["normal 8"]
    start = np.repeat(draw(20, np.random.default_rng(0)), 20, axis=0)
    chain = sample_ensemble(density, start, rng=np.random.default_rng(0), ess=2000)
    sd = draw(100_000, np.random.default_rng(1)).std(axis=0)
    assert chain.converged
    assert np.all(np.abs(chain.samples.mean(axis=0)) < 5 * sd / np.sqrt(chain.ess))


def test_density_is_never_asked_outside_the_bounds():
    def density(x):
        assert np.all((x >= 0) & (x <= 1))
        return np.zeros(len(x))

    rng = np.random.default_rng(0)
    chain = sample_ensemble(density, rng.random((200, 2)), rng=rng, ess=2000, bounds=[[0, 1]] * 2)
    assert kstest(chain.samples[:, 0], "uniform").statistic < 2.2 / np.sqrt(chain.ess)


def test_a_start_on_the_edge_is_legal():
    start = np.random.default_rng(0).random((200, 2))
    start[0], start[1] = 0.0, 1.0
    chain = sample_ensemble(
        lambda x: np.zeros(len(x)), start, rng=np.random.default_rng(0), ess=500, bounds=[[0, 1]] * 2
    )
    assert chain.converged


@pytest.mark.parametrize("options", [{"max_steps": 30}, {"max_steps": 5}, {"max_seconds": 0.0}])
def test_a_limit_ends_the_chain_with_its_reason(options):
    chain = run("normal 8", ess=1e6, **options)
    assert not chain.converged
    assert "limit of steps or time" in chain.reason or "drift" in chain.reason
    assert chain.steps <= options.get("max_steps", 1)
    assert len(chain.samples) == len(chain.log_density) > 0


def test_long_chains_are_thinned_in_memory_without_losing_their_ess(monkeypatch):
    monkeypatch.setattr("surrogate.samplers.ensemble._STORED", 64)
    chain = run("normal 2", ess=20_000)
    assert chain.converged
    assert chain.steps > 128
    sd = TARGETS["normal 2"][1](200_000, np.random.default_rng(1)).std(axis=0)
    assert np.all(np.abs(chain.samples.mean(axis=0)) < 5 * sd / np.sqrt(chain.ess))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_plus_infinity_stop_with_the_point(value):
    start = np.random.default_rng(0).random((50, 2))
    with pytest.raises(ValueError, match=rf"finite values or -inf, got {value} at \["):
        sample_ensemble(lambda x: np.full(len(x), value), start, rng=np.random.default_rng(0))


def test_a_density_of_the_wrong_shape_is_refused():
    start = np.random.default_rng(0).random((50, 2))
    with pytest.raises(ValueError, match=r"shape \(50,\) for 50 points, got \(50, 2\)"):
        sample_ensemble(lambda x: x, start, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (np.zeros(5), r"shape \(walkers, d\), got shape \(5,\)"),
        (np.random.default_rng(0).random((5, 2)), "at least 2 d \\+ 2 = 6 walkers, got 5"),
        (np.ones((50, 2)), "no spread in parameter 0"),
        (np.full((50, 2), np.nan), "must be finite"),
    ],
)
def test_a_bad_start_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        sample_ensemble(lambda x: np.zeros(len(x)), start, rng=np.random.default_rng(0))


def test_a_start_of_zero_density_is_refused():
    start = np.random.default_rng(0).random((50, 2)) - 0.5
    with pytest.raises(ValueError, match="must start at a finite log density, got -inf at"):
        sample_ensemble(lambda x: np.where(x[:, 0] > 0, 0.0, -np.inf), start, rng=np.random.default_rng(0))


BOUNDS = np.array([[0, 1], [-5, 1e3], [2, np.inf], [-np.inf, 3], [-np.inf, np.inf]], dtype=float)
INSIDE = np.array([[1e-6, 999.9, 2.5, -40.0, 7.0], [0.9999, -4.9, 1e5, 2.999, -1e4]])


def test_unbounded_coordinates_return():
    coordinates = Unbounded(BOUNDS)
    np.testing.assert_allclose(coordinates.inverse(coordinates.forward(INSIDE)), INSIDE, rtol=1e-10)


def test_unbounded_jacobian_is_the_derivative():
    coordinates = Unbounded(BOUNDS)
    u, step = coordinates.forward(INSIDE), 1e-5
    slopes = (coordinates.inverse(u + step) - coordinates.inverse(u - step)) / (2 * step)
    np.testing.assert_allclose(coordinates.log_jacobian(u), np.log(slopes).sum(axis=1), rtol=1e-5)


def test_extreme_unbounded_coordinates_stay_inside():
    coordinates = Unbounded(BOUNDS[:2])
    x = coordinates.inverse(np.array([[-40.0, -40.0], [40.0, 40.0]]))
    assert np.all((x >= BOUNDS[:2, 0]) & (x <= BOUNDS[:2, 1]))


def test_bounds_must_increase():
    with pytest.raises(ValueError, match="low < high in every row"):
        Unbounded(np.array([[1.0, 0.0]]))


def test_independent_draws_stand_for_a_chain():
    """Equally weighted draws of a normal out of those of a mixture twice as wide."""
    rng = np.random.default_rng(0)
    proposal = Mixture(np.ones(1), np.zeros((1, 2)), 1.5 * np.eye(2)[None])
    sample = importance_sample(
        lambda x: -0.5 * (x**2).sum(1), proposal.sample(200, rng), 20_000, rng, ess_fraction=0.0, known=proposal
    )
    chain = independent_chain(sample, 5000, rng)
    assert chain.converged
    assert chain.ess == sample.ess
    assert chain.samples.shape == sample.x.shape
    np.testing.assert_allclose(chain.log_density, -0.5 * (chain.samples**2).sum(1))
    np.testing.assert_allclose(chain.samples.mean(0), 0.0, atol=5 / np.sqrt(sample.ess))
    np.testing.assert_allclose(np.cov(chain.samples.T), np.eye(2), atol=8 / np.sqrt(sample.ess))


def test_too_few_independent_draws_are_said():
    rng = np.random.default_rng(0)
    sample = importance_sample(lambda x: -0.5 * (x**2).sum(1), rng.standard_normal((200, 2)), 1000, rng)
    chain = independent_chain(sample, 5000, rng)
    assert not chain.converged
    assert "5000 were asked for" in chain.reason
