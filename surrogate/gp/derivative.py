"""Covariances between the values and the first derivatives of a stationary process.

In scaled inputs z = u / lengthscale, with D = z - z' and the slopes h = -2 dk/d(r^2), g = -2 dh/d(r^2),
q = -2 dg/d(r^2) of the correlation k(r^2),

    cov(f, f') = k,    cov(f, d_j f') = h D_j / l_j,    cov(d_i f, d_j f') = (h delta_ij - g D_i D_j) / (l_i l_j).

Rows of a joint matrix are the n values, then the derivatives at m of the points, point by point.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from surrogate.linalg.stationary import CORRELATIONS, Stationary, squared_distance

__all__ = ["JointCovariance", "JointOperator", "SMOOTH_KERNELS", "log_lengthscale_slopes"]


SMOOTH_KERNELS = tuple(name for name, function in CORRELATIONS.items() if function.slopes is not None)
"""Names of the kernels whose processes have derivatives."""


@dataclass(frozen=True, eq=False)
class JointCovariance:
    """Covariance of the values at n points and the derivatives at m of them, for unit amplitude.

    Attributes:
        kernel: A correlation function with slopes.
        u: Points, with shape (n, d).
        lengthscale: Lengthscales, with shape (d,).
        at: Indices of the points with derivatives, with shape (m,).

    Raises:
        ValueError: If processes with this kernel have no derivatives.
    """

    kernel: Stationary
    u: Tensor
    lengthscale: Tensor
    at: Tensor

    def __post_init__(self) -> None:
        if self.kernel.slopes is None:
            msg = f"gradients need a kernel among {sorted(SMOOTH_KERNELS)}, got {self.kernel.name!r}"
            raise ValueError(msg)

    @cached_property
    def z(self) -> Tensor:
        """Scaled points, with shape (n, d)."""
        return self.u / self.lengthscale

    @property
    def rows(self) -> int:
        """Number of rows n + m d."""
        return len(self.u) + len(self.at) * self.u.shape[1]

    def slopes(self, r2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """k, h, g and q at squared scaled distances of any shape; the input may be overwritten."""
        if self.kernel.slopes is None:
            msg = f"processes with the kernel {self.kernel.name!r} have no derivatives"
            raise ValueError(msg)
        return self.kernel.slopes(r2)

    def dense(self) -> Tensor:
        """The matrix, with shape (n + m d, n + m d); needs three times its memory."""
        n, d = self.u.shape
        m = len(self.at)
        r2 = squared_distance(self.z, self.z).fill_diagonal_(0.0)
        k, h, g, _ = self.slopes(r2)
        out = self.u.new_empty(self.rows, self.rows)
        out[:n, :n] = k
        delta = self.z[:, None, :] - self.z[self.at]
        out[:n, n:] = (h[:, self.at, None] * delta / self.lengthscale).reshape(n, m * d)
        out[n:, :n] = out[:n, n:].T
        delta = delta[self.at]
        block = delta[:, :, :, None] * (-g[self.at][:, self.at, None] * delta)[:, :, None, :]
        block.diagonal(dim1=2, dim2=3).add_(h[self.at][:, self.at, None])
        block /= self.lengthscale[:, None] * self.lengthscale
        out[n:, n:] = block.permute(0, 2, 1, 3).reshape(m * d, m * d)
        return out

    def with_values(self, x: Tensor) -> Tensor:
        """Covariance of all rows with the values at other points x of shape (c, d), with shape (n + m d, c)."""
        z = x / self.lengthscale
        k, h, _, _ = self.slopes(squared_distance(self.z, z))
        delta = (z - self.z[self.at][:, None, :]) / self.lengthscale
        slopes = h[self.at][:, :, None] * delta
        return torch.cat([k, slopes.transpose(1, 2).reshape(self.rows - len(k), len(x))])

    def mean(self, x: Tensor, weights: Tensor) -> Tensor:
        """``with_values(x).T @ weights``, with shape (c,), without forming it: O(c (n + m) d)."""
        n, d = self.u.shape
        z = x / self.lengthscale
        k, h, _, _ = self.slopes(squared_distance(z, self.z))
        b = weights[n:].reshape(-1, d) / self.lengthscale
        offset = (self.z[self.at] * b).sum(1)
        return k @ weights[:n] + (h[:, self.at] * (z @ b.T - offset)).sum(1)


def log_lengthscale_slopes(joint: JointCovariance, w: Tensor) -> Tensor:
    """Derivatives of sum(w * K) for the joint covariance K, with respect to each log lengthscale.

    The d derivative matrices are never formed, because each block is first contracted with w. The factors 1 / l of
    derivative rows are absorbed into w, and their own contribution is added at the end.

    Args:
        joint: The covariance.
        w: Symmetric weights, with shape (n + m d, n + m d).

    Returns:
        The derivatives, with shape (d,), in O((n + m d)^2).
    """
    n, d = joint.u.shape
    m = len(joint.at)
    scaled = torch.cat([torch.ones_like(w[:n, 0]), (1.0 / joint.lengthscale).repeat(m)])
    w = w * scaled[:, None] * scaled
    k, h, g, q = joint.slopes(squared_distance(joint.z, joint.z).fill_diagonal_(0.0))
    delta = joint.z[:, None, :] - joint.z[joint.at]
    values, mixed = w[:n, :n], w[:n, n:].reshape(n, m, d)
    pairs = w[n:, n:].reshape(m, d, m, d).permute(0, 2, 1, 3)

    weight = h * values
    out = 2.0 * (weight.sum(1) @ joint.z.square() - (joint.z * (weight @ joint.z)).sum(0))

    h_at, g_at = h[:, joint.at], g[:, joint.at]
    along = (mixed * delta).sum(2)
    out += 2.0 * torch.einsum("ab,abj->j", g_at * along, delta.square())
    turned = 2.0 * h_at[:, :, None] * delta * mixed
    out -= turned.sum((0, 1))
    own = turned.sum((0, 1))  # contribution of the factors 1 / l, from both blocks that contain this one

    delta, h_at, g_at, q_at = delta[joint.at], h_at[joint.at], g_at[joint.at], q[joint.at][:, joint.at]
    across = torch.einsum("abij,abj->abi", pairs, delta)
    trace = pairs.diagonal(dim1=2, dim2=3)
    bent = g_at * trace.sum(2) - q_at * (across * delta).sum(2)
    out += torch.einsum("ab,abj->j", bent, delta.square())
    out += 2.0 * torch.einsum("ab,abj,abj->j", g_at, delta, across)
    own = own + 2.0 * torch.einsum("ab,abj->j", h_at, trace) - 2.0 * torch.einsum("ab,abj,abj->j", g_at, delta, across)
    return out - own


@dataclass(frozen=True, eq=False)
class JointOperator:
    """A joint covariance as an operator, with products and columns, for the solvers of ``surrogate.linalg``.

    The matrix of n + m d rows is never stored. With M = D.V, products with values v and derivatives V need only n x n
    matrices, since sum_i' g D (D.V) = z (S 1) - S z for S = g M: O(n^2 d) per right-hand side instead of O(n^2 d^2).

    Attributes:
        joint: The covariance.
        variance: Factor on the covariance.
        block: Number of points whose rows are computed at once.

    References:
        de Roos, Gessner & Hennig (2021), arXiv:2102.07542, for the structure; Blucher, Mueller & Chmiela (2023),
        doi:10.1021/acs.jctc.2c01304, for conjugate gradients with a Nystrom preconditioner on such matrices.
    """

    joint: JointCovariance
    variance: float = 1.0
    block: int = 512

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.joint.rows, self.joint.rows

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries."""
        return self.joint.u.dtype

    @property
    def device(self) -> torch.device:
        """Device of the points."""
        return self.joint.u.device

    def diag(self) -> Tensor:
        """Diagonal, with shape (n + m d,)."""
        zero = self.joint.u.new_zeros(1)
        k, h, _, _ = (part[0] for part in self.joint.slopes(zero))
        slopes = (h / self.joint.lengthscale.square()).repeat(len(self.joint.at))
        return self.variance * torch.cat([k.expand(len(self.joint.u)), slopes])

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n + m d,)."""
        return self.columns(torch.tensor([i], device=self.device))[:, 0]

    def columns(self, index: Tensor) -> Tensor:
        """Some of the columns, with shape (n + m d, len(index))."""
        joint, (n, d) = self.joint, self.joint.u.shape
        out = self.joint.u.new_empty(joint.rows, len(index))
        values = index < n
        if bool(values.any()):
            out[:, values] = joint.with_values(joint.u[index[values]])
        if bool((~values).any()):
            point, axis = (index[~values] - n) // d, (index[~values] - n) % d
            out[:, ~values] = self._slope_columns(joint.z[joint.at[point]], axis)
        return out.mul_(self.variance)

    def _slope_columns(self, z: Tensor, axis: Tensor) -> Tensor:
        """Covariances, with shape (n + m d, c), with the derivatives along ``axis`` at scaled points z."""
        joint = self.joint
        _, h, g, _ = joint.slopes(squared_distance(joint.z, z))
        delta = joint.z[:, None, :] - z
        along = delta.gather(2, axis.expand(len(delta), -1)[:, :, None])[:, :, 0]
        slope = -(g * along)[joint.at][:, :, None] * delta[joint.at]
        columns = torch.arange(len(axis), device=self.device)
        slope[:, columns, axis] += h[joint.at]
        slope = slope / joint.lengthscale
        rows = joint.rows - len(joint.u)
        stacked = torch.cat([h * along, slope.transpose(1, 2).reshape(rows, len(axis))])
        return stacked / joint.lengthscale[axis]

    def submatrix(self, index: Tensor) -> Tensor:
        """The rows and columns with these indices, with shape (len(index), len(index))."""
        return self.columns(index)[index]

    def matmul(self, v: Tensor) -> Tensor:
        """Product with v, with shape (n + m d, k) or (n + m d,)."""
        columns = v[:, None] if v.ndim == 1 else v
        joint, (n, d) = self.joint, self.joint.u.shape
        order = torch.full((n,), -1, device=self.device)
        order[joint.at] = torch.arange(len(joint.at), device=self.device)
        values = columns[:n]
        slopes = columns[n:].reshape(-1, d, columns.shape[1]) / joint.lengthscale[:, None]
        out_values = torch.empty_like(values)
        out_slopes = torch.empty_like(slopes)
        for start in range(0, n, self.block):
            rows = slice(start, start + self.block)
            own = order[rows]
            out_values[rows], out_slopes[own[own >= 0]] = self._block(rows, own >= 0, values, slopes)
        out_slopes = (out_slopes / joint.lengthscale[:, None]).reshape(-1, columns.shape[1])
        return torch.cat([out_values, out_slopes]).mul_(self.variance).reshape(v.shape)

    def _block(self, rows: slice, sloped: Tensor, values: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Products for the value rows of some points, and for the derivative rows of those that have derivatives."""
        joint = self.joint
        z, known = joint.z[rows], joint.z[joint.at]
        k, h, g, _ = joint.slopes(squared_distance(z, joint.z))
        h_at, g_at = h[:, joint.at], g[sloped][:, joint.at]
        out_values, out_slopes = k @ values, z.new_empty(int(sloped.sum()), z.shape[1], values.shape[1])
        for c in range(values.shape[1]):
            along = z @ slopes[:, :, c].T - (known * slopes[:, :, c]).sum(1)
            out_values[:, c] += (h_at * along).sum(1)
            bent = g_at * along[sloped]
            steep = h[sloped] * values[:, c]
            total = bent.sum(1) + steep.sum(1)
            pulled = h_at[sloped] @ slopes[:, :, c] + bent @ known + steep @ joint.z
            out_slopes[:, :, c] = pulled - total[:, None] * z[sloped]
        return out_values, out_slopes
