"""Gaussian data: the log-likelihood against the textbook formula, shapes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.problem.gaussian_data import GaussianData
from surrogate.problem.outputs import Layout


def covariance(m: int, seed: int = 0) -> np.ndarray:
    a = np.random.default_rng(seed).standard_normal((m, m))
    return a @ a.T + m * np.eye(m)


def test_log_likelihood_is_minus_half_chi_squared() -> None:
    rng = np.random.default_rng(1)
    y, c, f = rng.standard_normal(6), covariance(6), rng.standard_normal((4, 6))
    expected = [-0.5 * (row - y) @ np.linalg.inv(c) @ (row - y) for row in f]
    data = GaussianData(y, c)
    assert np.allclose(data(f, {}), expected, rtol=1e-12)
    assert data(f[0], {}) == pytest.approx(expected[0], rel=1e-12)
    assert np.allclose(GaussianData(y, np.diag(c))(f, {}), GaussianData(y, np.diag(np.diag(c)))(f, {}), rtol=1e-12)


def test_named_outputs_with_blocks_and_templates() -> None:
    rng = np.random.default_rng(2)
    y = {"a": rng.standard_normal(3), "b": rng.standard_normal((2, 2))}
    blocks = {"a": covariance(3), "b": np.full(4, 2.0)}
    template = {"a": rng.standard_normal(3)}
    data = GaussianData(y, blocks, templates={"n": template})
    f = {"a": rng.standard_normal((5, 3)), "b": rng.standard_normal((5, 2, 2)), "unused": np.zeros((5, 1))}
    n = rng.standard_normal(5)
    r = f["a"] + n[:, None] * template["a"] - y["a"]
    expected = -0.5 * np.einsum("mi,ij,mj->m", r, np.linalg.inv(blocks["a"]), r)
    expected -= 0.25 * ((f["b"] - y["b"]) ** 2).sum((1, 2))
    assert np.allclose(data(f, {"n": n}), expected, rtol=1e-12)
    layout = Layout(("unused", "a", "b"), ((1,), (3,), (2, 2)))
    assert data.columns(layout).tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_whitening_and_its_inverse() -> None:
    rng = np.random.default_rng(3)
    data = GaussianData({"a": np.zeros(3), "b": np.zeros(2)}, {"a": covariance(3), "b": [4.0, 9.0]})
    r = rng.standard_normal((4, 5))
    assert np.allclose(data.correlated(data.whitened(r)), r, rtol=1e-12)


def test_misuse_is_refused() -> None:
    with pytest.raises(ValueError, match="must have shape"):
        GaussianData(np.zeros(3), np.eye(2))
    with pytest.raises(ValueError, match="not positive definite"):
        GaussianData(np.zeros(2), np.ones((2, 2)))
    with pytest.raises(ValueError, match="variances must be positive"):
        GaussianData(np.zeros(2), np.zeros(2))
    with pytest.raises(ValueError, match="must be finite"):
        GaussianData([np.nan], [1.0])
    with pytest.raises(ValueError, match="missing: b"):
        GaussianData({"a": np.zeros(1), "b": np.zeros(1)}, {"a": [1.0]})
    with pytest.raises(ValueError, match="template of 'n'"):
        GaussianData(np.zeros(3), np.ones(3), templates={"n": np.ones(2)})
    with pytest.raises(ValueError, match="no output 'a'"):
        GaussianData({"a": np.zeros(1)}, {"a": [1.0]})({"b": np.zeros(1)}, {})
    with pytest.raises(ValueError, match="must have the shape"):
        GaussianData(np.zeros(3), np.ones(3))(np.zeros((2, 4)), {})
