import math

import pytest
import torch
from sklearn.gaussian_process.kernels import Matern

from surrogate.linalg.operators import DenseOperator, FeatureOperator, KernelOperator
from surrogate.linalg.stationary import CORRELATIONS, squared_difference, squared_distance
from tests.linalg.problems import normal, seeded

N, D = 90, 4
LENGTHSCALE = (0.7, 1.1, 2.0, 3.0)


def kernel_operator(kind, *, block=32, dtype=torch.float64, device="cpu", seed=0):
    x = normal(N, D, seed=seed, device=device)
    return KernelOperator.of(
        kind, x, lengthscale=torch.tensor(LENGTHSCALE, dtype=torch.float64), outputscale=2.5, block=block, dtype=dtype
    )


def obvious(kind, a, b, outputscale=2.5, lengthscale=LENGTHSCALE):
    """The kernel matrix from differences, entry by entry."""
    difference = (a[:, None] - b[None]) / torch.as_tensor(lengthscale, dtype=a.dtype, device=a.device)
    return outputscale * CORRELATIONS[kind].correlation(difference.square().sum(-1))


OPERATORS = {
    "dense": lambda **kind: DenseOperator((lambda f: f @ f.T)(normal(N, 12, **kind))),
    "features": lambda **kind: FeatureOperator(normal(N, 12, **kind)),
    **{
        f"{name} tiles of {block}": lambda name=name, block=block, **kind: kernel_operator(name, block=block, **kind)
        for name in CORRELATIONS
        for block in (32, 45, 1000)
    },
    "rectangular": lambda **kind: kernel_operator("matern32", **kind).to_columns(torch.arange(3, 20)),
}


@pytest.fixture(params=OPERATORS)
def operator(request, dtype, device):
    return OPERATORS[request.param](dtype=dtype, device=device)


def matrix_of(operator):
    return operator.columns(torch.arange(operator.shape[1], device=operator.device))


def test_products_are_those_of_the_matrix(operator, tolerance):
    n, m = operator.shape
    v = normal(m, 3, seed=1, dtype=operator.dtype, device=operator.device)
    torch.testing.assert_close(operator.matmul(v), matrix_of(operator) @ v, **tolerance())
    torch.testing.assert_close(operator.matmul(v[:, 0]), matrix_of(operator) @ v[:, 0], **tolerance())
    w = normal(n, 2, seed=2, dtype=operator.dtype, device=operator.device)
    torch.testing.assert_close(operator.transpose().matmul(w), matrix_of(operator).T @ w, **tolerance())


def test_parts_are_those_of_the_matrix(operator, tolerance):
    matrix, index = matrix_of(operator), torch.tensor([4, 11, 2], device=operator.device)
    torch.testing.assert_close(operator.column(5), matrix[:, 5], **tolerance())
    torch.testing.assert_close(operator.columns(index), matrix[:, index], **tolerance())
    if operator.shape[0] == operator.shape[1]:
        torch.testing.assert_close(operator.diag(), matrix.diagonal(), **tolerance())
        torch.testing.assert_close(operator.submatrix(index), matrix[index][:, index], **tolerance())


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_the_kernel_matrix_is_the_obvious_one(kind, dtype, device, tolerance):
    operator, x, new = kernel_operator(kind, dtype=dtype, device=device), normal(N, D), normal(7, D, seed=9)
    torch.testing.assert_close(operator.dense().cpu(), obvious(kind, x, x).to(dtype), **tolerance(10.0))
    cross = operator.cross(new.to(device))
    assert cross.shape == (7, N)
    torch.testing.assert_close(cross.dense().cpu(), obvious(kind, new, x).to(dtype), **tolerance(10.0))


