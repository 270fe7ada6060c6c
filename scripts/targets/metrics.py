"""How far weighted samples lie from exact posterior draws, angles included."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["compare", "gskl", "mmtv", "unrolled"]


def unrolled(x: np.ndarray, reference: np.ndarray, bounds: np.ndarray, periodic: tuple[bool, ...]) -> np.ndarray:
    """Points x with each angle within half a turn of the circular mean of the reference, both with shape (n, d)."""
    out = np.array(x, dtype=float)
    for j in np.flatnonzero(periodic):
        low, turn = bounds[j, 0], bounds[j, 1] - bounds[j, 0]
        phase = np.exp(2j * np.pi * (reference[:, j] - low) / turn).mean()
        seam = low + turn * (np.angle(phase) / (2 * np.pi) - 0.5)
        out[:, j] = seam + np.mod(out[:, j] - seam, turn)
    return out


def _gauss_kl(x: np.ndarray, y: np.ndarray) -> float:
    """Divergence of the normal with the moments of x from that with those of y, in nats."""
    shift, a, b = x.mean(0) - y.mean(0), np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    inverse = np.linalg.inv(b)
    logs = np.linalg.slogdet(b)[1] - np.linalg.slogdet(a)[1]
    return float(0.5 * (np.trace(inverse @ a) - len(shift) + shift @ inverse @ shift + logs))


def gskl(x: np.ndarray, y: np.ndarray) -> float:
    """Symmetrised divergence of the normals with the moments of x and y, draws with shapes (n, d) and (m, d)."""
    return 0.5 * (_gauss_kl(x, y) + _gauss_kl(y, x))


def mmtv(x: np.ndarray, y: np.ndarray, *, bins: int = 60) -> float:
    """Total variation distance of the marginals, from histograms, averaged over the parameters."""
    out = []
    for a, b in zip(x.T, y.T, strict=True):
        low, high = np.quantile(np.concatenate([a, b]), [0.0005, 0.9995])
        edges = np.linspace(low, high, bins + 1)
        p, q = (np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / len(v) for v in (a, b))
        out.append(0.5 * np.abs(p - q).sum())
    return float(np.mean(out))


def compare(
    problem: Any, samples: np.ndarray, weights: np.ndarray | None, logz: float | None, *, n: int = 20_000, seed: int = 0
) -> dict[str, float | None]:
    """Distances of weighted samples from the problem's exact draws, and the error of the log evidence."""
    rng = np.random.default_rng(seed)
    share = None if weights is None else np.asarray(weights, float) / np.sum(weights)
    x = np.asarray(samples, float)[rng.choice(len(samples), n, p=share, replace=share is not None or len(samples) < n)]
    y = problem.reference(n, seed + 1)
    x, y = (unrolled(points, y, problem.bounds, problem.periodic) for points in (x, y))
    error = None if logz is None or problem.logz is None else float(logz - problem.logz)
    return {"gskl": gskl(x, y), "mmtv": mmtv(x, y), "dlogz": error}
