"""Comparisons as quadratics: exact where they are, refused where they are far from it; no call is repeated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from surrogate.log_density.composite import quadratic
from surrogate.log_density.composite.comparison import CAUTION, GeneralComparison
from surrogate.log_density.composite.correction import corrected
from surrogate.log_density.composite.quadratic import QuadraticComparison, quadratic_of
from surrogate.log_density.composite.reduction import Rows
from surrogate.problem.observables import Observables
from surrogate.problem.outputs import Layout

M, N = 9, 12
DATA = 3.0 + np.sin(np.arange(M))
LAYOUT = Layout(("",), ((M,),))


def calibrated(outputs, parameters):
    """A chi-squared with a calibration."""
    residual = (outputs / parameters["cal"] ** 2 - DATA) / 0.02
    return -0.5 * float(residual @ residual)


def with_templates(outputs, parameters):
    """A chi-squared with two templates."""
    change = parameters["cal"] - 1.0 + parameters["offset"] * np.arange(M)
    residual = (outputs - DATA + change) / 0.02
    return -0.5 * float(residual @ residual)


def cosines(outputs, parameters):  # noqa: ARG001
    return 0.5 * float(np.cos(100.0 * outputs).sum())


class Case:
    """Evaluations of a comparison whose outputs span three directions, and the quadratic of the first n of them."""

    def __init__(self, compare, seed=1):
        rng = np.random.default_rng(seed)
        self.calls = 0
        self.target = Observables(lambda a: a, self.counted(compare), ["a"]).bound(("a", "cal", "offset"))
        self.x = np.column_stack([rng.normal(size=N), rng.normal(1.0, 0.01, N), rng.normal(0.0, 0.01, N)])
        self.outputs = DATA + 0.02 * rng.normal(size=(N, 3)) @ rng.normal(size=(3, M))
        pairs = zip(self.outputs, self.x, strict=True)
        self.y = np.array([self.target.compare(LAYOUT, o[None], p[None])[0] for o, p in pairs])
        self.source = Rows(self.target)
        self.calls = 0

    def set(self, outputs):
        """Replaces the outputs of the evaluations."""
        pairs = zip(outputs, self.x, strict=True)
        self.outputs, self.y = outputs, np.array([self.target.compare(LAYOUT, o[None], p[None])[0] for o, p in pairs])

    def counted(self, compare):
        def counting(outputs, parameters):
            self.calls += 1
            return compare(outputs, parameters)

        return counting

    def quadratic(self, n=N):
        return quadratic_of(
            self.source, self.x[:n], self.outputs[:n], LAYOUT, self.y[:n], allowed=np.full(n, 0.001), size=None
        )


@pytest.mark.parametrize("compare", [calibrated, with_templates])
def test_a_chi_squared_is_exact(compare):
    case = Case(compare)
    reduction, found = case.quadratic()
    assert isinstance(found, QuadraticComparison)
    assert reduction.scores.shape == (N, 3)
    np.testing.assert_allclose(reduction.outputs(reduction.scores), case.outputs, atol=1e-6)
    np.testing.assert_allclose(found.hessian[0], -np.eye(3), atol=1e-6)
    rng = np.random.default_rng(2)
    points = np.column_stack([np.zeros(50), rng.uniform(found.low, found.high, (50, 2))])
    z = rng.normal(size=(50, 3)) * np.abs(reduction.scores).max(0)
    best = case.x[int(np.argmax(case.y))]
    general = GeneralComparison(case.target, reduction, np.ones(3), best)
    np.testing.assert_allclose(found.value(z, points), general.value(z, points), atol=2e-3, rtol=1e-6)


def test_slopes_and_expectations_are_those_of_the_quadratic():
    """The expectation against an average over 200,000 errors, within 5 standard errors."""
    case = Case(calibrated)
    reduction, found = case.quadratic()
    rng, at, here = np.random.default_rng(3), found.anchor, 0.3 * reduction.scores[[0]]
    point = np.array([[0.0, *at]])
    variance = np.full((1, 3), 0.3)
    expansion = found.expansion(here, variance, point)
    step = 1e-4 * np.eye(3)
    for k in range(3):
        ends = found.value(np.concatenate([here + step[k], here - step[k]]), np.repeat(point, 2, 0))
        assert expansion.slope[0, k] == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(expansion.curvature, -1.0, rtol=1e-6)
    errors = np.sqrt(variance) * rng.standard_normal((200_000, 3))
    values = found.value(here + errors, np.repeat(point, len(errors), 0)) / CAUTION
    shares = np.exp(values - values.max())
    expected = CAUTION * (values.max() + np.log(shares.mean()))
    error = CAUTION * shares.std() / shares.mean() / np.sqrt(len(errors))
    assert found.expected(here, variance, point)[0] == pytest.approx(expected, abs=5.0 * error)


def test_components_are_limited_to_what_changes_the_log_likelihood():
    case = Case(calibrated)
    case.outputs[:, -1] += 1e-7 * np.arange(N)  # less than a thousandth of an sd
    assert case.quadratic()[0].scores.shape == (N, 3)


def test_no_call_is_repeated_and_later_evaluations_change_no_number():
    case, once = Case(calibrated), Case(calibrated)
    for n in range(5, N + 1):
        case.quadratic(n)
    calls = case.calls
    again = case.quadratic()
    assert case.calls == calls
    reduction, found = once.quadratic()
    assert np.array_equal(reduction.scores, again[0].scores)
    assert np.array_equal(found.hessian, again[1].hessian)
    assert np.array_equal(found.constant, again[1].constant)


def test_what_is_no_quadratic_is_refused():
    assert Case(cosines).quadratic() is None


def log_normal(outputs, parameters):
    """A chi-squared with a log-normal density of a mean, which is zero not far below the data."""
    mean = float(outputs[:4].mean()) - 3.41
    if mean <= 0.0:
        return -np.inf
    return calibrated(outputs, parameters) / 16.0 - 0.5 * (np.log(mean / 0.06) / 0.2) ** 2


def test_a_log_normal_part_is_corrected():
    """Without the correction some evaluations are missed by more than allowed."""
    case = Case(log_normal)
    reduction, found = case.quadratic()
    assert found.correction is not None
    near = case.y.max() - case.y < 8.0
    error = found.value(reduction.scores, case.x)[near] - case.y[near]
    plain = replace(found, correction=None).value(reduction.scores, case.x)[near] - case.y[near]
    assert np.abs(plain).max() > 0.3
    assert np.abs(error).max() < 0.1


OBLIQUE = np.array([[1.0, 0.6], [0.0, 0.8]])


def two_log_normals(z):
    """A sum of functions of two combinations of three coordinates, with no slope and curvature at zero."""
    t = 1.0 + 0.3 * z[:2] @ OBLIQUE
    if (t <= 0.0).any():
        return -np.inf
    u = np.log(t)
    return float((-8.0 * u**2 + 8.0 * (t - 1.0) ** 2).sum())


def test_a_sum_of_functions_along_oblique_axes_is_found():
    """All evaluations but the worst are near zero, where two axes differ little."""
    near = np.random.default_rng(3).normal(size=(20, 3))
    left = np.array([two_log_normals(z) for z in near])
    known = left > -20.0
    near, left = near[known], left[known]
    depth = 0.5 * (near**2).sum(1)
    found = corrected(two_log_normals, near, depth, left, np.full(len(near), 0.01))
    axes = found.axes * np.sign(found.axes[0])
    np.testing.assert_allclose(axes[:, np.argsort(axes[1])], [[1.0, 0.6], [0.0, 0.8], [0.0, 0.0]], atol=0.01)
    np.testing.assert_allclose(found(near), left, atol=0.01)


def test_large_errors_of_components_are_expected_to_lower_the_likelihood_where_it_is_corrected():
    """At most by what the correction adds at its highest: far away slope and curvature of a sum do not fit together."""
    case = Case(log_normal)
    reduction, found = case.quadratic()
    assert found.correction is not None
    z = 30.0 * np.random.default_rng(6).normal(size=(50, reduction.scores.shape[1]))
    x = np.repeat(case.x[:1], len(z), 0)
    top = case.y.max() + sum(ridge.values.max() for ridge in found.correction.ridges) + found.correction.limits[1]
    assert (found.expected(z, np.full_like(z, 1e4), x) < top).all()
    np.testing.assert_allclose(found.expected(z, np.full_like(z, 1e-12), x), found.value(z, x), rtol=1e-9)


def test_derivatives_of_a_correction():
    case = Case(log_normal)
    reduction, found = case.quadratic()
    z, size = 0.2 * reduction.scores[:4], reduction.scores.shape[1]
    value, slope, curvature = found.correction.derivatives(z)
    np.testing.assert_allclose(value, found.correction(z), atol=1e-6)
    h = 1e-3
    for j in range(slope.shape[1]):
        step = h * np.eye(size)[j]
        above, below = found.correction(z + step), found.correction(z - step)
        np.testing.assert_allclose(slope[:, j], (above - below) / (2 * h), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(curvature[:, j], (above - 2 * value + below) / h**2, rtol=1e-2, atol=1e-2)


def of_ratios(outputs, parameters):
    """A chi-squared of logarithms of ratios."""
    residual = (np.log(outputs[1:] / outputs[0]) - np.log(DATA[1:] / DATA[0]) + parameters["cal"] - 1.0) / 0.002
    return -0.5 * float(residual @ residual)


def test_logarithms_are_used_where_they_make_a_quadratic():
    case = Case(of_ratios)
    case.set(np.exp(np.log(DATA) + 0.4 * (case.outputs / DATA - 1.0)))
    reduction, found = case.quadratic()
    assert reduction.logs.all()
    assert found.correction is None
    np.testing.assert_allclose(reduction.outputs(reduction.scores), case.outputs, rtol=1e-3)
    np.testing.assert_allclose(found.value(reduction.scores, case.x), case.y, atol=1e-2)


def test_logarithms_are_tried_where_a_quadratic_of_outputs_misses(monkeypatch):
    """The first choice is judged by five evaluations, and may be wrong."""
    monkeypatch.setattr(quadratic, "_logs_help", lambda *_: False)
    monkeypatch.setattr(quadratic, "corrected", lambda *_: None)
    case = Case(of_ratios)
    case.set(np.exp(np.log(DATA) + 0.4 * (case.outputs / DATA - 1.0)))
    reduction, found = case.quadratic()
    assert reduction.logs.all()
    np.testing.assert_allclose(found.value(reduction.scores, case.x), case.y, atol=1e-2)


def of_wide_ratios(outputs, parameters):
    """The same with errors of 0.06."""
    return 1e-3 * of_ratios(outputs, parameters)


def test_logarithms_are_used_from_the_start():
    """No evaluation but the centre is within 20 nats of the best."""
    case = Case(of_wide_ratios)
    case.set(np.exp(np.log(DATA) + 40.0 * (case.outputs / DATA - 1.0)))
    case.set(np.concatenate([DATA[None], case.outputs[1:]]))
    assert np.sort(case.y)[-2] < case.y[0] - 20.0
    assert case.quadratic(5)[0].logs.all()


MIXED = np.random.default_rng(5).normal(size=(M, M))


def correlated(outputs, parameters):  # noqa: ARG001
    """A chi-squared of correlated data."""
    residual = MIXED @ (outputs - DATA) / 0.02
    return -0.5 * float(residual @ residual)


def test_rounding_errors_along_directions_of_no_length_hide_no_component():
    """Second differences over steps of 1e-10 are rounding errors, far larger than curvatures along other directions."""
    case = Case(correlated)
    case.set(case.outputs + 1e-10 * np.random.default_rng(4).normal(size=case.outputs.shape))
    reduction, found = case.quadratic()
    assert reduction.scores.shape == (N, 3)
    np.testing.assert_allclose(found.value(reduction.scores, case.x), case.y, atol=1e-3)


def test_arrays_that_the_comparison_does_not_use_are_left_out():
    """They vary by more than all that matters, and would otherwise hide it."""
    rng = np.random.default_rng(1)

    def compare(outputs, parameters):  # noqa: ARG001
        residual = outputs["used"] - outputs["used"].mean() - np.linspace(-1.0, 1.0, 5)  # blind to a common factor
        return -0.5 * float(residual @ residual) / 0.1**2

    target = Observables(lambda a: a, compare, ["a"]).bound(("a",))
    layout = Layout(("other", "used"), ((40,), (5,)))
    x = rng.normal(size=(8, 1))
    used = np.linspace(2.0, 4.0, 5) + 0.05 * x * np.arange(5) + 0.02 * x**2
    outputs = np.column_stack([np.exp(3.0 * rng.normal(size=(8, 40))), used])
    y = np.array([target.compare(layout, row[None], p[None])[0] for row, p in zip(outputs, x, strict=True)])
    reduction, found = quadratic_of(Rows(target), x, outputs, layout, y, allowed=np.full(8, 0.001), size=None)
    np.testing.assert_allclose(found.value(reduction.scores, x), y, atol=1e-6)
    assert not reduction.basis[:40].any()
    assert reduction.basis[40:].any()
    assert reduction.scores.shape[1] <= 2
