"""Covariances with derivatives against automatic differentiation of the kernel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from surrogate.gp.derivative import SMOOTH_KERNELS, JointCovariance, log_lengthscale_slopes
from surrogate.gp.means import TREND_DEGREES, Polynomial
from surrogate.linalg.stationary import CORRELATIONS

N, D = 6, 3


def points(n=N, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((n, D)))


def joint_of(name, at=(0, 2, 5), log_lengthscale=(0.2, -0.3, 0.5)):
    return JointCovariance(
        CORRELATIONS[name], points(), torch.exp(torch.tensor(log_lengthscale).double()), torch.tensor(at)
    )


def kernel_of(joint):
    return lambda a, b: joint.kernel.correlation((((a - b) / joint.lengthscale) ** 2).sum()[None].clone())[0]


@pytest.mark.parametrize("name", sorted(SMOOTH_KERNELS))
def test_blocks_are_derivatives_of_the_kernel(name):
    joint = joint_of(name)
    dense, k = joint.dense(), kernel_of(joint)
    for row, i in enumerate(joint.at.tolist()):
        for other in {0, 1, 2, 3, 4, 5} - {i}:
            slope = torch.autograd.functional.jacobian(lambda b, a=joint.u[other]: k(a, b), joint.u[i])
            torch.testing.assert_close(dense[other, N + D * row : N + D * row + D], slope)
        for column, j in enumerate(joint.at.tolist()):
            if i == j:
                continue
            both = torch.cat([joint.u[i], joint.u[j]])
            hessian = torch.autograd.functional.hessian(lambda ab: k(ab[:D], ab[D:]), both)[:D, D:]
            block = dense[N + D * row : N + D * row + D, N + D * column : N + D * column + D]
            torch.testing.assert_close(block, hessian)


@pytest.mark.parametrize("name", sorted(SMOOTH_KERNELS))
def test_matrix_is_positive_definite(name):
    dense = joint_of(name).dense()
    torch.testing.assert_close(dense, dense.T, rtol=0, atol=1e-15)
    assert float(torch.linalg.eigvalsh(dense)[0]) > 0


@pytest.mark.parametrize("name", sorted(SMOOTH_KERNELS))
def test_values_elsewhere_are_rows_of_a_larger_matrix(name):
    joint, new = joint_of(name), points(4, seed=1)
    larger = JointCovariance(joint.kernel, torch.cat([joint.u, new]), joint.lengthscale, joint.at).dense()
    expected = torch.cat([larger[:N, N : N + 4], larger[N + 4 :, N : N + 4]])
    torch.testing.assert_close(joint.with_values(new), expected)
    weights = torch.as_tensor(np.random.default_rng(2).standard_normal(joint.rows))
    torch.testing.assert_close(joint.mean(new, weights), expected.T @ weights)


@pytest.mark.parametrize("name", sorted(SMOOTH_KERNELS))
def test_lengthscale_slopes_agree_with_central_differences(name):
    w = torch.as_tensor(np.random.default_rng(3).standard_normal((N + 3 * D, N + 3 * D)))
    w, log_l, step = w + w.T, np.array([0.2, -0.3, 0.5]), 1e-5
    slopes = log_lengthscale_slopes(joint_of(name), w)
    for j, move in enumerate(step * np.eye(D)):
        above, below = (
            float((w * joint_of(name, log_lengthscale=tuple(log_l + s * move)).dense()).sum()) for s in (1, -1)
        )
        assert float(slopes[j]) == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", sorted(SMOOTH_KERNELS))
def test_points_that_coincide_make_nothing_infinite(name):
    u = points()
    u[1] = u[0] + 1e-9
    joint = JointCovariance(CORRELATIONS[name], u, torch.ones(D).double(), torch.arange(N))
    assert torch.isfinite(joint.dense()).all()
    assert torch.isfinite(log_lengthscale_slopes(joint, torch.ones(joint.rows, joint.rows).double())).all()


def test_a_kernel_without_derivatives_is_refused():
    with pytest.raises(ValueError, match="gradients need a kernel among"):
        joint_of("matern32")


@pytest.mark.parametrize("name", sorted(TREND_DEGREES))
def test_slopes_of_the_trend(name):
    trend, u = Polynomial(name), points()
    for i in range(N):
        expected = torch.autograd.functional.jacobian(lambda v: trend.basis(v[None])[0], u[i]).T
        torch.testing.assert_close(trend.slopes(u)[i], expected)
