"""Low-rank factors of positive semi-definite matrices, from a few columns or products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

__all__ = [
    "BlockAccess",
    "ColumnAccess",
    "LowRank",
    "Product",
    "accelerated_cholesky",
    "column_nystrom",
    "nystrom_sketch",
    "pivoted_cholesky",
    "random_cholesky",
    "randomised_svd",
    "uniform_pivots",
]


class ColumnAccess(Protocol):
    """A symmetric matrix K with shape (n, n), accessed by its diagonal and columns."""

    def diag(self) -> Tensor:
        """Diagonal, with shape (n,)."""

    def column(self, i: int) -> Tensor:
        """Column i, with shape (n,)."""


class BlockAccess(ColumnAccess, Protocol):
    """Access to several columns at once, as randomised factorisations need it."""

    def columns(self, index: Tensor) -> Tensor:
        """The columns with these indices, with shape (n, len(index))."""

    def submatrix(self, index: Tensor) -> Tensor:
        """The block of rows and columns with these indices, with shape (len(index), len(index))."""


class LinearMap(Protocol):
    """A matrix with shape (n, m) that multiplies others."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of the entries, and of the vectors that it can multiply."""

    @property
    def device(self) -> torch.device:
        """Device of the entries."""

    def matmul(self, v: Tensor) -> Tensor:
        """The product, with shape (n, k), with v, with shape (m, k)."""


