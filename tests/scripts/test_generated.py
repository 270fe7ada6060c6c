"""The generator of random posteriors: its evidence and its draws belong to its log-likelihood."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[2] / "scripts" / "generated" / "problems.py"


@pytest.fixture(scope="module")
def problems():
    spec = importlib.util.spec_from_file_location("generated_problems", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def flat(problems, kind):
    """The first problem of a kind with at most two parameters."""
    return next(p for p in (problems.get(f"{kind}-{i}") for i in range(100)) if p.d <= 2)


def grid(problem, n=600):
    axes = [np.linspace(low, high, 2 * n + 1)[1::2] for low, high in problem.bounds]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, problem.d)


KINDS = ("one", "warped", "cut", "several", "warped-several", "forbidden", "exchangeable")


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ("one", "cut", "several"))) for kind in KINDS]
)
def test_evidence_and_moments_are_those_of_the_density(problems, kind):
    problem = flat(problems, kind)
    x = grid(problem)
    value = problem.loglike(x)
    top = value.max()
    weights = np.exp(value - top)
    assert abs(np.log(weights.mean()) + top - problem.logz) < 0.01
    weights /= weights.sum()
    mean, draws = weights @ x, problem.reference(20_000, 0)
    sd = np.sqrt(weights @ (x - mean) ** 2)
    np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 5.0 * sd / np.sqrt(20_000) + 1e-3 * sd)
    np.testing.assert_allclose(draws.std(0), sd, rtol=0.03)


def test_a_name_is_always_the_same_problem(problems):
    a, b = problems.get("warped-several-5"), problems.get("warped-several-5")
    x = a.reference(10, 3)
    np.testing.assert_array_equal(x, b.reference(10, 3))
    np.testing.assert_array_equal(a.loglike(x), b.loglike(x))
    assert a.loglike(x[0]) == a.loglike(x)[0]


def test_other_names_are_refused(problems):
    with pytest.raises(ValueError, match="name must be a kind"):
        problems.get("round-1")
