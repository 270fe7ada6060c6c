"""The evidence of a run is estimated twice, and a difference is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import surrogate
from surrogate.executors.serial import SerialExecutor
from surrogate.inference import conclusion
from surrogate.inference.reweighting import reweighted
from surrogate.output.record import EvidenceCheck
from surrogate.problem.target import Posterior
from surrogate.samplers.bridge import Bridge
from tests import finished

BOX = [(-8.0, 8.0), (-8.0, 8.0)]


def gaussian(x):
    return float(stats.multivariate_normal([0.5, -1.0], [[1.0, 0.5], [0.5, 0.8]]).logpdf(x))


def skewed(x):
    return float(stats.lognorm(0.5).logpdf(x).sum())


def two_modes(x):
    parts = [stats.multivariate_normal([m, m], 0.5).logpdf(x) for m in (-2.5, 2.5)]
    return float(np.logaddexp(np.log(0.3) + parts[0], np.log(0.7) + parts[1]))


TARGETS = {
    "gaussian": (gaussian, BOX, -2 * np.log(16.0)),
    "lognormal": (skewed, [(0.0, 12.0), (0.0, 12.0)], -2 * np.log(12.0)),
    "two modes": (two_modes, BOX, -2 * np.log(16.0)),
}


@pytest.mark.parametrize(
    "name", ["gaussian", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lognormal", "two modes"))]
)
def test_both_estimates_are_right(name):
    """The mass outside of the boxes is below 1e-6; 5 errors, of sampling and of the surrogate."""
    likelihood, prior, exact = TARGETS[name]
    got = surrogate.infer(likelihood, np.array(prior), seed=1, progress=False, n_samples=4000)
    check = got.evidence.check
    assert check.importance == got.log_evidence
    for value, error in ((check.importance, check.importance_error), (check.bridge, check.bridge_error)):
        assert abs(value - exact) < 5 * np.hypot(error, got.log_evidence_error) + 0.01
        assert error < 0.05
    assert check.agrees
    assert "NOT CONFIRMED" not in got.status
    assert "log evidence confirmed by bridge sampling" in got.summary()


def test_a_difference_is_told_and_becomes_an_error(monkeypatch):
    """As if the importance sample had missed a third of the mass that the chain has seen."""
    original = conclusion.bridge_sample

    def more(*args, **options):
        bridge = original(*args, **options)
        return Bridge(bridge.log_integral + np.log(1.5), bridge.log_integral_error)

    monkeypatch.setattr(conclusion, "bridge_sample", more)
    got = surrogate.infer(gaussian, np.array(BOX), seed=1, progress=False, n_samples=2000)
    assert not got.evidence.check.agrees
    assert got.log_evidence_error > 0.38
    assert "log evidence NOT CONFIRMED by bridge sampling: +0." in got.status


def test_the_difference_is_in_combined_errors():
    check = EvidenceCheck(-3.0, 0.03, -2.9, 0.04)
    assert check.difference == pytest.approx(0.1 / np.sqrt(0.03**2 + 0.04**2 + 0.01**2))
    assert check.agrees
    assert not replace(check, bridge=-2.5).agrees
    assert "NOT CONFIRMED by bridge sampling: -0.500 nats" in str(replace(check, bridge=-3.5))


def test_a_bridge_without_overlap_confirms_nothing():
    check = EvidenceCheck(-3.0, 0.03, np.nan, np.inf)
    assert not check.agrees
    assert "NOT CONFIRMED: no overlap of the final chain" in str(check)


def test_true_evaluations_correct_both():
    run = surrogate.infer(gaussian, np.array(BOX), seed=1, progress=False, n_samples=1000)
    higher = Posterior(lambda x: gaussian(x) + 0.7, np.array(BOX))
    got = reweighted(run, higher, SerialExecutor(), 100, np.random.default_rng(0))
    assert got.evidence.check.importance == pytest.approx(got.log_evidence)
    assert got.evidence.check.bridge - run.evidence.check.bridge == pytest.approx(0.7, abs=0.01)
    assert got.evidence.check.difference == pytest.approx(run.evidence.check.difference)


def test_a_result_without_a_second_estimate_has_no_line_of_it():
    assert "bridge" not in finished.result().summary()