class Product(LinearMap, Protocol):
    """A matrix with shape (n, m), symmetric or not, accessed by products."""

    def transpose(self) -> Product:
        """The transposed matrix."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """A factor F of a positive semi-definite matrix, F F^T ~ K.

    Attributes:
        factor: With shape (n, k).
        pivots: Pivots: rows and columns in which F F^T equals K. None if the factor was made from products.
    """

    factor: Tensor
    pivots: Tensor | None


def pivoted_cholesky(gram: ColumnAccess, rank: int, *, tolerance: float = 1e-12) -> tuple[Tensor, Tensor]:
    """Partial Cholesky factor of K with greedy pivots, L L^T ~ K.

    The pivots are the greedy maximiser of the determinant of K[pivots, pivots]: each is the point with the largest
    variance given those before it. Stops early if the largest remaining variance falls below ``tolerance`` times the
    initial largest, so fewer columns may be returned. Costs ``rank`` columns of K and O(n rank^2) further operations.

    Args:
        gram: Access to K, positive semi-definite (not checked).
        rank: Number of columns k, in 1..n.
        tolerance: Relative variance at which K counts as exhausted.

    Returns:
        The factor, with shape (n, k), and the pivots, with shape (k,).

    Raises:
        ValueError: If ``rank`` is not in 1..n.

    References:
        Harbrecht, Peters & Schneider (2012), doi:10.1016/j.apnum.2011.10.001
    """
    residual = gram.diag().clone()
    n = len(residual)
    if not 1 <= rank <= n:
        msg = f"rank must be in 1..{n}, got {rank}"
        raise ValueError(msg)
    factor = residual.new_zeros(n, rank)
    pivots: list[int] = []
    floor = tolerance * float(residual.max())
    for k in range(rank):
        i = int(residual.argmax())
        variance = float(residual[i])
        if not variance > floor:
            break
        column = gram.column(i) - factor[:, :k] @ factor[i, :k]
        factor[:, k] = column / variance**0.5
        residual = (residual - factor[:, k].square()).clamp_(min=0.0)
        residual[i] = 0.0
        pivots.append(i)
    return factor[:, : len(pivots)], torch.tensor(pivots, dtype=torch.int64, device=residual.device)


def random_cholesky(
    gram: BlockAccess,
    rank: int,
    *,
    generator: torch.Generator,
    block: int = 1,
    start: LowRank | None = None,
    tolerance: float = 1e-13,
) -> LowRank:
    """Randomly pivoted Cholesky factor of K: each pivot is drawn in proportion to the remaining diagonal.

    The expected trace of the error is within 1 + eps of that of the best factor of rank r once k exceeds about r / eps
    + r log(1 / eps); greedy pivots have no such bound and tend to be outliers, uniform ones miss small clusters. Costs
    ``rank`` columns of K and O(n rank^2). Stops early, with fewer columns, if the remaining trace falls below
    ``tolerance`` times that of K.

    Args:
        gram: Access to K, positive semi-definite (not checked).
        rank: Columns of the factor, including those of ``start``, in 1..n.
        generator: Random generator, on the device of K.
        block: Number of pivots drawn at once from the same distribution, which replaces many products by one but may
            give nearly redundant pivots; `accelerated_cholesky` rejects those.
        start: A factor with pivots to extend.
        tolerance: Relative trace at which K counts as exhausted; not below 4 units of rounding.

    Raises:
        ValueError: If ``rank`` is not in 1..n, ``block`` is not positive, or ``start`` has no pivots.

    References:
        Chen, Epperly, Tropp & Webber (2022), arXiv:2207.06503. Their block variant adds a multiple of the identity;
        here pivots that depend on others of their block are left out.
    """
    work = _Partial(gram, rank, block, start)
    while work.unfinished(tolerance):
        proposals = torch.unique(work.draw(min(block, rank - work.count), generator))
        work.append(proposals, threshold=1e-10 * work.residual[proposals])
    return work.result()


_LARGEST_BLOCK = 256  # limit, because proposals are thinned one by one with an update of the block


def accelerated_cholesky(
    gram: BlockAccess,
    rank: int,
    *,
    generator: torch.Generator,
    block: int = 32,
    start: LowRank | None = None,
    tolerance: float = 1e-13,
) -> LowRank:
    """A factor with the distribution of `random_cholesky`, by blocks of thinned proposals.

    Proposals are drawn from the remaining diagonal before the block. Each is accepted with a probability equal to the
    ratio of its diagonal after earlier proposals to that before the block, so accepted ones are distributed as if drawn
    one by one. Only accepted columns are computed. The block size is halved if more than half are rejected, and doubled
    if fewer than one in eight are.

    Args:
        gram: Access to K, positive semi-definite (not checked).
        rank: Columns of the factor, including those of ``start``, in 1..n.
        generator: Random generator, on the device of K.
        block: Proposals in the first block.
        start: A factor with pivots to extend.
        tolerance: Relative trace at which K counts as exhausted; not below 4 units of rounding.

    Raises:
        ValueError: If ``rank`` is not in 1..n, ``block`` is not positive, or ``start`` has no pivots.

    References:
        Epperly, Tropp & Webber (2024), arXiv:2410.03969. They choose the block size by timings.
    """
    work = _Partial(gram, rank, block, start)
    while work.unfinished(tolerance):
        proposals = work.draw(block, generator)
        uniform = torch.rand(block, dtype=torch.float64, device=proposals.device, generator=generator)
        accepted = work.append(proposals, threshold=uniform * work.residual[proposals])
        if 2 * accepted < block:
            block = max(1, block // 2)
        elif 8 * accepted > 7 * block:
            block = min(2 * block, rank, _LARGEST_BLOCK)
    return work.result()


class _Partial:
    """A growing partial Cholesky factor: its columns, pivots and the remaining diagonal."""

    def __init__(self, gram: BlockAccess, rank: int, block: int, start: LowRank | None) -> None:
        diagonal = gram.diag()
        n = len(diagonal)
        if not 1 <= rank <= n or block < 1:
            msg = f"rank must be in 1..{n} and block positive, got {rank} and {block}"
            raise ValueError(msg)
        if start is not None and start.pivots is None:
            msg = "start must have pivots, got a factor made by a sketch"
            raise ValueError(msg)
        self.gram, self.rank, self.count = gram, rank, 0
        self.factor = diagonal.new_zeros(n, rank)
        self.pivots = torch.empty(0, dtype=torch.int64, device=diagonal.device)
        self.trace = float(diagonal.sum())
        self.residual = diagonal.double()
        if start is not None and start.pivots is not None:
            self._extend(start.factor[:, :rank], start.pivots)

    def unfinished(self, tolerance: float) -> bool:
        floor = max(tolerance, 4.0 * torch.finfo(self.factor.dtype).eps) * self.trace
        return self.count < self.rank and float(self.residual.sum()) > floor

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices drawn in proportion to the remaining diagonal; torch.multinomial allows only 2^24 categories."""
        cumulative = self.residual.cumsum(0)
        u = torch.rand(count, dtype=torch.float64, device=cumulative.device, generator=generator)
        return torch.searchsorted(cumulative, u * cumulative[-1], right=True).clamp_(max=len(cumulative) - 1)

    def append(self, proposals: Tensor, *, threshold: Tensor) -> int:
        """Adds the proposals whose variance, given those before them, exceeds their threshold; returns their number."""
        rows = self.factor[proposals, : self.count]
        residual = (self.gram.submatrix(proposals) - rows @ rows.T).double().cpu()
        kept, triangle = _independent_columns(residual, threshold.cpu(), self.rank - self.count)
        if len(kept) == 0:
            return 0
        chosen = proposals[kept.to(proposals.device)]
        columns = self.gram.columns(chosen) - self.factor[:, : self.count] @ self.factor[chosen, : self.count].T
        triangle = triangle.to(columns)
        self._extend(torch.linalg.solve_triangular(triangle, columns.T, upper=False).T, chosen)
        return len(chosen)

    def _extend(self, columns: Tensor, pivots: Tensor) -> None:
        self.factor[:, self.count : self.count + columns.shape[1]] = columns
        self.residual = (self.residual - columns.double().square().sum(1)).clamp_(min=0.0)
        self.residual[pivots] = 0.0  # rounding could leave some variance, and draw them again
        self.pivots = torch.cat([self.pivots, pivots])
        self.count += columns.shape[1]

    def result(self) -> LowRank:
        return LowRank(self.factor[:, : self.count], self.pivots)


