"""Kernels of categories and integers: what they mean, and parity with gpytorch and BoTorch. Laws: test_kernels.py."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

from surrogate.gp.categories import UNSEEN, Correlated, Overlap, Rounded, Unstructured, ZeroSum
from surrogate.gp.kernels import RBF, Linear, Matern52, Points, Scale
from surrogate.gp.parameters import Normal, Priors
from surrogate.gp.process import Data, Process

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit.script, as gpytorch is imported
    import gpytorch.kernels

RNG = np.random.default_rng(1)
TABLES = {
    "zero-sum": ZeroSum(5),
    "overlap": Overlap(5, 0.7),
    "correlated": Correlated(5, 3).with_loadings(RNG.standard_normal((5, 3))),
    "unstructured": Unstructured(5, 2).with_factor(RNG.standard_normal((5, 2)), RNG.random(5) + 0.1),
}


def column(codes):
    return torch.tensor(codes, dtype=torch.float64)[:, None]


@pytest.fixture(params=TABLES)
def kernel(request):
    return TABLES[request.param]


def test_the_covariance_is_the_table(kernel):
    table = kernel.table(kernel.vector())
    codes = [3, 0, 1, 4, 1, 2]
    np.testing.assert_allclose(kernel.covariance(column(codes)), table[np.ix_(codes, codes)], rtol=1e-15)
    assert np.linalg.eigvalsh(table)[0] > -1e-14
    np.testing.assert_allclose(kernel.similarity().diagonal(), 1.0)


def test_an_unseen_category_has_the_prior_variance_and_no_covariance(kernel):
    new = column([UNSEEN])
    np.testing.assert_array_equal(kernel.covariance(column(range(5)), new), np.zeros((5, 1)))
    mean_variance = kernel.table(kernel.vector()).diagonal().mean()
    assert float(kernel.diagonal(new)[0]) == pytest.approx(mean_variance) == kernel.unseen_variance


def test_an_unseen_category_is_predicted_with_the_prior_variance(kernel):
    process = Process(Scale(2.0) * kernel)
    posterior = process.condition(Data.of(np.arange(5.0)[:, None], np.array([1.0, -2.0, 0.5, 3.0, 1.0])))
    assert float(posterior.mean(column([UNSEEN]))[0]) == 0.0
    assert float(posterior.variance(column([UNSEEN]))[0]) == pytest.approx(4.0 * kernel.unseen_variance)


def test_codes_are_rounded_and_do_not_move(kernel):
    codes = column([0, 2, 4, 1])
    torch.testing.assert_close(kernel.covariance(codes + 1e-5), kernel.covariance(codes), rtol=0, atol=0)


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_free_correlations_have_unit_variances_and_any_sign(rank):
    loadings = 3.0 * np.random.default_rng(rank).standard_normal((4, rank))
    table = Correlated(4, rank).with_loadings(loadings).similarity()
    np.testing.assert_allclose(table.diagonal(), 1.0)
    assert table.min() < -0.2
    expected = loadings @ loadings.T + np.eye(4)
    root = np.sqrt(expected.diagonal())
    np.testing.assert_allclose(table, expected / np.outer(root, root), rtol=1e-13)


def test_before_data_categories_are_alike():
    for kernel, correlation in ((Correlated(6, 2), 0.69), (Unstructured(6, 2), 0.7)):
        between = kernel.similarity()[~np.eye(6, dtype=bool)]
        np.testing.assert_allclose(between, correlation, atol=0.02)


def test_effects_of_a_zero_sum_kernel_add_up_to_zero():
    table = ZeroSum(7).table(np.empty(0))
    np.testing.assert_allclose(table.sum(0), 0.0, atol=1e-14)
    values = np.linalg.eigvalsh(table)
    np.testing.assert_allclose(values, [0.0] + [7 / 6] * 6, atol=1e-14)


def test_a_process_of_categories_with_a_shared_part_is_one_process_for_each_when_uncorrelated():
    """With a table that is the identity the evidence is the sum over categories."""
    rng = np.random.default_rng(0)
    x, z, y = rng.standard_normal(30), rng.integers(0, 3, 30), rng.standard_normal(30)
    separate = Correlated(3).with_loadings(np.zeros((3, 1)))
    whole = Process(separate.on([1]) * RBF(0.8).on([0])).condition(Data.of(np.column_stack([x, z]), y))
    parts = [Process(RBF(0.8)).condition(Data.of(x[z == k][:, None], y[z == k])) for k in range(3)]
    assert whole.log_evidence == pytest.approx(sum(part.log_evidence for part in parts), rel=1e-10)
    new = np.linspace(-1.0, 1.0, 4)
    for k, part in enumerate(parts):
        u = np.column_stack([new, np.full(4, k)])
        np.testing.assert_allclose(whole.mean(u), part.mean(new[:, None]), rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(whole.variance(u), part.variance(new[:, None]), rtol=1e-6, atol=1e-10)


def test_integers_have_one_value_between_two_half_integers():
    kernel, x = Rounded(Matern52(1.3)), torch.tensor([[1.8], [2.0], [2.4], [3.0]], dtype=torch.float64)
    k = kernel.covariance(x)
    np.testing.assert_allclose(k[:3, :3], 1.0)
    np.testing.assert_allclose(k[3, :3], Matern52(1.3).covariance(x[1:2], x[3:])[0, 0])
    scaled = Rounded(Matern52(1.3 * 0.2), step=0.2, origin=5.0)
    torch.testing.assert_close(scaled.covariance(5.0 + 0.2 * x), k, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scaled.rounded(5.0 + 0.2 * x), 5.0 + 0.2 * x.round())


def test_it_is_the_index_kernel_of_gpytorch():
    ours = TABLES["unstructured"]
    theirs = gpytorch.kernels.IndexKernel(num_tasks=5, rank=2).double()
    factor, variances = ours._split(ours.vector())
    theirs.covar_factor.data = torch.as_tensor(factor)
    theirs.var = torch.as_tensor(variances)
    codes = torch.tensor([0, 3, 2, 2, 4, 1])
    with torch.no_grad():
        expected = theirs.covar_matrix.to_dense()[codes][:, codes]
    torch.testing.assert_close(ours.covariance(codes.double()[:, None]), expected, rtol=1e-10, atol=1e-12)


def test_a_product_over_a_continuous_column_is_that_of_gpytorch():
    ours = TABLES["unstructured"].on([1]) * RBF(0.7).on([0])
    index, rbf = gpytorch.kernels.IndexKernel(num_tasks=5, rank=2).double(), gpytorch.kernels.RBFKernel().double()
    factor, variances = TABLES["unstructured"]._split(TABLES["unstructured"].vector())
    index.covar_factor.data, index.var = torch.as_tensor(factor), torch.as_tensor(variances)
    rbf.lengthscale = torch.tensor(0.7, dtype=torch.float64)
    x, codes = torch.linspace(-1.0, 2.0, 6, dtype=torch.float64)[:, None], torch.tensor([0, 3, 2, 2, 4, 1])
    with torch.no_grad():
        expected = rbf(x).to_dense() * index.covar_matrix.to_dense()[codes][:, codes]
    u = torch.cat([x, codes.double()[:, None]], 1)
    torch.testing.assert_close(ours.covariance(u), expected, rtol=1e-10, atol=1e-12)


BOTORCH_X = [[0.1, 0, 2], [0.7, 1, 0], [-0.4, 1, 2], [0.7, 2, 1]]
# Rows of the upper triangle, from BoTorch 0.18.1: CategoricalKernel with lengthscales 0.6 and 1.7 on columns 1 and 2.
BOTORCH_CATEGORIES = [
    *(1.0, 0.32385772487356757, 0.4345982085070782, 0.32385772487356757),
    *(1.0, 0.7451888170134805, 0.32385772487356757, 1.0, 0.32385772487356757, 1.0),
]
# The kernel of its MixedSingleTaskGP: 1.3 (Matern(0.5) + 0.8 Categorical(0.6, 1.7)) + 0.6 Matern(0.9) Categorical(1.1,
# 0.4), with the Matern 5/2 kernels on column 0.
BOTORCH_MIXED = [
    *(2.94, 0.9566596823723605, 1.4362994611091606, 0.9566596823723605),
    *(2.94, 0.9773520757706495, 1.7459250511294606, 2.94, 0.5137607851718059, 2.94),
]


def hamming(first, second):
    """BoTorch's kernel of two columns: its mean over the columns halves the inverse lengthscales."""
    return Overlap(3, 2.0 * first).on([1]) * Overlap(3, 2.0 * second).on([2])


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (hamming(0.6, 1.7), BOTORCH_CATEGORIES),
        (
            Scale(math.sqrt(1.3)) * (Matern52(0.5).on([0]) + Scale(math.sqrt(0.8)) * hamming(0.6, 1.7))
            + Scale(math.sqrt(0.6)) * (Matern52(0.9).on([0]) * hamming(1.1, 0.4)),
            BOTORCH_MIXED,
        ),
    ],
)
def test_it_is_that_of_botorch(kernel, expected):
    k = kernel.covariance(torch.tensor(BOTORCH_X, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(k[np.triu_indices(4)], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ZeroSum(1), "a category kernel needs two categories or more, got 1"),
        (lambda: Correlated(3, 4), r"rank must be in 1..3, the number of categories, got 4"),
        (lambda: ZeroSum(3).covariance(column([0, 3])), r"holds codes 0 to 2, or -1 .*, got 3.0"),
        (lambda: ZeroSum(3).covariance(column([0, 0.4])), "holds codes 0 to 2"),
        (lambda: ZeroSum(3).covariance(column([0, math.nan])), "got nan"),
        (
            lambda: ZeroSum(3).covariance(torch.zeros(2, 2)),
            r"takes one column, got 2: choose it with kernel.on\(\[j\]\)",
        ),
        (lambda: ZeroSum(3).forward(np.empty(0), Points(column([0, 1]), torch.tensor([0]))), "leave the derivatives"),
        (lambda: Rounded(Linear(1.0), step=0.0), "a grid needs a positive step"),
    ],
)
def test_misuse_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_priors_of_either_sign_are_normal_in_the_entry_itself():
    kernel = Correlated(3, prior=Normal(0.5, 2.0, -3.0, 4.0))
    priors = Priors.of(kernel.priors)
    np.testing.assert_array_equal(priors.bounds, [[-3.0, 4.0]] * 3)
    value, pull = priors.penalty(np.array([0.5, 2.5, -1.5]))
    assert value == pytest.approx(1.0)
    np.testing.assert_allclose(pull, [0.0, 0.5, -0.5])
    np.testing.assert_array_equal(kernel.vector(), [0.5, 0.5, 0.5])
