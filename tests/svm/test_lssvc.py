"""Least-squares support vector machines against the dense system, SVC and scikit-learn's rules for estimators."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from surrogate.svm.lssvc import LSSVC


def possible(n, seed, d=8):
    """Points in d dimensions, about 30 % of them inside a bent ellipsoid."""
    x = np.random.default_rng(seed).standard_normal((n, d))
    bent = x.copy()
    bent[:, 0] += 0.3 * (x[:, 1] ** 2 - 1)
    return x, (bent**2 * np.linspace(0.5, 1.5, d)).sum(1) < 6.0


@parametrize_with_checks([LSSVC()])
def test_scikit_learn_estimator(estimator, check):
    if check.func.__name__ == "check_array_api_input":
        pytest.skip("the array API of scipy is off")
    check(estimator)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("labels", [2, 4])
def test_solution_of_the_dense_system(kernel, labels):
    rng = np.random.default_rng(0)
    x, y, weights = rng.standard_normal((30, 3)), rng.permutation(np.arange(30) % labels), rng.uniform(0.5, 2, 30)
    machine = LSSVC(3.0, kernel=kernel, gamma=0.4).fit(x, y, sample_weight=weights)
    k = np.exp(-0.4 * ((x[:, None] - x) ** 2).sum(-1)) if kernel == "rbf" else x @ x.T
    system = np.block([[np.zeros((1, 1)), np.ones((1, 30))], [np.ones((30, 1)), k + np.diag(1 / (3.0 * weights))]])
    columns = [1] if labels == 2 else range(labels)
    for row, label in enumerate(columns):
        b, *a = np.linalg.solve(system, np.concatenate([[0.0], np.where(y == label, 1.0, -1.0)]))
        np.testing.assert_allclose(machine.dual_coef_[row], a, atol=1e-9)
        assert machine.intercept_[row] == pytest.approx(b, abs=1e-9)
    expected = k @ machine.dual_coef_.T + machine.intercept_
    np.testing.assert_allclose(machine.decision_function(x).reshape(30, -1), expected, atol=1e-10)


@pytest.mark.parametrize(
    ("cost", "rank"), [(1.0, 0), *(pytest.param(100.0, rank, marks=pytest.mark.slow) for rank in (None, 0))]
)
def test_labels_of_conjugate_gradients_are_those_of_the_direct_solve(cost, rank):
    (x, y), (new, _) = possible(1500, 0), possible(1500, 1)
    direct = LSSVC(cost, solver="cholesky").fit(x, y)
    iterative = LSSVC(cost, solver="cg", rank=rank).fit(x, y)
    assert iterative.residual_ < 1.1e-5
    assert (direct.predict(new) == iterative.predict(new)).all()


@pytest.mark.slow
def test_the_preconditioner_saves_iterations():
    x, y = possible(800, 0)
    plain, helped = (LSSVC(100.0, solver="cg", rank=rank).fit(x, y) for rank in (0, 200))
    assert helped.n_iter_ < plain.n_iter_ / 3


@pytest.mark.slow
def test_accuracy_is_within_a_hundredth_of_that_of_svc_at_unit_cost():
    """1,500 points to learn from, 0.953 and 0.959 on average."""
    gaps = []
    for seed in range(4):
        (x, y), (new, truth) = possible(1500, 2 * seed), possible(6000, 2 * seed + 1)
        assert 0.2 < y.mean() < 0.4
        ours, theirs = ((m.fit(x, y).predict(new) == truth).mean() for m in (LSSVC(1.0), SVC(C=1.0)))
        gaps.append(ours - theirs)
    assert abs(np.mean(gaps)) < 0.01


def test_weights_are_repetitions_and_zero_leaves_out():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 2)), np.arange(20) % 2
    counts = rng.integers(0, 3, 20)
    weighted = LSSVC(5.0).fit(x, y, sample_weight=counts.astype(float))
    repeated = LSSVC(5.0).fit(np.repeat(x, counts, 0), np.repeat(y, counts))
    np.testing.assert_allclose(weighted.decision_function(x), repeated.decision_function(x), atol=1e-9)


def test_class_weight_moves_the_border():
    x, y = possible(300, 0)
    plain, heavy = (LSSVC(1.0, class_weight=w).fit(x, y).predict(x).sum() for w in (None, {True: 10.0, False: 1.0}))
    assert heavy > plain


def test_says_when_it_has_not_converged():
    x, y = possible(300, 0)
    with pytest.warns(ConvergenceWarning, match="larger rank or max_iter"):
        LSSVC(1e6, solver="cg", rank=0, max_iter=5).fit(x, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": "poly"}, "kernel must be one of"),
        ({"solver": "lu"}, "solver must be one of"),
        ({"C": 0.0}, "C must be positive"),
        ({"gamma": "wide"}, "gamma must be 'scale', 'auto' or positive"),
        ({"gamma": -1.0}, "gamma must be 'scale', 'auto' or positive"),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LSSVC(**settings).fit(*possible(20, 0))
