"""Kernels given that some values are about to be known."""

import torch

from surrogate.linalg.composed import conditioned
from surrogate.linalg.operators import DenseOperator
from surrogate.selection.selection import max_det


def random_kernel(n, rng):
    factor = torch.as_tensor(rng.standard_normal((n, n + 3)))
    return factor @ factor.T


def test_is_the_schur_complement(rng):
    kernel, k = random_kernel(9, rng), 4
    gram = conditioned(DenseOperator(kernel), k)
    exact = kernel[k:, k:] - kernel[k:, :k] @ torch.linalg.solve(kernel[:k, :k], kernel[:k, k:])
    torch.testing.assert_close(gram.diag(), exact.diagonal(), rtol=1e-6, atol=1e-7)
    columns = torch.stack([gram.column(i) for i in range(5)], 1)
    torch.testing.assert_close(columns, exact, rtol=1e-6, atol=1e-7)


def test_what_is_known_twice_is_known(rng):
    kernel = random_kernel(5, rng)
    index = [0, 0, 1, 2, 3, 4]
    gram = conditioned(DenseOperator(kernel[index][:, index]), 2)
    assert torch.all(gram.diag() >= 0)
    assert torch.all(torch.isfinite(gram.column(0)))


def test_a_batch_goes_on_where_the_pending_points_left_off(rng):
    """Choosing three, and then two more given these, is choosing five."""
    kernel = random_kernel(12, rng)
    all_five = max_det(DenseOperator(kernel), 5).tolist()
    order = all_five[:3] + list(range(12))
    gram = conditioned(DenseOperator(kernel[order][:, order]), 3)
    assert max_det(gram, 2).tolist() == all_five[3:]
