"""Distances of samples from exact draws, with angles."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "scripts" / "targets"


@pytest.fixture
def folder(monkeypatch):
    """The two modules of the folder, under names of their own."""
    monkeypatch.syspath_prepend(str(FOLDER.parent / "peers"))
    from common import load_module

    modules = load_module(FOLDER / "problems.py"), load_module(FOLDER / "metrics.py")
    yield modules
    for name in ("problems", "metrics"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["angle3", "torus3"])
def test_turning_the_seam_changes_no_distance(folder, name):
    """Samples and draws moved by whole turns are the same points."""
    problems, metrics = folder
    problem = problems.get(name)
    x, y = problem.reference(4000, 1), problem.reference(4000, 2)
    turned = x + 2 * np.pi * np.random.default_rng(3).integers(-2, 3, x.shape) * np.array(problem.periodic)
    flat = [metrics.unrolled(points, y, problem.bounds, problem.periodic) for points in (x, turned)]
    np.testing.assert_allclose(flat[1], flat[0], atol=1e-12)
    assert metrics.gskl(flat[0], metrics.unrolled(y, y, problem.bounds, problem.periodic)) < 0.01


def test_exact_draws_are_solved_and_shifted_ones_are_not(folder):
    """Between two sets of n draws gskl is about p / n for p = d + d (d + 1) / 2 moments; ten times that is allowed."""
    problems, metrics = folder
    problem = problems.get("student4")
    exact = metrics.compare(problem, problem.reference(20_000, 7), None, problem.logz)
    assert exact["gskl"] < 10 * 14 / 20_000
    assert exact["dlogz"] == 0.0
    moved = metrics.compare(problem, problem.reference(20_000, 7) + 1.0, None, None)
    assert moved["gskl"] > 0.1
    assert moved["dlogz"] is None


def test_noise_is_said_only_where_it_is_declared(folder):
    problems, _ = folder
    assert problems.get("noisy_gaussian4").noise == 1.0
    assert problems.get("silent_gaussian4").noise is None
    assert problems.get("gaussian4").noise is None
    with pytest.raises(ValueError, match="got 'nothing'"):
        problems.get("nothing")
