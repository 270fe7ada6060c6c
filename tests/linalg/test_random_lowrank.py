import pytest
import torch

from surrogate.linalg.lowrank import (
    LowRank,
    accelerated_cholesky,
    column_nystrom,
    nystrom_sketch,
    random_cholesky,
    randomised_svd,
    uniform_pivots,
)
from surrogate.linalg.operators import DenseOperator, FeatureOperator, KernelOperator
from tests.linalg.problems import clustered, log_posterior, normal, seeded

CHOLESKY = {
    "one by one": random_cholesky,
    "blocks": lambda *a, **k: random_cholesky(*a, block=7, **k),
    "accelerated": accelerated_cholesky,
}
FACTORS = CHOLESKY | {
    "uniform": lambda k, rank, *, generator: column_nystrom(k, uniform_pivots(k.shape[0], rank, generator=generator)),
    "sketch": nystrom_sketch,
}


@pytest.fixture(scope="module")
def smooth():
    return DenseOperator(KernelOperator.of("rbf", log_posterior(1000)[0], lengthscale=1.5).dense())


@pytest.fixture(scope="module")
def unequal():
    return DenseOperator(KernelOperator.of("rbf", clustered(2500)).dense())


def trace_error(operator, low_rank):
    return float((operator.diag() - low_rank.factor.square().sum(1)).sum())


def mean_error(operator, rank, method, repeats):
    return sum(trace_error(operator, method(operator, rank, generator=seeded(s))) for s in range(repeats)) / repeats


@pytest.mark.parametrize("name", FACTORS)
def test_a_factor_of_full_rank_is_exact(name, dtype, device, tolerance):
    k = FeatureOperator(normal(60, 9, dtype=dtype, device=device))
    factor = FACTORS[name](k, 60, generator=seeded(device=device)).factor
    torch.testing.assert_close(factor @ factor.T, k.columns(torch.arange(60)), **tolerance(100.0))


@pytest.mark.parametrize("name", FACTORS)
def test_no_factor_exceeds_the_matrix(name, smooth):
    factor = FACTORS[name](smooth, 40, generator=seeded()).factor
    assert factor.shape == (1000, 40)
    assert float(torch.linalg.eigvalsh(smooth.matrix - factor @ factor.T)[0]) > -1e-10


@pytest.mark.parametrize("name", CHOLESKY)
def test_columns_of_the_pivots_are_exact(name, smooth):
    low_rank = CHOLESKY[name](smooth, 30, generator=seeded())
    assert len(low_rank.pivots.unique()) == 30
    close = {"rtol": 1e-7, "atol": 1e-9}
    torch.testing.assert_close(
        low_rank.factor @ low_rank.factor[low_rank.pivots].T, smooth.columns(low_rank.pivots), **close
    )
    nystrom = column_nystrom(smooth, low_rank.pivots).factor
    torch.testing.assert_close(nystrom @ nystrom.T, low_rank.factor @ low_rank.factor.T, **close)


@pytest.mark.parametrize("name", CHOLESKY)
def test_going_on_keeps_the_first_columns(name, smooth):
    first = CHOLESKY[name](smooth, 20, generator=seeded())
    more = CHOLESKY[name](smooth, 50, generator=seeded(1), start=first)
    assert torch.equal(more.factor[:, :20], first.factor)
    assert torch.equal(more.pivots[:20], first.pivots)
    assert trace_error(smooth, more) < 0.5 * trace_error(smooth, first)


@pytest.mark.parametrize("name", CHOLESKY)
def test_repeated_points_end_early(name):
    x = normal(12, 3).repeat(5, 1)
    low_rank = CHOLESKY[name](KernelOperator.of("matern12", x), 60, generator=seeded())
    assert low_rank.factor.shape == (60, 12)
    torch.testing.assert_close(low_rank.factor.square().sum(1), torch.ones(60, dtype=torch.float64))


