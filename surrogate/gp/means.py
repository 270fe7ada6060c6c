"""Means of processes: basis functions with standard normal coefficients, in units of the output scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["STEEPEST_TILT", "TREND_DEGREES", "Gated", "Mean", "Polynomial", "Quadratic", "Tilted", "Zero"]

TREND_DEGREES = {"constant": 0, "linear": 1, "quadratic": 2}

Quadratic = tuple[Tensor, Tensor, Tensor]
"""c, b and C of c + b.u + u.C.u, with shapes (), (d,) and (d, d), C symmetric."""

STEEPEST_TILT = 200.0
"""Largest exponent of a tilted mean, such that the square of its exponential does not overflow."""


class Mean(Protocol):
    """A mean phi(u).b with b ~ N(0, I): p basis functions scaled by prior sds. A hashable value."""

    def size(self, d: int) -> int:
        """Number p of basis functions in d coordinates."""

    def basis(self, u: Tensor) -> Tensor:
        """Scaled basis functions at u with shape (n, d), with shape (n, p)."""

    def slopes(self, u: Tensor) -> Tensor:
        """Derivatives of the scaled basis functions with respect to u, with shape (n, d, p)."""

    def polynomial(self, coefficients: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """The mean as c + b.u + u.C.u, with shapes (), (d,) and (d, d), C symmetric; None if it is not quadratic."""


@dataclass(frozen=True)
class Zero:
    """The mean that is zero everywhere, without basis functions."""

    def size(self, d: int) -> int:  # noqa: ARG002 - see Mean
        """See ``Mean``: 0."""
        return 0

    def basis(self, u: Tensor) -> Tensor:
        """See ``Mean``."""
        return u.new_empty(len(u), 0)

    def slopes(self, u: Tensor) -> Tensor:
        """See ``Mean``."""
        return u.new_empty(*u.shape, 0)

    def polynomial(self, coefficients: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
        """See ``Mean``."""
        return coefficients.new_zeros(()), coefficients.new_zeros(d), coefficients.new_zeros(d, d)


@dataclass(frozen=True)
class Polynomial:
    """A constant, a plane or a full quadratic in whitened coordinates u.

    The prior sds are in units of the output scale: 10 d for the constant, 10 for the linear and 3 for the quadratic
    coefficients. In whitened coordinates a log-density falls by about |u|^2, so these priors are wide by a factor of a
    few.

    Attributes:
        name: One of "constant", "linear", "quadratic".
    """

    name: str = "quadratic"

    def __post_init__(self) -> None:
        if self.name not in TREND_DEGREES:
            msg = f"trend must be one of {sorted(TREND_DEGREES)}, got {self.name!r}"
            raise ValueError(msg)

    def size(self, d: int) -> int:
        """Number p of basis functions: 1, d + 1 or (d + 1)(d + 2) / 2."""
        return {"constant": 1, "linear": d + 1, "quadratic": (d + 1) * (d + 2) // 2}[self.name]

    def basis(self, u: Tensor) -> Tensor:
        """Scaled basis functions at u, with shape (n, p), so that the coefficients are standard normal a priori."""
        n, d = u.shape
        columns = [torch.full((n, 1), 10.0 * d, dtype=u.dtype, device=u.device)]
        if TREND_DEGREES[self.name] >= 1:
            columns.append(10.0 * u)
        if TREND_DEGREES[self.name] >= 2:
            i, j = torch.triu_indices(d, d, device=u.device)
            columns.append(3.0 * u[:, i] * u[:, j])
        return torch.cat(columns, dim=1)

    def slopes(self, u: Tensor) -> Tensor:
        """Derivatives of the scaled basis functions with respect to u, with shape (n, d, p)."""
        n, d = u.shape
        out = u.new_zeros(n, d, self.size(d))
        axes = torch.arange(d, device=u.device)
        if TREND_DEGREES[self.name] >= 1:
            out[:, axes, axes + 1] = 10.0
        if TREND_DEGREES[self.name] >= 2:
            i, j = torch.triu_indices(d, d, device=u.device)
            column = torch.arange(d + 1, d + 1 + len(i), device=u.device)
            out[:, i, column] = 3.0 * u[:, j]
            out[:, j, column] += 3.0 * u[:, i]
        return out

    def polynomial(self, coefficients: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
        """The trend as c + b.u + u.C.u: c with shape (), b with shape (d,), C symmetric with shape (d, d)."""
        c = 10.0 * d * coefficients[0]
        b = coefficients.new_zeros(d)
        quadratic = coefficients.new_zeros(d, d)
        if TREND_DEGREES[self.name] >= 1:
            b = 10.0 * coefficients[1 : d + 1]
        if TREND_DEGREES[self.name] >= 2:
            i, j = torch.triu_indices(d, d, device=coefficients.device)
            quadratic[i, j] = 3.0 * coefficients[d + 1 :]
            quadratic = 0.5 * (quadratic + quadratic.T)
        return c, b, quadratic


@dataclass(frozen=True)
class Tilted:
    """P(u) + exp(a.u) Q(w): a polynomial, and a quadratic times an exponential.

    It exactly describes the log-likelihood of a regression in which the noise is a parameter: -n log s - RSS(b) / (2
    s^2) is linear in v = log s plus a quadratic in the coefficients b, times exp(-2 v). Prior sds are those of
    ``Polynomial``.

    Attributes:
        along: a, the d entries of the gradient of the exponent.
        across: Rows of the matrix B of w = u B, d rows with k entries each.
        axes: Rows of a matrix A, d rows with m entries each: P is a constant plus a line and a square of each entry of
            u A. If there are none, P is a constant plus a slope along a.
    """

    along: tuple[float, ...]
    across: tuple[tuple[float, ...], ...]
    axes: tuple[tuple[float, ...], ...] = ()

    def _parts(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a, B, A, and exp(a.u) with shape (n, 1)."""
        a, b = u.new_tensor(self.along), u.new_tensor(self.across).reshape(len(self.along), -1)
        axes = u.new_tensor(self.axes) if self.axes else (a / a.norm())[:, None]
        return a, b, axes, (u @ a).clamp(-STEEPEST_TILT, STEEPEST_TILT).exp()[:, None]

    @property
    def _plain_size(self) -> int:
        """Number of basis functions of P."""
        return 1 + 2 * len(self.axes[0]) if self.axes else 2

    def size(self, d: int) -> int:  # noqa: ARG002 - see Mean
        """Number p of basis functions: those of P, and (k + 1)(k + 2) / 2."""
        return self._plain_size + _FULL.size(len(self.across[0]))

    def basis(self, u: Tensor) -> Tensor:
        """See ``Mean``."""
        _, b, axes, tilt = self._parts(u)
        v = u @ axes
        plain = _LINEAR.basis(v)
        if self.axes:
            plain = torch.cat([plain, _SQUARES * v.square()], 1)
        return torch.cat([plain, tilt * _FULL.basis(u @ b)], 1)

    def slopes(self, u: Tensor) -> Tensor:
        """See ``Mean``."""
        a, b, axes, tilt = self._parts(u)
        v, w = u @ axes, u @ b
        plain = torch.einsum("dm,nmp->ndp", axes, _LINEAR.slopes(v))
        if self.axes:
            plain = torch.cat([plain, 2.0 * _SQUARES * axes * v[:, None]], 2)
        inner = torch.einsum("dk,nkp->ndp", b, _FULL.slopes(w)) + a[:, None] * _FULL.basis(w)[:, None]
        return torch.cat([plain, tilt[:, :, None] * inner], 2)

    def polynomial(self, coefficients: Tensor, d: int) -> None:  # noqa: ARG002 - see Mean
        """See ``Mean``: None, because it is not quadratic."""
        return

    def quadratics(self, coefficients: Tensor) -> tuple[Quadratic, Quadratic]:
        """P and Q as quadratics of u."""
        _, b, axes, _ = self._parts(coefficients.new_zeros(1, len(self.along)))
        split, m = self._plain_size, axes.shape[1]
        c, slope, _ = _LINEAR.polynomial(coefficients[: m + 1], m)
        squares = _SQUARES * coefficients[m + 1 : split] if self.axes else coefficients.new_zeros(m)
        plain = c, axes @ slope, (axes * squares) @ axes.T
        c, linear, quadratic = _FULL.polynomial(coefficients[split:], b.shape[1])
        return plain, (c, b @ linear, b @ quadratic @ b.T)


