"""Comparisons as quadratics: exact where they are, refused where they are far from it."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.log_density.composite.comparison import CAUTION, GeneralComparison
from surrogate.log_density.composite.quadratic import QuadraticComparison, quadratics_of
from surrogate.log_density.composite.reduction import Rows, reduce
from surrogate.problem.observables import Observables
from surrogate.problem.outputs import Layout

M, N = 9, 7
DATA = np.sin(np.arange(M))
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


def case(compare, seed=1):
    """A comparison, with parameters, components and values of some evaluations; three slow directions."""
    rng = np.random.default_rng(seed)
    target = Observables(lambda a: a, compare, ["a"]).bound(("a", "cal", "offset"))
    x = np.column_stack([rng.normal(size=N), rng.normal(1.0, 0.01, N), rng.normal(0.0, 0.01, N)])
    outputs = DATA + 0.02 * rng.normal(size=(N, 3)) @ rng.normal(size=(3, M))
    y = np.array([target.compare(LAYOUT, o[None], p[None])[0] for o, p in zip(outputs, x, strict=True)])
    found = reduce(Rows(target), x, outputs, LAYOUT, best=int(np.argmax(y)), size=3)
    general = GeneralComparison(target, found, np.sqrt((found.scores**2).mean(0)), x[int(np.argmax(y))])
    return general, x, found.scores, y


@pytest.mark.parametrize("compare", [calibrated, with_templates])
def test_a_chi_squared_is_exact(compare):
    general, x, z, y = case(compare)
    quadratics = quadratics_of(general, x, z, y)
    assert isinstance(quadratics, QuadraticComparison)
    rng = np.random.default_rng(2)
    fast = rng.uniform(quadratics.low, quadratics.high, (50, 2))
    points = np.column_stack([np.zeros(50), fast])
    far = 3.0 * general.spread * rng.normal(size=(50, 3))
    np.testing.assert_allclose(quadratics.value(far, points), general.value(far, points), atol=1e-3, rtol=1e-6)


def test_slopes_and_expectations_are_those_of_the_quadratic():
    """The expectation against an average over 200,000 errors, within 5 standard errors."""
    general, x, z, y = case(calibrated)
    quadratics = quadratics_of(general, x, z, y)
    best, rng = int(np.argmax(y)), np.random.default_rng(3)
    at, here = x[[best]], 0.3 * z[[0]]
    variance = (0.1 * general.spread[None]) ** 2
    expansion = quadratics.expansion(here, variance, at)
    reference = general.expansion(here, variance, at)
    np.testing.assert_allclose(expansion.slope, reference.slope, rtol=1e-4, atol=1e-4 * np.abs(reference.slope).max())
    np.testing.assert_allclose(expansion.curvature, reference.curvature, rtol=1e-3)
    errors = np.sqrt(variance) * rng.standard_normal((200_000, 3))
    values = quadratics.value(here + errors, np.repeat(at, len(errors), 0)) / CAUTION
    shares = np.exp(values - values.max())
    expected = CAUTION * (values.max() + np.log(shares.mean()))
    error = CAUTION * shares.std() / shares.mean() / np.sqrt(len(errors))
    assert quadratics.expected(here, variance, at)[0] == pytest.approx(expected, abs=5.0 * error)


def test_what_is_no_quadratic_is_called_itself():
    general, x, z, y = case(cosines)
    assert quadratics_of(general, x, z, y) is general
