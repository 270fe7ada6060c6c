import numpy as np
import pytest
from scipy import stats

from surrogate.inference.draws import WARM_TEMPERATURE, Draws, draw
from surrogate.inference.setup import Setup
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

PRIORS = {
    "box": Prior.of({"a": (-2, 3), "b": (0, 1e-3)}),
    "unbounded": Prior.of({"a": stats.norm(3, 2), "b": stats.gamma(2, scale=1e4)}),
    "one parameter": Prior.of({"a": (5, 6)}),
}


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


@pytest.fixture
def scaled(prior):
    return Setup(prior).scaled


def test_there_and_back(prior, scaled, rng):
    x = prior.sample(50, rng)
    np.testing.assert_allclose(scaled.from_unit(scaled.to_unit(x)), x, rtol=1e-12)


def test_the_density_is_normalised_per_unit_of_t(scaled, rng):
    """The mean of 1 / q over draws from p is a volume; here: p and its draws agree. Null: 5 standard errors."""
    t = scaled.sample(20_000, rng)
    d = t.shape[1]
    centre, sd = np.median(t, 0), 0.1
    inside = np.all(np.abs(t - centre) < sd, axis=1)
    grid = centre + sd * (2 * np.random.default_rng(0).random((20_000, d)) - 1)
    mass = np.exp(scaled.log_density(grid)).mean() * (2 * sd) ** d
    assert inside.mean() == pytest.approx(mass, abs=5 * np.sqrt(mass / 20_000) * 1.5)


def test_scaled_coordinates_are_of_order_one(scaled, rng):
    t = scaled.sample(5000, rng)
    assert np.all((np.median(t, 0) > 0) & (np.median(t, 0) < 1))
    spread = np.ptp(np.quantile(t, [0.05, 0.95], axis=0), axis=0)
    np.testing.assert_allclose(spread, 0.9, atol=0.1)


# Draws

MEAN, SD = np.array([0.45, 0.6]), np.array([0.05, 0.1])


def surrogate(*, infeasible=False):
    """A model of a normal log-likelihood in a box, with its data."""
    prior = Prior.of({"a": (0, 1), "b": (0, 1)})
    x = np.random.default_rng(0).random((25, 2))
    y = -0.5 * (((x - MEAN) / SD) ** 2).sum(1)
    if infeasible:
        y[x[:, 0] > MEAN[0]] = -np.inf
    evaluations = [Evaluation(float(v), "ok" if np.isfinite(v) else "infeasible") for v in y]
    data = Dataset.empty(2).append(x, evaluations, 0)
    parameters = fit_structure(FitProblem(data, x), Structure.plain(np.zeros(2), np.ones(2)))
    return build(data, x, parameters), Setup(prior).scaled, x[data.finite], y[data.finite]


def test_draws_have_the_moments_of_a_normal():
    """At temperature 1, and warmer ones wider by its root. A quarter are independent; 5 standard errors."""
    model, scaled, t, y = surrogate()
    draws = draw(model, scaled, t, y, None, np.random.default_rng(1))
    root = np.sqrt(len(draws.posterior) / 4)
    np.testing.assert_allclose((draws.posterior.mean(0) - MEAN) / SD, 0, atol=5 / root)
    np.testing.assert_allclose(draws.posterior.std(0) / SD, 1, atol=5 / root)
    exact = SD[0] * np.sqrt(WARM_TEMPERATURE)
    assert draws.warm[:, 0].std() / exact == pytest.approx(1, abs=5 / root)


def test_draws_stay_inside_of_the_prior_and_the_feasible_part():
    model, scaled, t, y = surrogate(infeasible=True)
    draws = draw(model, scaled, t, y, None, np.random.default_rng(1))
    for cloud in (draws.posterior, draws.warm):
        assert np.isfinite(scaled.log_density(cloud)).all()
        assert np.mean(cloud[:, 0] < MEAN[0] + 3 * SD[0]) > 0.95
    assert np.mean(draws.posterior[:, 0] < MEAN[0] + 0.1) > 0.9


def test_wrong_draws_of_before_are_left_behind():
    """Starting from a cloud elsewhere finds the posterior all the same."""
    model, scaled, t, y = surrogate()
    elsewhere = 0.9 + 0.01 * np.random.default_rng(2).standard_normal((400, 2))
    draws = draw(model, scaled, t, y, Draws(elsewhere, elsewhere), np.random.default_rng(1))
    np.testing.assert_allclose((draws.posterior.mean(0) - MEAN) / SD, 0, atol=0.5)


def test_draws_depend_on_the_generator_alone():
    model, scaled, t, y = surrogate()
    first, second, third = (draw(model, scaled, t, y, None, np.random.default_rng(s), n=200) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.posterior, second.posterior)
    np.testing.assert_array_equal(first.warm, second.warm)
    assert not np.array_equal(first.posterior, third.posterior)
    assert first.posterior.shape == first.warm.shape == (200, 2)
