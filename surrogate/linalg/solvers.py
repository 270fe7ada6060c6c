"""Solutions of (K + noise) x = b: by Cholesky, by preconditioned conjugate gradients, with iterative refinement."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from surrogate.linalg.operators import LowOperator, Operator, as_columns
from surrogate.linalg.precision import LowPrecisionError, required_floor
from surrogate.linalg.preconditioners import NystromPreconditioner, Preconditioner

__all__ = [
    "Cholesky",
    "Solve",
    "cg",
    "cg_growing",
    "refine",
    "require_floor",
    "residual_norms",
    "tridiagonal_matrix",
]


_ENOUGH = 0.8  # share of the tolerance that the last correction of a refinement aims at, to allow for rounding


@dataclass(frozen=True, eq=False)
class Solve:
    """The result of an iterative solver.

    Attributes:
        x: Solution, with the shape of b.
        residual: True residuals |b - (K + noise) x| / |b| at the end, with shape (k,).
        iterations: Number of products with K, not counting those for true residuals.
        converged: Whether every residual is within the tolerance.
        status: Why the solver stopped.
        tridiagonals: For each column the diagonal and off-diagonal of the Lanczos matrix of P^-1/2 (K + noise) P^-1/2
            started from P^-1/2 b; empty for a nonzero start and for a refinement.
        corrections: Number of outer steps of a refinement.
    """

    x: Tensor
    residual: Tensor
    iterations: int
    converged: bool
    status: str
    tridiagonals: tuple[tuple[Tensor, Tensor], ...] = field(default=(), repr=False)
    corrections: int = 0


@dataclass(frozen=True, eq=False)
class Cholesky:
    """The stored Cholesky factor of K + noise = L L^T, for matrices that fit into memory.

    Attributes:
        triangle: L, with shape (n, n).
    """

    triangle: Tensor

    @classmethod
    def of(cls, operator: Operator, noise: float | Tensor = 0.0) -> Cholesky:
        """The factor of an operator, from all of its columns; O(n^3) time and O(n^2) memory.

        Raises:
            ValueError: If K + noise is not positive definite in its precision.
        """
        matrix = operator.columns(torch.arange(operator.shape[1], device=operator.device))
        matrix.diagonal().add_(torch.as_tensor(noise, dtype=matrix.dtype, device=matrix.device))
        triangle, info = torch.linalg.cholesky_ex(matrix)
        if int(info) != 0:
            msg = (
                f"K + noise is not positive definite in {matrix.dtype}: pivot {int(info)} of {len(matrix)} is not "
                "positive; give more noise or use float64"
            )
            raise ValueError(msg)
        return cls(triangle)

    def solve(self, b: Tensor) -> Tensor:
        """(K + noise)^-1 b, with the shape of b."""
        return torch.cholesky_solve(b.reshape(len(b), -1), self.triangle).reshape(b.shape)

    def logdet(self) -> float:
        """Natural logarithm of the determinant of K + noise."""
        return float(2.0 * self.triangle.diagonal().double().log().sum())

    def sample(self, count: int, *, generator: torch.Generator) -> Tensor:
        """Draws from N(0, K + noise), with shape (n, count)."""
        t = self.triangle
        return t @ torch.randn(len(t), count, dtype=t.dtype, device=t.device, generator=generator)


def residual_norms(operator: Operator, x: Tensor, b: Tensor, *, noise: float | Tensor = 0.0) -> Tensor:
    """|b - (K + noise) x| / |b| of each column, with shape (k,); the residual norm itself if b is zero."""
    b, x = as_columns(b, operator, "b"), as_columns(x, operator, "x")
    return (b - _apply(operator, x, noise)).norm(dim=0) / _norms(b)


def cg(
    operator: Operator,
    b: Tensor,
    *,
    noise: float | Tensor = 0.0,
    preconditioner: Preconditioner | None = None,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    min_iterations: int = 0,
    start: Tensor | None = None,
    reorthogonalise: bool = False,
    patience: int | None = None,
) -> Solve:
    """The solution of (K + noise) x = b for several right-hand sides, by preconditioned conjugate gradients.

    All columns share each product with K; a column is no longer updated once its residual is within the tolerance.
    Memory is a few arrays of the shape of b, plus two per iteration if residuals are re-orthogonalised.

    Args:
        operator: K, symmetric and positive semi-definite, with shape (n, n).
        b: Right-hand sides, with shape (n, k) or (n,), in the dtype of the operator.
        noise: Variance added to the diagonal, or variances with shape (n,).
        preconditioner: P near K + noise.
        tolerance: Relative residual |b - (K + noise) x| / |b| at which to stop.
        max_iterations: Largest number of products with K.
        min_iterations: Smallest number; the Lanczos matrices of `log_determinant` need some for any tolerance.
        start: Initial x, zero where it is None.
        reorthogonalise: Whether to keep residuals orthogonal to earlier ones in the inner product of P^-1, as in exact
            arithmetic. It saves iterations if rounding dominates, but needs O(n k t) memory.
        patience: Stop if no column's residual has fallen tenfold in this many iterations.

    Returns:
        The solution with its true residual. If the matrix is not positive definite, the status says so; this is no
        error.

    Raises:
        ValueError: If the shapes do not fit.
        TypeError: If b has another dtype than the operator.

    References:
        Hestenes & Stiefel (1952), doi:10.6028/jres.049.044; batched and with its Lanczos matrices, Gardner, Pleiss,
        Bindel, Weinberger & Wilson (2018), arXiv:1809.11165; re-orthogonalisation, Maddox, Potapczynski & Wilson
        (2022), arXiv:2207.06856, who use the plain inner product, which is wrong with a preconditioner.
    """
    columns = as_columns(b, operator, "b")
    scale = _norms(columns)
    begin = None if start is None else as_columns(start, operator, "start") / scale
    state = _Iteration(_Shifted(operator, noise, preconditioner), columns / scale, begin, reorthogonalise)
    status, history = "the maximum number of iterations was reached", [state.r.norm(dim=0)]
    for step in range(max_iterations + 1):
        active = (history[-1] > tolerance) | ((step < min_iterations) & (state.gamma > 0.0))
        if not bool(active.any()):
            status = "converged"
            break
        if patience is not None and _stalled(history, patience, active):
            status = f"no residual fell tenfold in {patience} iterations"
            break
        if step == max_iterations:
            break
        if not state.advance(active):
            status = "the matrix is not positive definite in this precision"
            break
        history.append(state.r.norm(dim=0))
    x = (state.x * scale).reshape(b.shape)
    residual = residual_norms(operator, x, columns, noise=noise)
    # The recursive and the true residual differ by rounding, for which a tenth is allowed.
    converged = bool((residual <= 1.1 * tolerance).all())
    return Solve(x, residual, len(history) - 1, converged, status, () if start is not None else state.tridiagonals())


def cg_growing(
    operator: Operator,
    b: Tensor,
    *,
    noise: float | Tensor,
    preconditioner: NystromPreconditioner,
    generator: torch.Generator,
    tolerance: float = 1e-6,
    max_iterations: int = 1000,
    patience: int = 100,
    growth: float = 2.0,
) -> tuple[Solve, NystromPreconditioner]:
    """The solution by conjugate gradients that add columns to the preconditioner whenever they stall.

    Args:
        operator: K, with columns.
        b: Right-hand sides, with shape (n, k) or (n,).
        noise: Variance added to the diagonal, or variances with shape (n,).
        preconditioner: Initial preconditioner; its factor must have pivots.
        generator: Draws the new pivots; on the device of K.
        tolerance: Relative residual at which to stop.
        max_iterations: Largest total number of products with K.
        patience: Number of iterations without a tenfold fall of any residual that count as a stall.
        growth: Factor by which the rank grows at a stall.

    Returns:
        The solution, with the total number of products, and the final preconditioner.

    References:
        Blucher, Mueller & Chmiela (2023), doi:10.1021/acs.jctc.2c01304, who restart with 1.2 times the columns.
    """
    x: Tensor | None = None
    spent, limit = 0, operator.shape[0]
    while True:
        larger = min(limit, int(growth * preconditioner.rank) + 1)
        solve = cg(
            operator,
            b,
            noise=noise,
            preconditioner=preconditioner,
            tolerance=tolerance,
            max_iterations=max_iterations - spent,
            start=x,
            patience=patience if larger > preconditioner.rank else None,
        )
        spent += solve.iterations
        if solve.converged or "tenfold" not in solve.status:
            return replace(solve, iterations=spent), preconditioner
        grown = preconditioner.grow(operator, larger, generator=generator)
        limit = limit if grown.rank == larger else grown.rank  # fewer columns than requested: K is exhausted
        x, preconditioner = solve.x, grown


def refine(
    operator: Operator,
    b: Tensor,
    *,
    low: LowOperator,
    noise: float | Tensor,
    preconditioner: Preconditioner | None = None,
    start: Tensor | None = None,
    tolerance: float = 1e-7,
    inner_tolerance: float = 1e-2,
    max_corrections: int = 20,
    max_iterations: int = 2000,
) -> Solve:
    """The solution of (K + noise) x = b to the accuracy of K, by corrections computed in lower precision.

    Each correction starts from the residual computed with ``operator``, usually in float64, and is found by conjugate
    gradients with ``low``, in float32 or with products in half precision. A correction that increases a column's
    residual is rejected, and one that gains less than a tenth is the last.

    Args:
        operator: K in the precision of b.
        b: Right-hand sides, with shape (n, k) or (n,).
        low: The same K in lower precision, from its method ``to``.
        noise: Variance added to the diagonal, or variances with shape (n,).
        preconditioner: P near K + noise, in any dtype.
        start: Initial x, zero where it is None.
        tolerance: Relative residual to stop at, for each column.
        inner_tolerance: Relative residual of a correction; a looser one is used if that is enough to finish.
        max_corrections: Largest number of corrections.
        max_iterations: Largest total number of products with ``low``.

    Returns:
        The solution with its residual in the precision of ``operator``; ``iterations`` counts products with ``low``.

    Raises:
        LowPrecisionError: If K + noise has too small eigenvalues for the precision of ``low``; see `require_floor`.

    References:
        Wilkinson (1963); Carson & Higham (2018), doi:10.1137/17M1140819; for Gaussian processes in half precision
        without refinement, Maddox, Potapczynski & Wilson (2022), arXiv:2207.06856
    """
    require_floor(low, noise)
    inner = None if preconditioner is None else preconditioner.to(low.dtype)
    columns = as_columns(b, operator, "b")
    norms, x = _norms(columns), torch.zeros_like(columns) if start is None else as_columns(start, operator, "start")
    r = columns if start is None else columns - _apply(operator, x, noise)
    status = "the maximum number of corrections or iterations was reached"
    spent, corrections, size = 0, 0, r.norm(dim=0) / norms
    while bool((size > tolerance).any()) and corrections < max_corrections and spent < max_iterations:
        scale = _norms(r)
        step = cg(
            low,
            (r / scale).to(low.dtype),
            noise=noise,
            preconditioner=inner,
            tolerance=max(_ENOUGH * tolerance / float(size.max()), inner_tolerance),
            max_iterations=max_iterations - spent,
        )
        corrected = x + scale * step.x.to(x.dtype)
        left = columns - _apply(operator, corrected, noise)
        after = left.norm(dim=0) / norms
        spent, corrections = spent + step.iterations, corrections + 1
        idle = bool(((after > 0.9 * size) & (after > tolerance)).any())
        better = after < size
        x, r, size = torch.where(better, corrected, x), torch.where(better, left, r), torch.where(better, after, size)
        if idle:
            status = f"a correction gained less than a tenth; the inner solver says: {step.status}"
            break
    converged = bool((size <= tolerance).all())
    return Solve(
        x.reshape(b.shape), size, spent, converged, "converged" if converged else status, corrections=corrections
    )


def require_floor(low: LowOperator, noise: float | Tensor, *, margin: float = 2.0, steps: int = 40) -> None:
    """Raises LowPrecisionError if K + noise may not be positive definite in the precision of ``low``.

    The smallest eigenvalue of K + noise must exceed ``margin`` times `required_floor`: with a margin of 2 each step of
    a refinement at least halves the error, with 1 the rounded matrix is just positive definite. For a
    squared-exponential kernel this is the noise. For rougher kernels it is estimated from above by ``steps`` of the
    Lanczos recursion in full precision, so a matrix that passes may still fail, which the status of `cg` then shows.

    Raises:
        LowPrecisionError: The message gives the bound and the remedy.
    """
    bound = margin * required_floor(low.shape[0], low.precision, outputscale=low.outputscale)
    smallest = float(noise.min()) if isinstance(noise, Tensor) else noise
    if smallest >= bound:
        return
    if low.name != "rbf":
        smallest = _smallest_ritz(low.to(low.dtype), noise, steps)
    if smallest < bound:
        msg = (
            f"products in {low.precision} of a {low.name} kernel with n = {low.shape[0]} need a smallest "
            f"eigenvalue of K + noise of {bound:.2g} at least, got {smallest:.2g}: give more noise, a rougher kernel, "
            "or float32 with precision 'full', which refinement brings to float64"
        )
        raise LowPrecisionError(msg)


def _smallest_ritz(operator: Operator, noise: float | Tensor, steps: int) -> float:
    generator = torch.Generator(device=operator.device).manual_seed(0)
    b = torch.randn(operator.shape[0], 1, dtype=operator.dtype, device=operator.device, generator=generator)
    solve = cg(operator, b, noise=noise, tolerance=0.0, max_iterations=steps, reorthogonalise=True)
    diagonal, off = solve.tridiagonals[0]
    return float(torch.linalg.eigvalsh(tridiagonal_matrix(diagonal, off)).min())


def tridiagonal_matrix(diagonal: Tensor, off: Tensor) -> Tensor:
    """The symmetric tridiagonal matrix of a diagonal, with shape (t,), and an off-diagonal, with shape (t - 1,)."""
    return torch.diag(diagonal) + torch.diag(off, 1) + torch.diag(off, -1)


@dataclass(frozen=True, eq=False)
class _Shifted:
    """K + noise and its preconditioner."""

    operator: Operator
    noise: float | Tensor
    preconditioner: Preconditioner | None

    def matmul(self, v: Tensor) -> Tensor:
        return _apply(self.operator, v, self.noise)

    def precondition(self, v: Tensor) -> Tensor:
        return v.clone() if self.preconditioner is None else self.preconditioner.solve(v)


class _Iteration:
    """The vectors of a run for k right-hand sides, scaled to norm one to avoid underflow in float32."""

    def __init__(self, matrix: _Shifted, b: Tensor, start: Tensor | None, reorthogonalise: bool) -> None:
        self.matrix = matrix
        self.x = torch.zeros_like(b) if start is None else start.clone()
        self.r = b.clone() if start is None else b - matrix.matmul(start)
        self.z = matrix.precondition(self.r)
        self.p = self.z.clone()
        self.gamma = (self.r * self.z).sum(0)
        self.steps: list[tuple[Tensor, Tensor, Tensor]] = []
        self.basis: list[tuple[Tensor, Tensor]] | None = [] if reorthogonalise else None

    def advance(self, active: Tensor) -> bool:
        """Makes an iteration of the active columns, or returns False if K + noise is not positive definite.

        That shows as a negative r^T P^-1 r or p^T (K + noise) p, which rounding can also cause.
        """
        ap = self.matrix.matmul(self.p)
        curvature = (self.p * ap).sum(0)
        if not bool(((curvature > 0.0) & (self.gamma > 0.0))[active].all()):
            return False
        if self.basis is not None:
            root = self.gamma.clamp(min=torch.finfo(self.gamma.dtype).tiny).sqrt()
            self.basis.append((self.r / root, self.z / root))
        alpha = torch.where(active, self.gamma / curvature, 0.0)
        self.x += alpha * self.p
        self.r -= alpha * ap
        self._orthogonalise()
        self.z = self.matrix.precondition(self.r)
        gamma = (self.r * self.z).sum(0)
        beta = torch.where(active, gamma / self.gamma, 0.0)
        self.p = self.z + beta * self.p
        self.gamma = gamma
        self.steps.append((alpha, beta, active))
        return True

    def _orthogonalise(self) -> None:
        """Re-orthogonalises residuals in the inner product of P^-1, r_i^T z_j = 0."""
        for r, z in self.basis or ():
            self.r -= r * (z * self.r).sum(0)

    def tridiagonals(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """Diagonal 1 / a_i + b_(i-1) / a_(i-1) and off-diagonal sqrt(b_i) / a_i, in float64, of each column."""
        if not self.steps:
            empty = self.x.new_zeros(0, dtype=torch.float64)
            return tuple((empty, empty) for _ in range(self.x.shape[1]))
        alpha, beta, active = (torch.stack(part).cpu() for part in zip(*self.steps, strict=True))
        return tuple(
            _tridiagonal(alpha[: int(active[:, j].sum()), j].double(), beta[: int(active[:, j].sum()), j].double())
            for j in range(alpha.shape[1])
        )


def _tridiagonal(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    diagonal = 1.0 / alpha
    diagonal[1:] += beta[:-1] / alpha[:-1]
    return diagonal, beta[:-1].clamp(min=0.0).sqrt() / alpha[:-1]


def _stalled(history: list[Tensor], patience: int, active: Tensor) -> bool:
    return len(history) > patience and bool((history[-1] > 0.1 * history[-1 - patience])[active].all())


def _apply(operator: Operator, v: Tensor, noise: float | Tensor) -> Tensor:
    shift = noise.to(v.dtype)[:, None] if isinstance(noise, Tensor) and noise.ndim == 1 else noise
    return operator.matmul(v) + shift * v


def _norms(b: Tensor) -> Tensor:
    """Norms of the columns, with 0 replaced by 1."""
    norms = b.norm(dim=0)
    return torch.where(norms > 0.0, norms, 1.0)
