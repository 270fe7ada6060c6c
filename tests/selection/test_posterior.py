import numpy as np
import pytest

from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.selection.posterior import uncertain_batch, uncertainty_gram


def log_likelihood(x):
    a, b = (x[:, 0] - 0.5) / 0.1, (x[:, 1] - 0.4) / 0.15
    return -0.5 * (a**2 + (b - 0.4 * a**2) ** 2)


def surrogate(*, output=0.0, infeasible=False):
    x = np.random.default_rng(0).random((30, 2))
    y = log_likelihood(x)
    if infeasible:
        y[x[:, 0] > 0.6] = -np.inf
    data = Dataset.empty(2).append(x, [Evaluation(float(v), "ok" if np.isfinite(v) else "infeasible") for v in y], 0)
    plain = Structure.plain(np.zeros(2), np.ones(2))
    structure = Structure("matern52", plain.trend, output, plain.warp)
    return build(data, x, fit_structure(FitProblem(data, x), structure))


MODELS = {"plain": surrogate(), "compressed": surrogate(output=7.0), "bounded": surrogate(infeasible=True)}
T = np.random.default_rng(1).uniform([0.3, 0.1], [0.8, 0.9], (60, 2))
WEIGHTS = np.random.default_rng(2).uniform(0.5, 2.0, 60)


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]


def dense(gram):
    return np.stack([gram.column(i).numpy() for i in range(len(T))], 1)


def test_the_kernel_is_symmetric_and_positive(model):
    k = dense(uncertainty_gram(model, T, WEIGHTS))
    np.testing.assert_allclose(k, k.T, rtol=1e-9, atol=1e-9 * k.max())
    assert np.linalg.eigvalsh(0.5 * (k + k.T)).min() > -1e-7 * k.max()
    np.testing.assert_allclose(uncertainty_gram(model, T, WEIGHTS).diag(), np.diag(k), rtol=1e-6, atol=1e-9 * k.max())


@pytest.mark.parametrize("name", ["plain", "compressed"])
def test_where_all_is_feasible_it_is_the_covariance_of_the_weighted_surrogate(name):
    """To first order in the output warp."""
    model = MODELS[name]
    factor = WEIGHTS * model.output.slope(model.gp.mean(model.whiten(T)))
    exact = factor[:, None] * model.gp.covariance(model.whiten(T)) * factor
    np.testing.assert_allclose(dense(uncertainty_gram(model, T, WEIGHTS)), exact, rtol=1e-6, atol=1e-9 * exact.max())


def test_doubt_of_feasibility_is_uncertainty():
    """More than the process alone says, where feasibility is in doubt; and not where it is sure to be infeasible."""
    model = MODELS["bounded"]
    p = model.feasibility.probability(model.whiten(T))
    process = WEIGHTS**2 * model.gp.variance(model.whiten(T)) * model.output.slope(model.gp.mean(model.whiten(T))) ** 2
    open_ = (p > 0.02) & (p < 0.98)
    assert open_.any()
    variance = uncertainty_gram(model, T, WEIGHTS).diag().numpy()
    assert np.all(variance[open_] > (process * p)[open_])


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("caution", [None, 0.0, 2.0])
@pytest.mark.parametrize("pending", [None, T[:3] + 0.01])
def test_batches_are_distinct_candidates(model, n, caution, pending):
    chosen = uncertain_batch(model, T, np.zeros(60), n, zeta=0.5, caution=caution, pending=pending)
    assert len(chosen) == n
    assert len(set(chosen.tolist())) == n
    assert chosen.min() >= 0
    assert chosen.max() < 60


def test_the_first_point_maximises_its_acquisition():
    """2 zeta mu + log sd, of arXiv:2211.02045."""
    model, zeta = MODELS["plain"], 0.6
    sd = np.sqrt(model.gp.variance(model.whiten(T)))
    first = uncertain_batch(model, T, np.zeros(60), 3, zeta=zeta)[0]
    assert first == np.argmax(2 * zeta * model.smooth(T) + np.log(sd))


def test_the_prior_counts(model):
    """A candidate that the prior all but excludes is not chosen; one that it favours is, first."""
    free = uncertain_batch(model, T, np.zeros(60), 1, zeta=0.5)[0]
    log_prior = np.where(np.arange(60) == free, -60.0, 0.0)
    assert uncertain_batch(model, T, log_prior, 1, zeta=0.5)[0] != free


@pytest.mark.parametrize("caution", [0.0, 1.0, 10.0])
def test_caution_takes_the_highest_lower_bound_first(model, caution):
    log_prior = np.linspace(0, 1, 60)
    chosen = uncertain_batch(model, T, log_prior, 4, zeta=0.5, caution=caution)
    likely = model.feasibility.probability(model.whiten(T)) >= 0.5
    assert likely.any()
    least = model.if_feasible(T) + log_prior - caution * model.predict(T)[1]
    assert chosen[0] == np.argmax(np.where(likely, least, -np.inf))


def rising_to_a_boundary():
    """A surrogate of a likelihood that rises towards a forbidden half, and points on both sides of its boundary."""
    x = np.random.default_rng(0).random((30, 2))
    y = 40.0 * x[:, 0]
    y[x[:, 0] > 0.6] = -np.inf
    data = Dataset.empty(2).append(x, [Evaluation(float(v), "ok" if np.isfinite(v) else "infeasible") for v in y], 0)
    return build(data, x, fit_structure(FitProblem(data, x), Structure.plain(np.zeros(2), np.ones(2))))


def test_the_best_mean_is_looked_for_where_a_point_is_likely_to_be_feasible():
    model = rising_to_a_boundary()
    t = np.random.default_rng(1).random((300, 2))
    first = uncertain_batch(model, t, np.zeros(300), 2, zeta=0.5, caution=1.0)[0]
    assert model.feasibility.probability(model.whiten(t[first : first + 1]))[0] > 0.5
    assert 0.4 < t[first, 0] < 0.65


def test_a_pending_point_is_not_chosen_again(model):
    """What it leaves open is what would be open if it were known, so its neighbours are not chosen either."""
    first = uncertain_batch(model, T, np.zeros(60), 1, zeta=0.5)
    assert uncertain_batch(model, T, np.zeros(60), 3, zeta=0.5, pending=T[first])[0] != first[0]


def test_a_batch_goes_on_given_what_is_pending():
    """Max-det given the first point is max-det from the second point on."""
    model = MODELS["plain"]
    whole = uncertain_batch(model, T, np.zeros(60), 4, zeta=0.5)
    np.testing.assert_array_equal(uncertain_batch(model, T, np.zeros(60), 3, zeta=0.5, pending=T[whole[:1]]), whole[1:])


def test_a_constant_in_the_prior_changes_nothing(model):
    a, b = (uncertain_batch(model, T, np.full(60, c), 4, zeta=0.5) for c in (0.0, -30.0))
    np.testing.assert_array_equal(a, b)


def test_points_of_a_batch_tell_different_things():
    """The second point is the most uncertain one given the first, not the next best alone."""
    model = MODELS["plain"]
    chosen = uncertain_batch(model, T, np.zeros(60), 2, zeta=0.5)
    k = dense(uncertainty_gram(model, T, np.exp(model.smooth(T) - model.smooth(T).max())))
    given_first = np.diag(k) - k[:, chosen[0]] ** 2 / k[chosen[0], chosen[0]]
    assert chosen[1] == np.argmax(given_first)
