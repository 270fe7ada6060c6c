from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogate.gp.bases import FourierBasis, HilbertBasis
from surrogate.gp.evidence.basis import BasisEvidence
from surrogate.gp.evidence.exact import ExactEvidence
from surrogate.gp.scales import Observations
from surrogate.linalg.stationary import CORRELATIONS
from tests.gp.problems import KERNELS, slope, uneven

THETA = np.array([-2.0, 0.3, -0.1])


def bases(kernel, x):
    generator = torch.Generator().manual_seed(0)
    yield HilbertBasis.of(kernel, x, np.exp(THETA[1:]), 30)
    yield FourierBasis.of(kernel, x, 24, generator=generator)


@pytest.mark.parametrize("noise", [None, 0.02])
@pytest.mark.parametrize("kernel", KERNELS)
def test_value_is_the_dense_one_and_gradient_its_slope(kernel, noise):
    data = uneven(d=2)
    for basis in bases(kernel, data.x):
        evidence = BasisEvidence.of(basis, data, noise)
        value, gradient = evidence.objective(THETA)
        f = basis.features(data.x, np.exp(THETA[1:]))
        k = f @ f.T + math.exp(THETA[0]) * torch.diag(data.relative_noise)
        q = float(data.y @ torch.linalg.solve(k, data.y))
        s2 = q / 60 if noise is None else noise / math.exp(THETA[0])
        expected = 0.5 * (60 * math.log(2 * math.pi * s2) + q / s2 + float(torch.logdet(k)))
        assert value == pytest.approx(expected, rel=1e-9)
        slopes = slope(lambda t, e=evidence: e.objective(t)[0], THETA)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-5)


def test_many_sines_are_the_kernel():
    """Within a fifth of a nat of the exact likelihood."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.uniform(-1.7, 1.7, (300, 1)))
    y = torch.sin(3 * x[:, 0]) + 0.3 * torch.tensor(rng.standard_normal(300))
    theta, data = np.log([0.1, 0.5]), Observations(x, y - y.mean())
    evidence = BasisEvidence.of(HilbertBasis.of("rbf", x, np.exp(theta[1:]), 32), data)
    few = BasisEvidence.of(HilbertBasis.of("rbf", x, np.exp(theta[1:]), 6), data)
    k = CORRELATIONS["rbf"].correlation((x - x.T).square() / 0.25) + 0.1 * torch.eye(300, dtype=x.dtype)
    s2 = float(data.y @ torch.linalg.solve(k, data.y)) / 300
    exact = 0.5 * (300 * (math.log(2 * math.pi * s2) + 1.0) + float(torch.logdet(k)))
    assert abs(evidence.objective(theta)[0] - exact) < 0.2
    assert abs(few.objective(theta)[0] - exact) > 0.2
    # The exact evidence counts a free constant as well: some nats more, and no other maximum.
    assert abs(ExactEvidence(CORRELATIONS["rbf"], data).objective(theta)[0] - exact) < 5.0
