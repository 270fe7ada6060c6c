"""Whatever a likelihood returns, a run ends with a verdict or a sentence, within its budget."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import surrogate

NO_SURROGATE = r"\d+ finite values in \d+ evaluations, at least \d+ are needed"


def _number(z):
    """A number that is different for each point, and random for all purposes."""
    return int.from_bytes(hashlib.blake2b(z.tobytes(), digest_size=8).digest(), "big")


def constant(z):
    return 0.0


def linear(z):
    return float(z.sum())


def normal(z):
    return -0.5 * float(z @ z)


def steps(z):
    return -float(np.floor(np.abs(z)).sum())


def rounded(z):
    return float(np.round(normal(z), 1))


def spikes(z):
    """A normal, in which one call of seven is a million too low or too high."""
    number = _number(z)
    return normal(z) + (1e6 if number % 14 == 0 else -1e6 if number % 7 == 0 else 0.0)


def rarely_possible(z):
    """A normal at one point of 300, by a hash."""
    return normal(z) if _number(z) % 300 == 0 else -np.inf


def absolute(z):
    return -float(np.abs(z).sum())


def heavy_tails(z):
    return -float(np.log1p(z**2).sum())


def cliff(z):
    return -1e30 if z[0] > 0.5 else normal(z)


SHAPES = (constant, linear, normal, steps, rounded, spikes, rarely_possible, absolute, heavy_tails, cliff)


@dataclass(frozen=True)
class Case:
    """A shape of z = x / unit in the box |z| < width, times a scale, plus an offset."""

    shape: Callable[[np.ndarray], float]
    d: int
    scale: float
    offset: float
    unit: float
    width: float
    budget: int
    seed: int

    def log_likelihood(self, x):
        return self.scale * self.shape(np.asarray(x) / self.unit) + self.offset

    def run(self):
        side = self.unit * self.width
        box = [(-side, side)] * self.d
        return surrogate.infer(
            self.log_likelihood, box, seed=self.seed, max_evaluations=self.budget, n_samples=50, progress=False
        )


def cases(dimensions, budgets):
    """Cases of any shape; scales and units are powers of ten from 1e-12 to 1e12."""
    power = st.integers(-12, 12).map(lambda n: 10.0**n)
    offset = st.sampled_from([0.0, 1.0, -1e3, 1e6, -1e12, 1e15])
    width = st.sampled_from([0.3, 3.0, 30.0])
    seed = st.integers(0, 5)
    return st.builds(Case, st.sampled_from(SHAPES), dimensions, power, offset, power, width, budgets, seed)


def check(case):
    """A verdict with draws inside of the prior, or a sentence that says why there is no surrogate."""
    try:
        result = case.run()
    except ValueError as error:
        assert re.search(NO_SURROGATE, str(error)), case  # noqa: PT017
        return
    assert result.n_evaluations <= case.budget
    assert len(result.data) == result.n_evaluations
    assert result.status
    assert len(result.samples) > 0
    assert (np.abs(result.samples) <= case.unit * case.width).all()
    assert np.isfinite(result.log_posterior).all()
    assert not result.converged or np.isfinite([result.log_evidence, result.log_evidence_error]).all()


RULES = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=3, **RULES)
@given(cases(st.integers(1, 2), st.integers(2, 14)))
def test_a_short_run_ends_with_a_verdict(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=150, **RULES)
@given(cases(st.integers(1, 4), st.integers(2, 60)))
def test_a_run_ends_with_a_verdict(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=5, **RULES)
@given(cases(st.just(40), st.integers(40, 120)))
def test_a_run_with_many_parameters_ends_with_a_verdict(case):
    check(case)
