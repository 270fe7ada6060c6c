"""The end of a run: the final chain starts, whatever the last evaluations showed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.inference.conclusion import _chain

D = 2
BOX = np.array([[0.0, 1.0]] * D)


def log_posterior(t):
    """A Gaussian, of which the evaluations have shown one half to be infeasible."""
    return np.where(t[:, 0] < 0.5, -0.5 * (((t - 0.5) / 0.1) ** 2).sum(1), -np.inf)


def view_of(draws):
    return SimpleNamespace(
        d=D,
        conditionals=None,
        draws=SimpleNamespace(posterior=draws),
        log_posterior=log_posterior,
        window=SimpleNamespace(unrolled=lambda t: t, window=lambda bounds: bounds),
        setup=SimpleNamespace(prior=SimpleNamespace(bounds=BOX), switches=SimpleNamespace(jumps=True)),
        rng=lambda *_: np.random.default_rng(0),
    )


@pytest.mark.parametrize("possible", [400, 100, 3, 0])
def test_a_chain_starts_although_draws_have_turned_out_to_be_infeasible(possible):
    rng = np.random.default_rng(1)
    draws = np.clip(0.5 + 0.1 * rng.standard_normal((400, D)), 0.01, 0.99)
    draws[:, 0] = np.where(np.arange(400) < possible, np.minimum(draws[:, 0], 0.499), np.maximum(draws[:, 0], 0.501))
    weighted = draws.copy()
    weighted[:, 0] = 0.5 - np.abs(draws[:, 0] - 0.5)
    sample = SimpleNamespace(x=weighted, weights=np.full(400, 1.0 / 400), ess=30.0)
    chain = _chain(view_of(draws), sample, 300, None)
    assert np.isfinite(log_posterior(chain.samples)).all()
    assert chain.samples[:, 1].mean() == pytest.approx(0.5, abs=5 * 0.1 / np.sqrt(chain.ess))