def _independent_columns(residual: Tensor, threshold: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Indices of independent columns, at most ``most``, and the Cholesky factor of the matrix restricted to them."""
    kept: list[int] = []
    working = residual.clone()
    for j in range(len(working)):
        variance = float(working[j, j])
        if len(kept) < most and variance > max(float(threshold[j]), 0.0):
            working -= torch.outer(working[:, j], working[:, j]) / variance
            kept.append(j)
    index = torch.tensor(kept, dtype=torch.int64)
    return index, torch.linalg.cholesky(residual[index][:, index])


def uniform_pivots(n: int, rank: int, *, generator: torch.Generator) -> Tensor:
    """Distinct rows drawn uniformly, with shape (rank,); a baseline, poor for clustered data."""
    return torch.randperm(n, generator=generator, device=generator.device)[:rank]


def column_nystrom(gram: BlockAccess, pivots: Tensor) -> LowRank:
    """The Nystrom factor F = K[:, S] K[S, S]^(-1/2) of given pivots S.

    Directions of K[S, S] with eigenvalues below k rounding units of the largest are left out, so there are fewer
    columns than pivots if the pivots are dependent. Costs O(n k^2).
    """
    values, vectors = torch.linalg.eigh(gram.submatrix(pivots).double())
    kept = values > len(pivots) * torch.finfo(gram.diag().dtype).eps * values[-1]
    whitening = (vectors[:, kept] / values[kept].sqrt()).to(gram.diag().dtype)
    return LowRank(gram.columns(pivots) @ whitening, pivots)


def nystrom_sketch(
    operator: Product, rank: int, *, generator: torch.Generator, oversampling: int = 10, powers: int = 0
) -> LowRank:
    """The Nystrom factor of a positive semi-definite K from products with a random matrix.

    Use it if products are cheap but columns are not. F has orthogonal columns, whose squared norms approximate the
    largest eigenvalues of K and whose directions approximate the eigenvectors. K is shifted by sqrt(n) rounding units
    for the factorisation. Costs (powers + 1) products with rank + oversampling columns.

    Args:
        operator: K, with shape (n, n).
        rank: Columns of the factor.
        generator: Random generator, on the device of K.
        oversampling: Additional columns of the sketch.
        powers: Normalised products before the sketch, for slowly decaying spectra.

    Raises:
        ValueError: If ``rank`` is not in 1..n.

    References:
        Halko, Martinsson & Tropp (2011), doi:10.1137/090771806, section 5.4; Tropp, Yurtsever, Udell & Cevher (2017),
        arXiv:1706.05736, algorithm 3
    """
    omega = _test_matrix(operator, rank, oversampling, generator)
    for _ in range(powers):
        omega = torch.linalg.qr(operator.matmul(omega)).Q
    y = operator.matmul(omega)
    shift = len(y) ** 0.5 * torch.finfo(y.dtype).eps * float(torch.linalg.matrix_norm(y))
    y = y + shift * omega
    inner = omega.T @ y
    triangle = torch.linalg.cholesky(0.5 * (inner + inner.T))
    u, s, _ = torch.linalg.svd(torch.linalg.solve_triangular(triangle, y.T, upper=False).T, full_matrices=False)
    return LowRank(u[:, :rank] * (s[:rank].square() - shift).clamp(min=0.0).sqrt(), None)


def randomised_svd(
    operator: Product, rank: int, *, generator: torch.Generator, oversampling: int = 10, powers: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """The leading singular vectors and values of A, with shape (n, m), from products, A ~ U diag(s) V^T.

    Each power is normalised by a QR factorisation. Otherwise rounding destroys all but the first direction: for a fast
    decaying spectrum the error at two powers was 40 times the optimum. Costs 2 powers + 2 products with rank +
    oversampling columns and O((n + m) rank^2).

    Args:
        operator: A, with a method ``transpose``.
        rank: Number k of triplets.
        generator: On the device of A.
        oversampling: Additional columns of the sketch.
        powers: Number of products with A A^T; one makes the error nearly optimal.

    Returns:
        U with shape (n, k), s with shape (k,), in descending order, and V with shape (m, k).

    Raises:
        ValueError: If ``rank`` is not in 1..min(n, m).

    References:
        Halko, Martinsson & Tropp (2011), doi:10.1137/090771806, algorithms 4.4 and 5.1
    """
    transposed = operator.transpose()
    q = torch.linalg.qr(operator.matmul(_test_matrix(operator, rank, oversampling, generator))).Q
    for _ in range(powers):
        q = torch.linalg.qr(transposed.matmul(q)).Q
        q = torch.linalg.qr(operator.matmul(q)).Q
    u, s, vh = torch.linalg.svd(transposed.matmul(q).T, full_matrices=False)
    return (q @ u)[:, :rank], s[:rank], vh[:rank].T


def _test_matrix(operator: Product, rank: int, oversampling: int, generator: torch.Generator) -> Tensor:
    """Orthonormal columns of a random subspace: at most as many as fit."""
    n, m = operator.shape
    if not 1 <= rank <= min(n, m):
        msg = f"rank must be in 1..{min(n, m)}, got {rank}"
        raise ValueError(msg)
    count = min(rank + oversampling, n, m)
    omega = torch.randn(m, count, dtype=operator.dtype, device=operator.device, generator=generator)
    return torch.linalg.qr(omega).Q
