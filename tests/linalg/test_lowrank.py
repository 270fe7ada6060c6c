from dataclasses import dataclass
from itertools import combinations

import pytest
import torch

from surrogate.linalg.lowrank import pivoted_cholesky
from surrogate.linalg.operators import DenseOperator


@dataclass
class Counted:
    """Access to a stored matrix that counts its columns."""

    matrix: torch.Tensor
    columns: int = 0

    def diag(self):
        return self.matrix.diagonal()

    def column(self, i):
        self.columns += 1
        return self.matrix[:, i]


def matrix(n, rank, *, dtype=torch.float64, device="cpu", seed=0):
    a = torch.randn(n, rank, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (a @ a.T / rank).to(dtype=dtype, device=device)


def obvious_pivots(k, rank):
    """The point with the largest variance given those before it, from the conditional covariance each time."""
    k, pivots = k.double(), []
    for _ in range(rank):
        residual = k
        if pivots:
            residual = k - k[:, pivots] @ torch.linalg.solve(k[pivots][:, pivots], k[pivots])
        variance = residual.diagonal().clone()
        variance[pivots] = -1.0
        pivots.append(int(variance.argmax()))
    return pivots


def test_a_full_factor_reproduces_the_matrix(dtype, device, tolerance):
    k = matrix(25, 40, dtype=dtype, device=device)
    factor, pivots = pivoted_cholesky(DenseOperator(k), 25)
    assert sorted(pivots.tolist()) == list(range(25))
    torch.testing.assert_close(factor @ factor.T, k, **tolerance(10.0))


@pytest.mark.parametrize("rank", [1, 3, 8, 14])
def test_pivots_are_those_of_the_obvious_algorithm(rank):
    k = matrix(30, 45)
    _, pivots = pivoted_cholesky(DenseOperator(k), rank)
    assert pivots.tolist() == obvious_pivots(k, rank)


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_rows_of_the_pivots_are_exact(rank, tolerance):
    """L L^T agrees with K in the columns of the pivots, and nowhere exceeds its diagonal."""
    k = matrix(20, 30)
    factor, pivots = pivoted_cholesky(DenseOperator(k), rank)
    low = factor @ factor.T
    torch.testing.assert_close(low[:, pivots], k[:, pivots], **tolerance())
    assert bool((low.diagonal() <= k.diagonal() * (1 + 1e-12)).all())
    assert torch.linalg.eigvalsh(k - low).min() > -1e-12


def test_the_factor_is_triangular_in_the_order_of_the_pivots():
    factor, pivots = pivoted_cholesky(DenseOperator(matrix(12, 20)), 12)
    torch.testing.assert_close(factor[pivots].triu(1), torch.zeros(12, 12, dtype=factor.dtype), rtol=0, atol=1e-12)


def test_it_stops_at_the_rank_of_the_matrix(tolerance):
    k = matrix(30, 5)
    factor, pivots = pivoted_cholesky(DenseOperator(k), 30)
    assert factor.shape == (30, 5)
    assert len(set(pivots.tolist())) == 5
    torch.testing.assert_close(factor @ factor.T, k, **tolerance())


def test_a_zero_matrix_has_no_pivots():
    factor, pivots = pivoted_cholesky(DenseOperator(torch.zeros(4, 4, dtype=torch.float64)), 3)
    assert factor.shape == (4, 0)
    assert pivots.shape == (0,)


def test_as_many_columns_are_read_as_come_back():
    gram = Counted(matrix(50, 60))
    factor, _ = pivoted_cholesky(gram, 7)
    assert gram.columns == factor.shape[1] == 7


def test_the_matrix_is_left_alone():
    k = matrix(10, 15)
    before = k.clone()
    pivoted_cholesky(DenseOperator(k), 10)
    assert torch.equal(k, before)


def test_pivots_do_not_depend_on_the_scale():
    k = matrix(20, 30)
    assert torch.equal(pivoted_cholesky(DenseOperator(k), 9)[1], pivoted_cholesky(DenseOperator(1e-30 * k), 9)[1])


def test_greedy_determinants_are_near_the_best():
    """Within the factor (k!)^2 of the best subset that Civril & Magdon-Ismail (2009) prove, by trying all of them."""
    k = matrix(9, 12)
    _, pivots = pivoted_cholesky(DenseOperator(k), 3)
    greedy = torch.linalg.det(k[pivots][:, pivots])
    best = max(torch.linalg.det(k[list(s)][:, list(s)]) for s in combinations(range(9), 3))
    assert best / 36 <= greedy <= best * (1 + 1e-12)


@pytest.mark.parametrize("rank", [0, -1, 6])
def test_a_rank_outside_of_the_matrix_is_refused(rank):
    with pytest.raises(ValueError, match=rf"rank must be in 1\.\.5, got {rank}"):
        pivoted_cholesky(DenseOperator(matrix(5, 5)), rank)
