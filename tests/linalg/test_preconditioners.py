import pytest
import torch

from surrogate.linalg.lowrank import LowRank, accelerated_cholesky
from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.preconditioners import DiagonalPreconditioner, NystromPreconditioner
from tests.linalg.problems import log_posterior, normal, seeded

N, RANK = 200, 30


def variances(kind):
    return 1e-3 if kind == "equal" else 1e-3 * torch.exp(normal(N, seed=5))


def nystrom(kind):
    return NystromPreconditioner.of(normal(N, RANK) / RANK**0.5, variances(kind))


INSTANCES = {
    "equal": lambda: nystrom("equal"),
    "unequal": lambda: nystrom("unequal"),
    "diagonal": lambda: DiagonalPreconditioner(torch.exp(normal(N, seed=5))),
}


def matrix_of(preconditioner):
    if isinstance(preconditioner, DiagonalPreconditioner):
        return torch.diag(preconditioner.diagonal)
    f = preconditioner.factor.factor
    return f @ f.T + torch.diag(preconditioner.noise)


@pytest.fixture(params=INSTANCES)
def preconditioner(request):
    return INSTANCES[request.param]()


def test_solves_and_determinants_are_those_of_the_matrix(preconditioner):
    p, v = matrix_of(preconditioner), normal(N, 3, seed=1)
    torch.testing.assert_close(preconditioner.solve(v), torch.linalg.solve(p, v), rtol=1e-9, atol=1e-9)
    assert preconditioner.logdet() == pytest.approx(float(torch.logdet(p)), rel=1e-12)


def test_draws_have_the_covariance(preconditioner):
    """Of 20,000 draws; the sd of an entry is sqrt((p_ii p_jj + p_ij^2) / count), 6 of them for 20,100 entries."""
    p, count = matrix_of(preconditioner), 20_000
    z = preconditioner.sample(count, generator=seeded(7))
    error = ((p.diagonal()[:, None] * p.diagonal() + p.square()) / count).sqrt()
    assert ((z @ z.T / count - p).abs() <= 6.0 * error).all()


def test_the_inverse_diagonal_is_that_of_the_matrix():
    preconditioner = nystrom("unequal")
    expected = torch.linalg.inv(matrix_of(preconditioner)).diagonal()
    torch.testing.assert_close(preconditioner.inverse_diag(), expected, rtol=1e-9, atol=1e-9)


def test_solves_are_stable_where_the_normal_equations_are_not():
    """Eigenvalues of F F^T from 1e4 to 1e-10 over a noise of 1e-10: F^T F + noise would lose the last."""
    q = torch.linalg.qr(normal(N, 8)).Q
    scales = torch.logspace(4, -10, 8, dtype=torch.float64)
    preconditioner = NystromPreconditioner.of(q * scales.sqrt(), 1e-10)
    v = normal(N, seed=2)
    inside = q.T @ v
    expected = q @ (inside / (scales + 1e-10)) + (v - q @ inside) / 1e-10
    assert float((preconditioner.solve(v) - expected).norm() / expected.norm()) < 1e-8
    torch.testing.assert_close(
        q[:, 0] @ preconditioner.solve(q[:, 0]), 1.0 / scales[0].new_tensor(1e4), rtol=0, atol=1e-5
    )


def test_the_largest_eigenvectors_are_solved_for_in_float32():
    """An eigenvalue 1e8 times the noise: one rounding left in its direction would be 10 times the solution."""
    q = torch.linalg.qr(normal(N, 8)).Q
    scales = torch.logspace(4, -3, 8, dtype=torch.float64)
    preconditioner = NystromPreconditioner.of((q * scales.sqrt()).float(), 1e-4)
    solved = torch.stack([preconditioner.solve(column.float()).double() for column in q.T], 1)
    along = (q * solved).sum(0)
    torch.testing.assert_close(along, 1.0 / (scales + 1e-4), rtol=1e-3, atol=0.0)


def test_the_complement_makes_the_inverse():
    preconditioner = nystrom("unequal")
    w = preconditioner.complement()
    expected = torch.linalg.inv(matrix_of(preconditioner))
    torch.testing.assert_close(torch.diag(1.0 / preconditioner.noise) - w @ w.T, expected, rtol=1e-9, atol=1e-7)


def test_growing_is_more_of_the_same_and_ends_where_the_kernel_does():
    operator = KernelOperator.of("rbf", log_posterior(N)[0])
    small = NystromPreconditioner.build(operator, 1e-2, rank=10, generator=seeded())
    large = small.grow(operator, 40, generator=seeded(1))
    assert (small.rank, large.rank) == (10, 40)
    assert torch.equal(large.factor.factor[:, :10], small.factor.factor)
    exact = float(torch.logdet(operator.dense() + 1e-2 * torch.eye(N, dtype=torch.float64)))
    assert exact - large.logdet() < 0.5 * (exact - small.logdet())
    assert NystromPreconditioner.build(operator, 1e-2, rank=10 * N, generator=seeded()).rank <= N


def test_a_copy_in_another_dtype_solves_alike():
    single = nystrom("equal").to(torch.float32)
    v = normal(N, 2, seed=3)
    torch.testing.assert_close(single.solve(v.float()).double(), nystrom("equal").solve(v), rtol=1e-3, atol=1e-1)


def test_noise_must_be_positive():
    factor = accelerated_cholesky(KernelOperator.of("rbf", normal(N, 2)), 5, generator=seeded())
    with pytest.raises(ValueError, match=r"noise variance must be positive, got 0\.0"):
        NystromPreconditioner.of(factor, 0.0)
    assert isinstance(NystromPreconditioner.of(factor.factor, 1.0).factor, LowRank)
