"""Bridge sampling finds integrals that are known, to its own error, and says when it cannot."""

import numpy as np
import pytest
from scipy import stats

from surrogate.samplers.bridge import bridge_sample
from tests.samplers.laws import assert_errors_are_honest
from tests.samplers.test_evidence import TARGETS


def lognormal():
    """Four skewed axes."""

    def density(x):
        inside = (x > 0).all(1)
        return np.where(inside, stats.lognorm(0.6).logpdf(np.maximum(x, 1e-300)).sum(1), -np.inf)

    return density, lambda n, rng: np.exp(0.6 * rng.standard_normal((n, 4)))


ALL = {**TARGETS, "lognormal 4": lognormal()}


@pytest.fixture(params=ALL)
def target(request):
    return ALL[request.param]


def run(target, *, seed=0, n=4000, offset=0.0, **options):
    rng = np.random.default_rng(seed)
    density, draw = target
    x = draw(n, rng)
    return bridge_sample(lambda t: density(t) + offset, x, density(x) + offset, n, rng, **options)


@pytest.mark.parametrize("offset", [0.0, -1e5, 1e5])
def test_the_integral_is_exact_to_its_error(target, offset):
    """All targets are normalised; 5 standard errors."""
    got = run(target, offset=offset)
    assert got.log_integral == pytest.approx(offset, abs=5 * got.log_integral_error)
    assert got.log_integral_error < 0.05


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in ("normal 2", "banana"))) for n in ALL]
)
def test_the_error_is_that_of_repetitions(name):
    target = ALL[name]
    assert_errors_are_honest([run(target, seed=seed, n=2000) for seed in range(20)])


def test_the_bridge_solves_its_equation():
    """r = mean_q[l / (s l + (1 - s) r)] / mean_p[1 / (s l + (1 - s) r)], written out with the ratios as they are."""
    from surrogate.samplers.bridge import _bridged

    rng = np.random.default_rng(0)
    of_chain, of_proposal, ess = rng.normal(1.0, 0.5, 300), rng.normal(0.7, 0.5, 200), 150.0
    r = np.exp(_bridged(of_chain, of_proposal, ess).log_integral)
    s = ess / (ess + 200)
    upper = (np.exp(of_proposal) / (s * np.exp(of_proposal) + (1 - s) * r)).mean()
    lower = (1 / (s * np.exp(of_chain) + (1 - s) * r)).mean()
    assert r == pytest.approx(upper / lower, rel=1e-6)


def test_draws_that_repeat_count_once():
    """A chain that stays ten steps at each point is worth a tenth of its length; chi-squared of 20, p > 1e-6."""
    density, draw = TARGETS["banana"]
    z = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.repeat(draw(400, rng), 10, axis=0)
        got = bridge_sample(density, x, density(x), 400, rng)
        z.append(got.log_integral / got.log_integral_error)
    assert stats.chi2(20).sf((np.array(z) ** 2).sum()) > 1e-6


def test_no_overlap_is_no_integral():
    """The chain says that the density is elsewhere than it is."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 2))
    got = bridge_sample(lambda t: np.full(len(t), -np.inf), x, np.zeros(400), 400, rng)
    assert np.isnan(got.log_integral)
    assert got.log_integral_error == np.inf
