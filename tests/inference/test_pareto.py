"""The Pareto shape by which a run judges its own draws."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.inference.reliability import path_shape
from surrogate.samplers.psis import RELIABLE


def view_of(scale):
    """A view whose paths deviate from the mean by a multiple of the squared radius."""
    model = SimpleNamespace(
        deviations=lambda x, count, rng, inflate: np.outer(scale * np.abs(rng.standard_normal(count)), (x**2).sum(1))
    )
    return SimpleNamespace(model=model, inflation=1.0)


@pytest.mark.parametrize(("scale", "reliable"), [(1e-6, True), (0.02, True), (0.6, False)])
def test_shape(scale, reliable):
    """Normal draws for a path that is wider: exp(c r^2) has the shape 2 c of a Pareto tail."""
    rng = np.random.default_rng(0)
    sample = SimpleNamespace(x=rng.standard_normal((4000, 2)), weights=np.full(4000, 1.0 / 4000))
    shape = path_shape(view_of(scale), sample, rng)
    assert (shape < RELIABLE) is reliable
    assert scale > 1e-3 or shape <= 0.0