@pytest.mark.parametrize("method", [random_cholesky, accelerated_cholesky])
def test_the_law_of_two_pivots(method):
    """P(i, j) = d_i / sum d * d_j|i / sum d_.|i, over 600 draws, within five standard errors."""
    f = normal(5, 5) * torch.tensor([2.0, 1.0, 1.0, 0.5, 0.3], dtype=torch.float64)[:, None]
    k = f @ f.T
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for i in range(5):
        conditional = (k.diagonal() - k[:, i].square() / k[i, i]).clamp(min=0.0)
        conditional[i] = 0.0
        expected[i] = k[i, i] / k.trace() * conditional / conditional.sum()
    generator, counts, draws = seeded(3), torch.zeros(5, 5, dtype=torch.float64), 600
    for _ in range(draws):
        i, j = method(DenseOperator(k), 2, generator=generator, block=1 if method is random_cholesky else 3).pivots
        counts[i, j] += 1
    error = (expected * (1.0 - expected) / draws).sqrt()
    assert ((counts / draws - expected).abs() <= 5.0 * error + 1e-12).all()


@pytest.mark.slow
def test_random_pivots_are_near_the_best_and_uniform_ones_are_not(unequal):
    """Of 2,500 points in 20 clusters with 60 outliers.

    At k = 50, fewer columns than clusters and outliers, random pivots leave 1.17 times the best trace and uniform ones
    8 times; at k = 200 uniform ones still miss outliers and leave 32,000 times what random ones do.
    """
    values = torch.linalg.eigvalsh(unequal.matrix).flip(0)
    simple, accelerated = (mean_error(unequal, 50, m, 20) for m in (random_cholesky, accelerated_cholesky))
    assert simple <= 2.5 * float(values[50:].sum())
    assert abs(accelerated / simple - 1.0) < 0.1
    assert mean_error(unequal, 50, FACTORS["uniform"], 3) > 5.0 * simple
    assert mean_error(unequal, 200, FACTORS["uniform"], 3) > 10.0 * mean_error(unequal, 200, random_cholesky, 3)


def test_the_sketched_eigenvalues_are_those_of_the_matrix(smooth):
    values = torch.linalg.eigvalsh(smooth.matrix).flip(0)
    factor = nystrom_sketch(smooth, 40, generator=seeded(), powers=1).factor
    assert ((values[:40] - factor.square().sum(0)).abs() <= values[40]).all()
    assert float(torch.linalg.matrix_norm(smooth.matrix - factor @ factor.T, 2)) <= 1.05 * float(values[40])
    rough = nystrom_sketch(smooth, 40, generator=seeded()).factor
    assert float(torch.linalg.matrix_norm(smooth.matrix - rough @ rough.T, 2)) <= 5.0 * float(values[40])


@pytest.mark.parametrize(("powers", "bound"), [(0, 5.0), (1, 1.05), (2, 1.05), (7, 1.05)])
def test_the_error_of_a_randomised_svd(powers, bound, smooth):
    """In units of the first singular value left out; without normalisation it would be 40 at two powers."""
    u, s, v = randomised_svd(smooth, 40, generator=seeded(), powers=powers)
    values = torch.linalg.eigvalsh(smooth.matrix).flip(0)
    assert float(torch.linalg.matrix_norm(smooth.matrix - (u * s) @ v.T, 2)) <= bound * float(values[40])


def test_a_randomised_svd_of_a_rectangle(dtype, device, tolerance):
    a = normal(50, 6, dtype=dtype, device=device) @ normal(6, 30, seed=1, dtype=dtype, device=device)
    u, s, v = randomised_svd(DenseOperator(a), 6, generator=seeded(device=device))
    torch.testing.assert_close((u * s) @ v.T, a, **tolerance(10.0))
    torch.testing.assert_close(s, torch.linalg.svdvals(a)[:6], **tolerance(10.0))
    eye = torch.eye(6, dtype=dtype, device=device)
    torch.testing.assert_close(u.T @ u, eye, **tolerance())
    torch.testing.assert_close(v.T @ v, eye, **tolerance())


def test_misuse_says_what_was_expected(smooth):
    with pytest.raises(ValueError, match=r"rank must be in 1\.\.1000 and block positive, got 0 and 1"):
        random_cholesky(smooth, 0, generator=seeded())
    with pytest.raises(ValueError, match="start must have pivots"):
        random_cholesky(smooth, 5, generator=seeded(), start=LowRank(smooth.matrix[:, :2], None))
    with pytest.raises(ValueError, match=r"rank must be in 1\.\.1000, got 1001"):
        nystrom_sketch(smooth, 1001, generator=seeded())
