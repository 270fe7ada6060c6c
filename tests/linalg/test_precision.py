import pytest
import torch

from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.precision import PRECISIONS, LowPrecisionError, product, required_floor, rounded
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import cg, refine, require_floor, residual_norms
from tests.linalg.problems import log_posterior, normal, seeded

LOW = [name for name in PRECISIONS if name != "full"]


@pytest.fixture(scope="module")
def problem():
    return log_posterior(1000)


def preconditioned(kernel, x, noise):
    operator = KernelOperator.of(kernel, x, lengthscale=1.5)
    return operator, NystromPreconditioner.build(operator, noise, rank=100, generator=seeded())


@pytest.mark.parametrize("precision", LOW)
def test_entries_are_rounded_to_the_unit_of_the_precision(precision):
    values = torch.rand(10_000, dtype=torch.float32, generator=seeded()) + 0.5
    error = ((rounded(values, precision) - values) / values).abs().max()
    assert 0.5 * PRECISIONS[precision] < error <= PRECISIONS[precision]


def test_tf32_keeps_ten_bits_of_the_mantissa():
    exact = 1.0 + torch.arange(1024) / 1024.0
    assert torch.equal(rounded(exact, "tf32"), exact)
    assert float(rounded(torch.tensor(1.0 + 2.0**-11 + 2.0**-20), "tf32")) == 1.0 + 2.0**-10


@pytest.mark.parametrize("precision", LOW)
def test_products_are_off_by_the_rounding_of_their_factors(precision, device):
    a, b = torch.rand(200, 300, generator=seeded()), 1e9 * normal(300, 3, dtype=torch.float32)
    out = product(a.to(device), b.to(device), precision).cpu()
    error = (out.double() - a.double() @ b.double()).abs()
    bound = 3.0 * PRECISIONS[precision] * (a.double() @ b.abs().double() + b.abs().amax(0).double())
    assert error.max() > 0
    assert (error <= bound).all()


@pytest.mark.parametrize("n", [250, 500, 1000])
def test_a_rounded_kernel_is_off_by_the_random_matrix_law(n, problem):
    """The norm of the rounding is 2 / sqrt(12) u sqrt(n) for entries in [1/2, 1): 0.56 to 0.58 here."""
    k = KernelOperator.of("rbf", problem[0][:n], lengthscale=1.5).dense()
    norm = torch.linalg.matrix_norm(rounded(k, "float16") - k, 2)
    assert 0.5 / 0.6 * required_floor(n, "float16") < norm <= required_floor(n, "float16")


@pytest.mark.parametrize("kernel", ["rbf", pytest.param("matern12", marks=pytest.mark.slow)])
@pytest.mark.parametrize("noise", [1e-2, 1e-4])
def test_float32_reaches_float64_by_refinement(kernel, noise, problem):
    x, y = problem
    operator, preconditioner = preconditioned(kernel, x, noise)
    solve = refine(operator, y, low=operator.to(torch.float32), noise=noise, preconditioner=preconditioner)
    assert solve.converged
    assert solve.corrections <= 8
    assert float(residual_norms(operator, solve.x, y, noise=noise)) <= 1e-7
    low = operator.to(torch.float32)
    inner = preconditioner.to(torch.float32)
    plain = cg(low, y.float(), noise=noise, preconditioner=inner, tolerance=1e-7, max_iterations=60)
    assert float(residual_norms(operator, plain.x.double(), y, noise=noise)) > 1e-6


@pytest.mark.parametrize("noise", [1e-2, pytest.param(1e-4, marks=pytest.mark.slow)])
def test_float16_reaches_float64_on_a_rough_kernel(noise, problem):
    x, y = problem
    operator, preconditioner = preconditioned("matern12", x, noise)
    low = operator.to(torch.float32, precision="float16")
    solve = refine(operator, y, low=low, noise=noise, preconditioner=preconditioner)
    assert solve.converged
    assert solve.corrections <= 12
    assert float(residual_norms(operator, solve.x, y, noise=noise)) <= 1e-7


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("noise", [1e-2, 1e-4])
def test_low_precision_is_refused_on_a_smooth_kernel(precision, noise, problem):
    x, y = problem
    operator = KernelOperator.of("rbf", x, lengthscale=1.5)
    with pytest.raises(LowPrecisionError, match=rf"products in {precision} of a rbf kernel with n = 1000 need .* got"):
        refine(operator, y, low=operator.to(torch.float32, precision=precision), noise=noise)


def test_the_bound_is_where_the_rounded_matrix_turns_indefinite(problem):
    operator = KernelOperator.of("rbf", problem[0], lengthscale=1.5)
    smallest = float(torch.linalg.eigvalsh(rounded(operator.dense(), "float16"))[0])
    bound = required_floor(1000, "float16")
    assert -bound <= smallest < -0.5 * bound
    require_floor(operator.to(torch.float32, precision="float16"), 2.0 * bound)


def test_enough_noise_or_full_precision_is_accepted(problem):
    operator = KernelOperator.of("rbf", problem[0], lengthscale=1.5, outputscale=4.0)
    require_floor(operator.to(torch.float32), 1e-9)
    with pytest.raises(LowPrecisionError):
        require_floor(operator.to(torch.float32, precision="float16"), 2.0 * required_floor(1000, "float16"))
    require_floor(operator.to(torch.float32, precision="float16"), 8.0 * required_floor(1000, "float16"))