@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("block", [32, 1000])
def test_gradients_are_those_of_autograd(kind, block):
    x, u, v = normal(N, D), normal(N, 2, seed=3), normal(N, 2, seed=4)
    off_diagonal = 1.0 - torch.eye(N, dtype=torch.float64)  # autograd of a square root at zero is not a number
    log_lengthscale = torch.tensor(LENGTHSCALE, dtype=torch.float64).log().requires_grad_()
    z = x / log_lengthscale.exp()
    r2 = (z[:, None] - z[None]).square().sum(-1)
    k = 2.5 * CORRELATIONS[kind].correlation((r2 + 1.0 - off_diagonal).clone()) * off_diagonal
    (expected,) = torch.autograd.grad((u.T @ k @ v).trace(), log_lengthscale)
    operator = kernel_operator(kind, block=block)
    lengthscale, outputscale = operator.gradient(u, v)
    torch.testing.assert_close(lengthscale, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(outputscale, (u * operator.matmul(v)).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kind", "nu"), [("rbf", math.inf), ("matern12", 0.5), ("matern32", 1.5), ("matern52", 2.5)])
def test_the_kernels_are_those_of_scikit_learn(kind, nu):
    x = normal(N, D)
    theirs = Matern(length_scale=LENGTHSCALE, nu=nu)(x.numpy())
    torch.testing.assert_close(kernel_operator(kind).dense(), 2.5 * torch.from_numpy(theirs), rtol=1e-12, atol=1e-12)


def test_gradients_of_rectangles_add_up_to_those_of_the_square():
    operator, u, v = kernel_operator("matern52"), normal(N, 2, seed=3), normal(N, 2, seed=4)
    parts = [torch.arange(0, 40), torch.arange(40, N)]
    pieces = [operator.to_columns(index).gradient(u, v[index]) for index in parts]
    for whole, a, b in zip(operator.gradient(u, v), *pieces, strict=True):
        torch.testing.assert_close(whole, a + b, rtol=1e-10, atol=1e-10)


def test_points_far_from_the_origin_lose_nothing():
    x = normal(N, D)
    near, far = (KernelOperator.of("matern12", x + shift, dtype=torch.float32).dense() for shift in (0.0, 1e6))
    torch.testing.assert_close(near, far, rtol=0, atol=1e-4)


def test_differences_are_exact_where_products_cancel():
    x = normal(700, D).repeat(2, 1) + 1e3
    exact, by_product = squared_difference(x, x[:700]), squared_distance(x, x[:700])
    assert not exact[700:].diagonal().any()
    torch.testing.assert_close(exact, (x[:, None] - x[None, :700]).square().sum(-1), rtol=1e-13, atol=0)
    torch.testing.assert_close(exact, by_product, rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"kernel": "cubic"}, ValueError, "kernel must be one of .*matern12.* got 'cubic'"),
        ({"x": torch.zeros(3)}, ValueError, r"x must have shape \(n, d\), got \(3,\)"),
        ({"dtype": torch.float16}, TypeError, "dtype must be torch.float64 or torch.float32, got torch.float16"),
        ({"precision": "float8"}, ValueError, "precision must be one of .* got 'float8'"),
        ({"outputscale": 0.0}, ValueError, "must be positive"),
        ({"lengthscale": -1.0}, ValueError, "must be positive"),
        ({"block": 0}, ValueError, "must be positive"),
    ],
)
def test_misuse_says_what_was_expected(change, error, message):
    arguments = {"kernel": "rbf", "x": normal(5, 2)} | change
    with pytest.raises(error, match=message):
        KernelOperator.of(arguments.pop("kernel"), arguments.pop("x"), **arguments)


def test_vectors_that_do_not_fit_are_refused():
    operator = kernel_operator("rbf")
    with pytest.raises(ValueError, match=rf"v must have shape \({N},\) or \({N}, k\), got \(3,\)"):
        operator.matmul(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"operator's dtype torch.float64, got torch.float32"):
        operator.matmul(torch.zeros(N))


@pytest.mark.parametrize("kind", CORRELATIONS)
def test_correlations_do_not_hang_on_the_number_of_threads(kind, dtype):
    """One thread goes another road than several where the processor has a faster one."""
    r2, threads, values = 30.0 * torch.rand(200, 300, dtype=dtype, generator=seeded()), torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            values.append((CORRELATIONS[kind].correlation(r2.clone()), *CORRELATIONS[kind].evaluate(r2.clone())))
    finally:
        torch.set_num_threads(threads)
    for one, several in zip(*values, strict=True):
        torch.testing.assert_close(one, several, rtol=8.0 * torch.finfo(dtype).eps, atol=0.0)
