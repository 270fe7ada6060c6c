"""Simulation-based calibration: the evidence is exact, exact posteriors pass, and too narrow ones do not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[2] / "scripts" / "bench_calibration.py"
GRID = 300


@pytest.fixture(scope="module")
def calibration():
    spec = importlib.util.spec_from_file_location("bench_calibration", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def grid(model):
    """Points with equal prior probability, with shape (n, 2)."""
    u = (np.arange(GRID) + 0.5) / GRID
    axes = [model.prior[name].ppf(u) for name in model.names]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)


@pytest.mark.parametrize("name", ["means", "spread"])
def test_the_evidence_is_the_mean_likelihood_of_the_prior(calibration, name):
    model = calibration.MODELS[name]
    x = grid(model)
    for seed in range(4):
        trial = model.of(seed)
        mean = np.log(np.mean(np.exp(trial.log_likelihood(x))))
        assert abs(trial.log_evidence() - mean) < 0.02


def exact_ranks(calibration, width):
    """Ranks of the mean among exact draws, whose distances from their mean are multiplied by a width, standardised."""
    model, ranks, exact = calibration.MODELS["spread"], [], []
    x = grid(model)
    for seed in range(200):
        trial, rng = model.of(seed), np.random.default_rng(seed)
        value = trial.log_likelihood(x)
        weights = np.exp(value - value.max())
        draws = x[rng.choice(len(x), calibration.RANKED, p=weights / weights.sum()), 0]
        draws = draws.mean() + width * (draws - draws.mean())
        ranks.append((draws < trial.truth[0]).sum())
        exact.append(trial.probabilities()[0])
    return ranks, calibration.standardised(ranks, exact)


@pytest.mark.slow
def test_exact_posteriors_pass_and_narrow_ones_do_not(calibration):
    for width, right in ((1.0, True), (0.7, False)):
        ranks, z = exact_ranks(calibration, width)
        assert (calibration.uniformity(ranks).pvalue > 0.01) == right
        assert (abs(np.mean(z**2) - 1.0) < 5.0 * np.sqrt(2.0 / len(z))) == right


@pytest.mark.slow
def test_runs_are_measured(calibration):
    model = calibration.MODELS["means"]
    rows = [calibration.measured(model, seed) for seed in range(2)]
    assert all(row["converged"] and abs(row["error"]) < 4.0 * row["stated"] for row in rows)
    assert all(0 <= rank <= calibration.RANKED for row in rows for rank in row["ranks"])
    assert "| 2 | 2 |" in calibration.tables(model, rows)
