"""Laws that every classifier of feasibility obeys, over a table of all of them."""

import numpy as np
import pytest

from surrogate.log_density.feasibility.choice import restored
from surrogate.log_density.feasibility.process import fit_process
from surrogate.log_density.feasibility.protocol import Everywhere, Feasibility
from surrogate.log_density.feasibility.svm import fit_machine

U = np.random.default_rng(0).uniform(-2, 2, (60, 2))
X = np.random.default_rng(1).uniform(-3, 3, (25, 2))
FITTED: dict[str, Feasibility] = {
    "everywhere": Everywhere(),
    "process": fit_process(U, U[:, 0] < 0.3),
    "machine": fit_machine(U, U[:, 0] < 0.3),
}


@pytest.fixture(params=FITTED)
def feasibility(request):
    return FITTED[request.param]


def test_only_one_says_that_everything_is_feasible(feasibility):
    assert feasibility.everywhere == isinstance(feasibility, Everywhere)


def test_logs_are_logs_of_probabilities(feasibility):
    p = feasibility.probability(X)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(feasibility.log_probability(X), np.log(p))
    assert ((p >= 0) & (p <= 1)).all()


def test_the_margin_is_positive_where_feasible_is_more_likely(feasibility):
    np.testing.assert_array_equal(feasibility.margin(X) > 0, feasibility.probability(X) > 0.5)


def test_doubt_is_a_variance_of_a_yes_or_no(feasibility):
    doubt = feasibility.doubt(X)
    assert ((doubt >= 0) & (doubt <= 0.25)).all()


def test_paths_are_infeasible_or_raised(feasibility):
    paths = feasibility.deviations(X, 50, np.random.default_rng(2))
    assert paths.shape == (50, len(X))
    assert ((paths == -np.inf) | (paths >= 0)).all()
    excluded = feasibility.margin(X) < -10
    assert (paths[:, excluded] == -np.inf).all()


def test_the_covariance_given_the_data_is_positive_semidefinite(feasibility):
    prior, half = feasibility.correlated(X)
    given = prior - half.T @ half
    assert np.linalg.eigvalsh(given).min() > -1e-6 * prior.diagonal().max()


def test_without_infeasible_points_nothing_is_added_to_a_density():
    everywhere = Everywhere()
    assert not everywhere.deviations(X, 3, np.random.default_rng(0)).any()
    assert not everywhere.doubt(X).any()
    assert len(everywhere.arrays(2).points) == 0


def test_a_classifier_is_its_numbers(feasibility):
    again = restored(feasibility.kind, feasibility.arrays(2))
    np.testing.assert_array_equal(again.margin(X), feasibility.margin(X))
    np.testing.assert_array_equal(again.probability(X), feasibility.probability(X))


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="feasibility must be one of 'process', 'svm', got 'forest'"):
        restored("forest", Everywhere().arrays(2))
