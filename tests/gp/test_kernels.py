"""Laws of every kernel, what composition means, and parity with other libraries."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import kernels as sklearn_kernels

from surrogate.gp.categories import Correlated, Overlap, Rounded, Unstructured, ZeroSum
from surrogate.gp.kernels import (
    RBF,
    STATIONARY,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Points,
    Product,
    Scale,
    Scaled,
    Sum,
)
from surrogate.gp.parameters import LogNormal, Priors
from surrogate.gp.weights import FullWeights, LowerWeights

D = 3
LENGTHSCALE = [0.7, 1.3, 2.0]

KERNELS = {
    **{name: kernel(LENGTHSCALE) for name, kernel in STATIONARY.items()},
    "one lengthscale": Matern52(0.8),
    "scaled": Scale(1.7) * RBF(LENGTHSCALE),
    "scaled twice": Scale(0.5) * (Scale(3.0) * Matern32(LENGTHSCALE)),
    "columns": Matern12([0.9, 0.4]).on([2, 0]),
    "sum": Scale(0.8) * RBF(LENGTHSCALE) + Matern52(LENGTHSCALE),
    "product": RBF(LENGTHSCALE) * Matern32([1.1]).on([1]),
    "constant": Scale(2.0),
    "linear": Linear(LENGTHSCALE),
    "linear with one lengthscale": Linear(0.6),
    "all": Scale(0.5) * (Scale(0.3) + Linear(2.0) + Matern52(LENGTHSCALE) * RBF([0.5, 2.0]).on([0, 2])).on([1, 0, 2]),
}
LOADINGS = [[1.2, 0.3], [-0.4, 0.8], [0.9, -0.5], [0.2, 0.1]]
CATEGORIES = {  # the first column is continuous, the second of 4 categories and the third of integers
    "zero-sum": ZeroSum(4).on([1]),
    "overlap": Overlap(4, 0.8).on([1]),
    "correlated": Correlated(4, 2).with_loadings(LOADINGS).on([1]),
    "unstructured": Unstructured(4, 2).with_factor(LOADINGS, [0.3, 0.1, 1.0, 0.5]).on([1]),
    "integers": Rounded(Matern52(0.9)).on([2]),
    "integers on a grid": Rounded(RBF([0.7, 1.3]), step=0.5, origin=0.1).on([2, 0]),
    "a smooth function of each category": Correlated(4).on([1]) * (Scale(0.7) * Matern52(0.8).on([0])),
    "main effects and interactions": Scale(0.5) * RBF(0.8).on([0])
    + Scale(0.4) * ZeroSum(4).on([1])
    + Scale(0.3) * (RBF(1.2).on([0]) * ZeroSum(4).on([1]))
    + Scale(0.8) * (Rounded(Matern52(1.5)).on([2]) * Unstructured(4, 1).on([1])),
}
KERNELS |= CATEGORIES
SMOOTH = {
    "rbf": RBF(LENGTHSCALE),
    "matern52": Matern52(0.8),
    "constant": Scale(2.0),
    "all": Scale(0.5) * (RBF([0.5, 2.0]).on([2, 0]) + Scale(0.3) + Scale(2.0) * Matern52(LENGTHSCALE)).on([1, 0, 2]),
}


def points(n=7, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((n, D)))


def points_for(kernel, n=7, seed=0):
    """Points that the kernel takes."""
    x = points(n, seed)
    if any(kernel is mixed for mixed in CATEGORIES.values()):
        rng = np.random.default_rng(seed + 50)
        x[:, 1], x[:, 2] = (torch.as_tensor(rng.integers(low, 4, n)) for low in (-1, 0))  # -1: not in the data
    return x


def symmetric(n, seed=5):
    w = np.random.default_rng(seed).standard_normal((n, n))
    return w + w.T


@pytest.fixture(params=KERNELS)
def kernel(request):
    return KERNELS[request.param]


def test_a_matrix_is_symmetric_and_positive_semi_definite(kernel):
    k = kernel.covariance(points_for(kernel, 30))
    torch.testing.assert_close(k, k.T, rtol=0, atol=1e-14)
    values = torch.linalg.eigvalsh(k)
    assert float(values[0]) > -1e-12 * float(values[-1])


def test_variances_are_the_diagonal(kernel):
    x = points_for(kernel)
    torch.testing.assert_close(kernel.diagonal(x), kernel.covariance(x).diagonal())


def test_covariances_with_others_are_blocks_of_the_matrix(kernel):
    x = points_for(kernel, 12)
    torch.testing.assert_close(kernel.covariance(x[:5], x[5:]), kernel.covariance(x)[:5, 5:], rtol=1e-12, atol=1e-13)


def test_an_interpolant_is_a_product_with_the_covariances(kernel):
    x, new, weights = points_for(kernel, 9), points_for(kernel, 4, seed=1), points(9, seed=2)
    for w in (weights[:, 0], weights):
        expected = kernel.cross(Points(x), new).T @ w
        torch.testing.assert_close(kernel.interpolant(Points(x), w)(new), expected, rtol=1e-11, atol=1e-12)


def test_numpy_and_torch_are_one_function(kernel):
    x, w = points_for(kernel), symmetric(7)
    forms = [
        (kernel.forward(kernel.vector(), Points(x.numpy())), LowerWeights(np.tril(w))),
        (kernel.forward(kernel.vector(), Points(x)), FullWeights(torch.as_tensor(w).clone())),
    ]
    found = []
    for covariance, weights in forms:
        out, inputs = np.zeros(kernel.size), np.zeros((7, D))
        matrix = np.asarray(covariance.matrix())
        moved = inputs if isinstance(weights, LowerWeights) else torch.as_tensor(inputs)
        total = covariance.contract(weights, out, moved)
        assert total == pytest.approx((w * matrix).sum(), rel=1e-10)
        found.append((matrix, out, np.asarray(moved)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_gradients_agree_with_central_differences(kernel, factor):
    """Of a weighted sum of the entries, with respect to hyperparameters and inputs."""
    x, w, vector = points_for(kernel), symmetric(7), kernel.vector()

    def total(v, u):
        return float((torch.as_tensor(w) * kernel.forward(v, Points(u), factor).matrix()).sum())

    out, inputs = np.zeros(kernel.size), torch.zeros(7, D, dtype=torch.float64)
    kernel.forward(vector, Points(x), factor).contract(FullWeights(torch.as_tensor(w).clone()), out, inputs)
    for i, move in enumerate(1e-5 * np.eye(kernel.size)):
        slope = (total(vector + move, x) - total(vector - move, x)) / 2e-5
        assert out[i] == pytest.approx(slope, rel=1e-7, abs=1e-7)
    for i, j in ((0, 0), (3, 1), (6, 2)):
        move = torch.zeros_like(x)
        move[i, j] = 1e-5
        slope = (total(vector, x + move) - total(vector, x - move)) / 2e-5
        assert float(inputs[i, j]) == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_the_vector_and_its_names_and_priors(kernel):
    vector = kernel.vector()
    assert len(vector) == kernel.size == len(kernel.names) == len(kernel.priors) == len(set(kernel.names))
    moved = kernel.with_vector(vector + 0.1)
    np.testing.assert_array_equal(moved.vector(), vector + 0.1)
    np.testing.assert_array_equal(kernel.vector(), vector)
    x = points_for(kernel)
    torch.testing.assert_close(moved.covariance(x), kernel.forward(vector + 0.1, Points(x)).matrix())
    with pytest.raises(ValueError, match=rf"vector must have shape \({kernel.size},\)"):
        kernel.with_vector(np.zeros(kernel.size + 1))


def test_names_tell_where_a_hyperparameter_is():
    kernel = Scale(0.5) * Matern52([1.0, 2.0]) + Scale(2.0) * RBF([3.0]).on([0])
    assert kernel.names == ("0.sd", "0.lengthscale[0]", "0.lengthscale[1]", "1.sd", "1.lengthscale")
    np.testing.assert_allclose(np.exp(kernel.vector()), [0.5, 1.0, 2.0, 2.0, 3.0])


def test_composition_is_arithmetic_of_covariances():
    a, b, x = KERNELS["rbf"], KERNELS["matern32"], points()
    ka, kb = a.covariance(x), b.covariance(x)
    torch.testing.assert_close((a + b).covariance(x), ka + kb)
    torch.testing.assert_close((a * b).covariance(x), ka * kb)
    torch.testing.assert_close((Scale(1.5) * a).covariance(x), 2.25 * ka)
    torch.testing.assert_close(a.on([0, 1, 2]).covariance(x), ka)
    torch.testing.assert_close(RBF(0.7).on([1]).covariance(x), RBF(0.7).covariance(x[:, [1]]))
    assert isinstance(a + b, Sum)
    assert isinstance(a * b, Product)
    assert isinstance(a * Scale(2.0), Scaled)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda a, b, c: a + b, lambda a, b, c: b + a),
        (lambda a, b, c: a * b, lambda a, b, c: b * a),
        (lambda a, b, c: (a + b) * c, lambda a, b, c: a * c + b * c),
        (lambda a, b, c: Scale(2.0) * (a + b), lambda a, b, c: Scale(2.0) * a + Scale(2.0) * b),
        (lambda a, b, c: Scale(2.0) * (Scale(3.0) * a), lambda a, b, c: Scale(6.0) * a),
        (lambda a, b, c: (a + b).on([2, 0, 1]), lambda a, b, c: a.on([2, 0, 1]) + b.on([2, 0, 1])),
        (lambda a, b, c: a.on([2, 0, 1]).on([1, 2, 0]), lambda a, b, c: a),
        (lambda a, b, c: RBF([1.0]).on([0]) * RBF([2.0]).on([2]), lambda a, b, c: RBF([1.0, 2.0]).on([0, 2])),
    ],
)
def test_identities_of_composition(one, other):
    parts, x = (RBF(LENGTHSCALE), Matern32(0.9), Matern12(LENGTHSCALE)), points()
    torch.testing.assert_close(one(*parts).covariance(x), other(*parts).covariance(x), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_among_the_rows(name):
    """The matrix against automatic differentiation of the covariance, and its gradient against differences."""
    kernel, u, at = SMOOTH[name], points(5), torch.tensor([0, 3])
    rows = Points(u, at)
    k = kernel.forward(kernel.vector(), rows).matrix()
    torch.testing.assert_close(k, k.T, rtol=0, atol=1e-14)
    assert float(torch.linalg.eigvalsh(k)[0]) > -1e-12
    torch.testing.assert_close(k[:5, :5], kernel.covariance(u))

    def value(a, b):
        return kernel.cross(Points(a[None]), b[None])[0, 0]

    for row, i in enumerate(at.tolist()):
        for other in {0, 1, 2, 3, 4} - {i}:
            slope = torch.autograd.functional.jacobian(lambda b, a=u[other]: value(a, b), u[i])
            torch.testing.assert_close(k[other, 5 + D * row : 5 + D * row + D], slope)
    torch.testing.assert_close(kernel.cross(rows, u)[:5], kernel.covariance(u))
    new, weights = points(3, seed=1), torch.as_tensor(np.random.default_rng(2).standard_normal(rows.rows))
    expected = kernel.cross(rows, new).T @ weights
    torch.testing.assert_close(kernel.interpolant(rows, weights)(new), expected, rtol=1e-11, atol=1e-12)
    w, out, vector = torch.as_tensor(symmetric(rows.rows)), np.zeros(kernel.size), kernel.vector()
    kernel.forward(vector, rows).contract(FullWeights(w.clone()), out)
    for i, move in enumerate(1e-5 * np.eye(kernel.size)):
        above, below = (float((w * kernel.forward(v, rows).matrix()).sum()) for v in (vector + move, vector - move))
        assert out[i] == pytest.approx((above - below) / 2e-5, rel=1e-6, abs=1e-6)


SKLEARN = {
    "rbf": sklearn_kernels.RBF(LENGTHSCALE),
    "matern12": sklearn_kernels.Matern(LENGTHSCALE, nu=0.5),
    "matern32": sklearn_kernels.Matern(LENGTHSCALE, nu=1.5),
    "matern52": sklearn_kernels.Matern(LENGTHSCALE, nu=2.5),
    "scaled": sklearn_kernels.ConstantKernel(1.7**2) * sklearn_kernels.RBF(LENGTHSCALE),
    "sum": sklearn_kernels.ConstantKernel(0.64) * sklearn_kernels.RBF(LENGTHSCALE)
    + sklearn_kernels.Matern(LENGTHSCALE, nu=2.5),
    "linear with one lengthscale": sklearn_kernels.ConstantKernel(1 / 0.36) * sklearn_kernels.DotProduct(0.0),
}


@pytest.mark.parametrize("name", SKLEARN)
def test_it_is_that_of_scikit_learn(name):
    x, new = points(20).numpy(), points(6, seed=1).numpy()
    ours = KERNELS[name].covariance(torch.as_tensor(x), torch.as_tensor(new))
    np.testing.assert_allclose(ours, SKLEARN[name](x, new), rtol=1e-10, atol=1e-12)


def test_a_composition_is_that_of_gpytorch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, as gpytorch is imported
        gpytorch = pytest.importorskip("gpytorch", reason="gpytorch is an extra")
    ours = Scale(0.5) * Matern52([1.0, 2.0]).on([0, 2]) * RBF(0.7).on([1]) + Scale(2.0) * Matern32(LENGTHSCALE)
    matern, rbf = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=2, active_dims=(0, 2)), gpytorch.kernels.RBFKernel
    narrow, rough = rbf(active_dims=(1,)), gpytorch.kernels.MaternKernel(nu=1.5, ard_num_dims=3)
    matern.lengthscale, narrow.lengthscale, rough.lengthscale = torch.tensor([1.0, 2.0]), 0.7, torch.tensor(LENGTHSCALE)
    first, second = gpytorch.kernels.ScaleKernel(matern * narrow), gpytorch.kernels.ScaleKernel(rough)
    first.outputscale, second.outputscale = 0.25, 4.0
    with torch.no_grad():
        theirs = (first + second).double()(points(20)).to_dense()
    torch.testing.assert_close(ours.covariance(points(20)), theirs, rtol=1e-5, atol=1e-6)  # its numbers are float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RBF([1.0, -2.0]), "lengthscale must be positive and finite"),
        (lambda: Scale(0.0), "sd must be positive and finite, got 0.0"),
        (lambda: RBF(1.0).on([0, 0]), r"columns must be distinct indices, counted from 0, got \[0, 0\]"),
        (lambda: RBF(1.0).on([]), "columns must be distinct indices"),
        (lambda: Matern32(1.0).forward(np.zeros(1), Points(points(), torch.tensor([0]))), "gradients need a kernel"),
        (lambda: KERNELS["product"].forward(np.zeros(4), Points(points(), torch.tensor([0]))), "without products"),
        (
            lambda: Linear(1.0).forward(np.zeros(1), Points(points(), torch.tensor([0]))),
            "cannot be used for data with derivatives",
        ),
    ],
)
def test_misuse_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_priors_are_densities_of_logarithms():
    kernel = Scale(1.0, prior=LogNormal(0.0, 2.0, 0.1, 10.0)) * RBF([1.0, 1.0], prior=LogNormal(0.5, 0.6))
    priors, vector = Priors.of(kernel.priors), np.array([0.3, -0.2, 1.0])
    value, pull = priors.penalty(vector)
    assert value == pytest.approx(0.5 * ((0.3 / 2.0) ** 2 + (0.7 / 0.6) ** 2 + (0.5 / 0.6) ** 2))
    np.testing.assert_allclose(pull, [0.3 / 4.0, -0.7 / 0.36, 0.5 / 0.36])
    np.testing.assert_allclose(priors.bounds[0], np.log([0.1, 10.0]))
    assert Priors.of([LogNormal()]).penalty(np.array([7.0]))[0] == 0.0
    np.testing.assert_array_equal(priors.in_order([2, 0, 1]).centre, [0.5, 0.0, 0.5])
