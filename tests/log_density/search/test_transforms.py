"""Bent, scaled and skewed sums of Gaussians are explained exactly, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.skews import Skew
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.learner import ScalarLearner
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure, SurrogateParameters, trend_size
from surrogate.log_density.search.peaks import with_peaks_of
from surrogate.log_density.search.transforms import choose_transform
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.samplers.mixture import Mixture


def coupling(kind, coefficient, d):
    """From coordinate 0 to coordinate 1, about the middle."""
    couplings = Couplings.none(np.full(d, 0.5), np.eye(d)).only([(kind, 0, 1)])
    return couplings.at(np.full(len(couplings.vector), coefficient))


MAPS = {
    "bend": lambda d: coupling("bend", 3.0, d),
    "lower end": lambda d: Skew(0, 0.5, 0.5, (0.0, 1.0), 0.9),
    "upper end": lambda d: Skew(d - 1, 0.5, 0.5, (0.0, 1.0), -0.9),
}
CASES = [("bend", 2, 1), ("bend", 2, 2), ("bend", 3, 2), ("lower end", 1, 1), ("lower end", 2, 2), ("upper end", 3, 1)]


def gaussians(number, transform, d):
    """In transformed coordinates, a corner of the cube apart."""
    means = transform.forward(np.stack([np.full(d, 0.65), np.linspace(0.2, 0.35, d)]))[:number]
    weights = np.arange(1.0, number + 1.0)
    return Mixture(weights / weights.sum(), means, np.stack([0.1 * np.eye(d)] * number))


def log_density(t, transform, mixture):
    return mixture.log_density(transform.forward(t))


def problem_of(name, d, number, *, noise=0.0, transform=None):
    """Evaluations near the Gaussians and elsewhere; draws of the posterior by weighting."""
    rng, transform = np.random.default_rng(1), transform or MAPS[name](d)
    mixture, everywhere = gaussians(number, transform, d), rng.random((40_000, d))
    weights = np.exp(log_density(everywhere, transform, mixture))
    draws = everywhere[rng.choice(len(everywhere), 600, p=weights / weights.sum())]
    t = np.concatenate([draws[: (number * trend_size(d) * 3) // 2 + 8], rng.random((6, d))])
    evaluations = [Evaluation(value, "ok", noise=noise) for value in log_density(t, transform, mixture)]
    return FitProblem(Dataset.empty(d).append(t, evaluations, 0), t, draws), transform, mixture


def plain_fit(problem):
    return fit_structure(problem, Structure.plain(np.zeros(problem.d), np.ones(problem.d)))


@pytest.mark.parametrize(("name", "d", "number"), CASES)
def test_it_is_found_and_exact(name, d, number):
    problem, transform, mixture = problem_of(name, d, number)
    found = choose_transform(problem, plain_fit(problem))
    assert found.exact
    assert (1 if found.structure.peaks is None else len(found.structure.peaks)) == number
    assert found.structure.warp.n_shifted == (name != "bend")
    t = problem.draws[-100:]
    mean, _ = build(problem.data, problem.t, found).predict(t)
    np.testing.assert_allclose(mean, log_density(t, transform, mixture), atol=0.02)


@pytest.mark.parametrize(("name", "d", "number"), [("bend", 2, 2), ("lower end", 2, 2)])
def test_saved_parameters_and_predictors_give_the_same_surrogate(name, d, number):
    problem, *_ = problem_of(name, d, number)
    found = choose_transform(problem, plain_fit(problem))
    model = build(problem.data, problem.t, found)
    again = build(problem.data, problem.t, SurrogateParameters.from_arrays(found.to_arrays()))
    predictor = model.predictor(("a", "b"), np.array([[0.0, 1.0]] * 2), np.zeros(2), np.ones(2))
    t = problem.draws[:50]
    np.testing.assert_array_equal(again.mean(t), model.mean(t))
    np.testing.assert_allclose([predictor(point) for point in t], model.mean(t), atol=1e-8)


@pytest.mark.parametrize("change", [lambda a: a[:1], lambda a: a[::-1], lambda a: np.full_like(a, np.nan)])
def test_damaged_ends_are_refused(change):
    plain = SurrogateParameters.from_arrays(plain_fit(problem_of("bend", 2, 1)[0]).to_arrays())
    warp = plain.structure.warp.with_end(0, -0.5)
    arrays = replace(plain, structure=replace(plain.structure, warp=warp)).to_arrays()
    assert SurrogateParameters.from_arrays(arrays).structure.warp.same(warp)
    with pytest.raises(ValueError, match="warp/shifted must be lower and upper ends with shape"):
        SurrogateParameters.from_arrays(arrays | {"warp/shifted": change(arrays["warp/shifted"])})


def test_coefficients_of_couplings_follow_the_peaks():
    """Moved by a tenth, they return when peaks are fitted to the data."""
    problem, *_ = problem_of("bend", 3, 2)
    found = choose_transform(problem, plain_fit(problem)).structure
    couplings = found.warp.couplings
    moved = replace(found, warp=found.warp.with_couplings(couplings.at(1.1 * couplings.vector)))
    fitted = with_peaks_of(problem, moved)
    np.testing.assert_allclose(fitted.warp.couplings.vector, couplings.vector, rtol=1e-6)


def test_a_search_for_structures_includes_it():
    problem, *_ = problem_of("lower end", 2, 2)
    learner = ScalarLearner(Structure.plain(np.zeros(2), np.ones(2)))
    fitted = learner.fit(problem, None, cold_start=False, search=True, noise=False)
    assert fitted.structure.warp.n_shifted == 1


class Quartic:
    """No Gaussian in any of the coordinates that are tried."""

    def forward(self, t):
        return 0.1 + np.sign(t - 0.5) * np.abs(t - 0.5) ** 1.5


def test_what_no_gaussians_explain_stays_as_it_is():
    problem, *_ = problem_of("", 2, 1, transform=Quartic())
    before = plain_fit(problem)
    assert choose_transform(problem, before) is before


def test_noisy_values_are_not_searched():
    problem, *_ = problem_of("bend", 2, 1, noise=0.1)
    before = plain_fit(problem)
    assert choose_transform(problem, before) is before


@pytest.mark.parametrize("number", [1, 2])
def test_gaussians_that_need_no_map_get_none(number):
    """A map whose coefficient is zero would be exact, too."""
    problem, *_ = problem_of("", 3, number, transform=coupling("bend", 0.0, 3))
    before = plain_fit(problem)
    assert choose_transform(problem, before) is before


def test_peaks_that_a_fit_could_not_make_concave_are_not_taken():
    """Five values of a mode that is hardly known are explained by a saddle, and a bend of zero with it."""
    two = Mixture(np.array([0.35, 0.65]), np.array([[0.1] * 4, [0.7] * 4]), np.stack([0.1 * np.eye(4)] * 2))
    rng = np.random.default_rng(0)
    draws = 0.7 + 0.1 * rng.standard_normal((600, 4))
    for far in range(3, 12):
        t = np.concatenate([draws[:36], 0.1 + 0.35 * rng.random((far, 4))])
        evaluations = [Evaluation(value, "ok") for value in two.log_density(t)]
        problem = FitProblem(Dataset.empty(4).append(t, evaluations, 0), t, draws)
        before = plain_fit(problem)
        assert choose_transform(problem, before) is before
