"""Walls: a number that stands for "impossible" is learned like -inf, whatever it is and whatever region it marks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

import surrogate

HEIGHTS = (-30.0, -99.0, -1e3, -1e5, -1e10, -1e30, -1e100)


def half_line(z):
    return z[..., 0] > 0.5


def half_space(z):
    return z[..., 0] + z[..., 1] > 0.5


def corner(z):
    return (z[..., 0] > 0.5) & (z[..., 1] > -0.2)


def outside_of_a_ball(z):
    return (z**2).sum(-1) > 2.0 * z.shape[-1]


REGIONS = {
    "half-line": (half_line, 1),
    "half-space": (half_space, 2),
    "corner": (corner, 3),
    "ball": (outside_of_a_ball, 4),
}


def check(height, region, seed):
    """A run on a normal with a wall, against exact draws by rejection."""
    forbidden, d = REGIONS[region]
    sd = np.linspace(0.5, 1.5, d)

    def log_likelihood(x):
        z = x / sd
        return height if forbidden(z) else -0.5 * float(z @ z)

    result = surrogate.infer(log_likelihood, [(-6.0 * s, 6.0 * s) for s in sd], seed=seed, progress=False)
    draws = np.random.default_rng(0).standard_normal((200_000, d))
    kept = draws[~forbidden(draws)]
    evidence = np.log(len(kept) / len(draws)) + d * (0.5 * np.log(2.0 * np.pi) - np.log(12.0))
    assert result.converged, result.status
    assert abs(result.log_evidence - evidence) < max(4.0 * result.log_evidence_error, 0.05)
    shift = np.abs(result.mean / sd - kept.mean(0)) / kept.std(0)
    assert shift.max() < 0.15
    return result


def test_a_wall_of_the_usual_mark():
    assert check(-1e30, "half-line", 1).n_evaluations < 80


@pytest.mark.slow
def test_values_near_the_end_of_all_numbers():
    """A half-line where a program overflows, with a normal density on the rest."""
    result = surrogate.infer(
        lambda x: -1e300 * x[0] if x[0] > 1.0 else -0.5 * (x[0] / 0.5) ** 2, [(-2.0, 2.0)], seed=1, progress=False
    )
    assert result.converged, result.status
    evidence = np.log(0.5 * np.sqrt(2.0 * np.pi) / 4.0 * norm.cdf(2.0))
    assert abs(result.log_evidence - evidence) < max(4.0 * result.log_evidence_error, 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("height", HEIGHTS)
def test_walls_of_any_height(height, region):
    check(height, region, 1)