@dataclass(frozen=True)
class Gated:
    """sum_k r_k(u) Q_k(v_k): a quadratic for each of several peaks, which blend by the shares r_k of fixed gates.

    The shares are r_k = exp(g_k) / sum_j exp(g_j), where the gates g_k are quadratics, too: a mixture of experts. Where
    the mean is log sum_k exp(g_k), plus this, it describes small changes of the gates to first order. v_k are the
    coordinates in which g_k is a constant minus |v_k|^2 / 2. Prior sds are 10 for the constants, 1 for the linear and
    0.3 for the quadratic coefficients: a peak of which little is known lies within a width and a half of its gate, and
    remains a peak.

    Attributes:
        gates: For each k, c, the d entries of b and the rows of C of g_k = c + b.u + u.C.u, C symmetric and negative
            definite.
    """

    gates: tuple[tuple[float, ...], ...]

    def _gates(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c, b and C of all gates, with shapes (k,), (k, d) and (k, d, d)."""
        d, gates = u.shape[1], u.new_tensor(self.gates)
        return gates[:, 0], gates[:, 1 : d + 1], gates[:, d + 1 :].reshape(-1, d, d)

    def _frames(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Centres and matrices of v_k = (u - centre) @ matrix, with shapes (k, d) and (k, d, d)."""
        _, b, square = self._gates(u)
        return -0.5 * torch.linalg.solve(square, b), torch.linalg.cholesky(-2.0 * square)

    def shares(self, u: Tensor) -> Tensor:
        """The shares at u with shape (n, d), with shape (n, k)."""
        c, b, square = self._gates(u)
        return (c + u @ b.T + torch.einsum("ni,kij,nj->nk", u, square, u)).softmax(1)

    def size(self, d: int) -> int:
        """Number p of basis functions: those of a quadratic for each peak."""
        return len(self.gates) * _FULL.size(d)

    def basis(self, u: Tensor) -> Tensor:
        """See ``Mean``."""
        shares = self.shares(u)
        parts = [
            shares[:, k, None] * _scaled(u, _FULL.basis((u - centre) @ matrix))
            for k, (centre, matrix) in enumerate(zip(*self._frames(u), strict=True))
        ]
        return torch.cat(parts, 1)

    def slopes(self, u: Tensor) -> Tensor:
        """See ``Mean``."""
        _, b, square = self._gates(u)
        shares = self.shares(u)
        slope = b + 2.0 * torch.einsum("kij,nj->nki", square, u)
        moved = shares[:, :, None] * (slope - (shares[:, :, None] * slope).sum(1, keepdim=True))
        parts = []
        for k, (centre, matrix) in enumerate(zip(*self._frames(u), strict=True)):
            v = (u - centre) @ matrix
            inner = torch.einsum("ij,njp->nip", matrix, _FULL.slopes(v))
            parts.append(_scaled(u, shares[:, k, None, None] * inner + moved[:, k, :, None] * _FULL.basis(v)[:, None]))
        return torch.cat(parts, 2)

    def polynomial(self, coefficients: Tensor, d: int) -> None:  # noqa: ARG002 - see Mean
        """See ``Mean``: None, because it is not quadratic."""
        return

    def quadratics(self, coefficients: Tensor, d: int) -> list[Quadratic]:
        """The Q_k as quadratics of u."""
        out, u = [], coefficients.new_zeros(1, d)
        frames = zip(coefficients.split(_FULL.size(d)), *self._frames(u), strict=True)
        for part, centre, matrix in frames:
            c, linear, quadratic = _FULL.polynomial(_scaled(u, part), d)
            b, square = matrix @ linear, matrix @ quadratic @ matrix.T
            out.append((c - b @ centre + centre @ square @ centre, b - 2.0 * square @ centre, square))
        return out


def _scaled(u: Tensor, full: Tensor) -> Tensor:
    """Columns or coefficients of a full quadratic in d coordinates with the prior sds of ``Gated``."""
    d = u.shape[1]
    sd = full.new_full((_FULL.size(d),), _PEAK_SDS[2] / 3.0)
    sd[0], sd[1 : d + 1] = _PEAK_SDS[0] / (10.0 * d), _PEAK_SDS[1] / 10.0
    return sd * full


_PEAK_SDS = (10.0, 1.0, 0.3)
_FULL, _LINEAR = Polynomial("quadratic"), Polynomial("linear")
_SQUARES = 3.0  # prior sd of the coefficients of squares, as in ``Polynomial``
