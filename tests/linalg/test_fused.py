"""Fused products: run on CUDA, or anywhere with TRITON_INTERPRET=1 where Triton can be imported."""

import importlib.util
import os

import pytest
import torch

from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.precision import PRECISIONS
from surrogate.linalg.stationary import CORRELATIONS
from tests.linalg.problems import normal

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None
        or not (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"),
        reason="needs Triton with a CUDA device or its interpreter",
    ),
    pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning"),  # by Triton's interpreter
]


@pytest.fixture
def where(device):
    if device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("run with --device cuda or TRITON_INTERPRET=1")
    return device


@pytest.mark.parametrize("kind", CORRELATIONS)
@pytest.mark.parametrize("columns", [1, 3, 70])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_fused_products_are_those_of_the_matrix(kind, columns, precision, where):
    from surrogate.linalg.fused import kernel_product

    if precision == "bfloat16" and where.type != "cuda":
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16 numbers as integers")
    a, b, v = (normal(*shape, seed=s) for s, shape in enumerate([(130, 8), (700, 8), (700, columns)]))
    expected = CORRELATIONS[kind].correlation((a[:, None] - b).square().sum(-1)) @ v
    on_card = [part.to(where, torch.float32) for part in (a, b, v)]
    out = kernel_product(kind, *on_card, precision=precision).cpu().double()
    assert float((out - expected).abs().max() / expected.abs().max()) < max(1e-6, 3.0 * PRECISIONS[precision])


def test_an_operator_on_cuda_takes_the_fused_road(where):
    if where.type != "cuda":
        pytest.skip("operators on the CPU go tile by tile")
    x, v = normal(500, 4, device=where), normal(500, 3, dtype=torch.float32, device=where)
    fused = KernelOperator.of("matern32", x, outputscale=2.0, dtype=torch.float32)
    expected = fused.dense().double() @ v.double()
    assert float((fused.matmul(v) - expected).abs().max() / expected.abs().max()) < 1e-5
