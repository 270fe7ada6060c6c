"""Parts of the noise: what they add up to, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.gp.noise import Common, Given, Nugget, Shaped
from surrogate.gp.process import Data

NOISES = {
    "nugget": Nugget(1e-3),
    "fitted nugget": Nugget(1e-3, fitted=True),
    "given": Given(),
    "common": Common(0.3),
    "shaped": Shaped(0.1),
    "all": Nugget(1e-3, fitted=True) + Shaped(0.1) + Given() + Common(0.3),
}


def data(n=6):
    rng = np.random.default_rng(0)
    depth, noise, unit = (np.abs(rng.standard_normal(n)) for _ in range(3))
    return Data.of(rng.standard_normal((n, 2)), np.zeros(n), depth=depth, noise=noise, unit=unit)


def variances(noise, vector):
    found = noise.forward(vector, data())
    return found.relative + (np.zeros(6) if found.absolute is None else found.absolute.numpy())


@pytest.mark.parametrize("name", NOISES)
def test_slopes_agree_with_central_differences(name):
    noise, vector = NOISES[name], NOISES[name].vector()
    slopes = noise.forward(vector, data()).slopes
    assert len(slopes) == noise.size == len(noise.names) == len(noise.priors)
    for (column, factor), move in zip(slopes, 1e-6 * np.eye(noise.size), strict=True):
        expected = (variances(noise, vector + move) - variances(noise, vector - move)) / 2e-6
        np.testing.assert_allclose(
            factor * (np.ones(6) if column is None else column.numpy()), expected, rtol=1e-5, atol=1e-9
        )


def test_a_sum_adds_variances():
    table = data()
    expected = 1e-3 + (0.1 * table.depth) ** 2 + table.noise**2 + (0.3 * table.unit) ** 2
    np.testing.assert_allclose(variances(NOISES["all"], NOISES["all"].vector()), expected, rtol=1e-12)


@pytest.mark.parametrize("fitted", [False, True])
def test_a_nugget_is_raised_and_nothing_else(fitted):
    noise = Nugget(1e-3, fitted=fitted) + Shaped(0.1)
    raised = noise.raised(100.0)
    np.testing.assert_array_equal(raised.vector(), noise.vector())
    np.testing.assert_allclose(variances(raised, raised.vector()) - variances(noise, noise.vector()), 0.099, rtol=1e-9)
    assert raised.parts[0].ratio == pytest.approx(0.1)
    assert raised.with_vector(raised.vector()).parts[0].ratio == pytest.approx(0.1)


def test_wrong_numbers_are_refused():
    for make in (lambda: Nugget(-1.0), lambda: Nugget(0.0, fitted=True), lambda: Common(-1.0), lambda: Shaped(np.inf)):
        with pytest.raises(ValueError, match="must be positive and finite"):
            make()
