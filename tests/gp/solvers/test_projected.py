from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogate.gp.scales import Observations, ScaledProcess
from surrogate.gp.solvers.exact import exact_posterior
from surrogate.gp.solvers.projected import (
    POLICIES,
    actions_of,
    computation_aware,
    evidence_bound,
    residual_actions,
    train_blocks,
)

N = 120
PROCESS = ScaledProcess.of("matern52", 0.02, np.array([0.7, 1.1]), 1.3, "given")


def problem(seed=0):
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.standard_normal((N, 2)))
    y = torch.sin(2 * x[:, 0]) + x[:, 1] + 0.1 * torch.tensor(rng.standard_normal(N))
    return x, y - y.mean(), torch.tensor(rng.standard_normal((50, 2)))


def generator():
    return torch.Generator().manual_seed(0)


def exact(process, x, y, new):
    """Mean and variance given all data, about a known constant of zero."""
    k = process.operator(x)
    cov = k.dense() + process.eta * torch.eye(len(x), dtype=x.dtype)
    cross = k.cross(new).dense()
    solved = torch.linalg.solve(cov, cross.T)
    return solved.T @ y, process.variance * (1.0 - (cross.T * solved).sum(0))


@pytest.mark.parametrize("policy", POLICIES)
def test_variance_falls_and_is_never_below_the_exact_one(policy):
    x, y, new = problem()
    model = computation_aware(
        PROCESS, Observations(x, y), actions_of(policy, PROCESS, Observations(x, y), 30, generator=generator())
    )
    variances = model.variances(new)
    assert bool((variances.diff(dim=0) <= 1e-12).all())
    assert bool((variances >= exact(PROCESS, x, y, new)[1] - 1e-10).all())
    torch.testing.assert_close(variances[-1], model.variance(new))
    torch.testing.assert_close(variances[7], model.first(7).variance(new))


@pytest.mark.parametrize("policy", ["pivots", "greedy"])
def test_all_actions_are_the_exact_process(policy):
    x, y, new = problem()
    model = computation_aware(
        PROCESS, Observations(x, y), actions_of(policy, PROCESS, Observations(x, y), N, generator=generator())
    )
    mean, variance = exact(PROCESS, x, y, new)
    torch.testing.assert_close(model.mean(new), mean, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(model.variance(new), variance, rtol=1e-6, atol=1e-8)


def test_residuals_until_exhaustion_are_the_exact_mean():
    x, y, new = problem()
    model = computation_aware(
        PROCESS, Observations(x, y), actions_of("residuals", PROCESS, Observations(x, y), N, generator=generator())
    )
    torch.testing.assert_close(model.mean(new), exact(PROCESS, x, y, new)[0], rtol=1e-6, atol=1e-7)


def test_pivots_are_a_subset_of_the_data():
    x, y, new = problem()
    actions = actions_of("greedy", PROCESS, Observations(x, y), 25, generator=generator())
    rows = actions.argmax(0)
    mean, variance = exact(PROCESS, x[rows], y[rows], new)
    model = computation_aware(PROCESS, Observations(x, y), actions)
    torch.testing.assert_close(model.mean(new), mean, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(model.variance(new), variance, rtol=1e-8, atol=1e-8)


def test_residual_actions_are_conjugate_gradients():
    """The mean after i actions is that of the i-th iterate of textbook conjugate gradients."""
    x, y, _ = problem()
    k = PROCESS.operator(x).dense() + PROCESS.eta * torch.eye(N, dtype=x.dtype)
    directions = residual_actions(PROCESS.operator(x), y, 8, noise=PROCESS.eta)
    v, r = torch.zeros_like(y), y.clone()
    p = r.clone()
    for i in range(8):
        alpha = (r @ r) / (p @ k @ p)
        v, old, r = v + alpha * p, r, r - alpha * (k @ p)
        p = r + (r @ r) / (old @ old) * p
        d = directions[:, : i + 1]
        torch.testing.assert_close(d @ (d.T @ y), v, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(directions.T @ k @ directions, torch.eye(8, dtype=x.dtype))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("kernel", ["rbf", "matern52"])
def test_three_hundred_points_in_four_dimensions(policy, kernel):
    """Variances fall and stay above the exact ones, which ten actions are far from; errors are within their bound.

    |f - mean|^2 <= (variance / s^2) |f|_H^2 for a function f of the kernel's space: at most 0.74 of the bound.
    """
    rng = np.random.default_rng(0)
    x, new, centres = (torch.tensor(rng.standard_normal((n, 4))) for n in (300, 200, 15))
    process, weights = (
        ScaledProcess.of(kernel, 1e-2, np.full(4, 1.5), 1.0, "given"),
        torch.tensor(rng.standard_normal(15)),
    )
    norm = float(weights @ process.operator(centres).dense() @ weights)
    f, truth = (process.operator(centres).cross(points).matmul(weights) for points in (x, new))
    model = computation_aware(
        process, Observations(x, f), actions_of(policy, process, Observations(x, f), 60, generator=generator())
    )
    variances, least = model.variances(new), exact(process, x, f, new)[1]
    assert bool((variances.diff(dim=0) <= 1e-10).all())
    assert float((variances[10] - least).min()) > 1e-2
    assert bool((variances >= least - 1e-10).all())
    for i in (1, 5, 10, 40):
        d = model.first(i).directions
        mean = process.operator(x).cross(new).matmul(d @ (d.T @ f))
        assert float(((truth - mean).square() / variances[i]).max()) < 0.8 * norm


@pytest.mark.parametrize("dimensions", [1, 2])
def test_more_inducing_points_than_the_kernel_tells_apart(dimensions):
    """Their columns depend on each other within rounding; their span is all of the kernel."""
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((300, dimensions)))
    y, new = torch.sin(2 * x[:, 0]), torch.tensor(rng.standard_normal((50, dimensions)))
    process = ScaledProcess.of("rbf", 1e-2, np.full(dimensions, 1.5), 1.0, "given")
    actions = actions_of("inducing", process, Observations(x, y - y.mean()), 200, generator=generator())
    assert actions.shape[1] < 200
    model = computation_aware(process, Observations(x, y), actions)
    mean, variance = exact(process, x, y - y.mean(), new)
    torch.testing.assert_close(model.mean(new), y.mean() + mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.variance(new), variance, rtol=0, atol=1e-8)


@pytest.mark.parametrize("policy", ["pivots", "residuals", "inducing", "blocks"])
def test_error_is_within_its_worst_case(policy):
    """|f - mean|^2 <= (variance / s^2) |f|_H^2 for every f of the kernel's space that is observed without noise."""
    x, _, new = problem()
    process = PROCESS.with_(eta=1e-9, scale=1.0)
    rng = np.random.default_rng(1)
    centres, weights = torch.tensor(rng.standard_normal((15, 2))), torch.tensor(rng.standard_normal(15))
    norm = float(weights @ process.operator(centres).dense() @ weights)
    f = process.operator(centres).cross(x).matmul(weights)
    truth = process.operator(centres).cross(new).matmul(weights)
    mean = float(f.mean())
    actions = actions_of(policy, process, Observations(x, f), 20, generator=generator())
    for i in (1, 5, 10, 20):
        model = computation_aware(process, Observations(x, f - mean), actions).first(i)
        # f itself, not f - mean, is in the space: condition on its values.
        d = model.directions
        at_new = process.operator(x).cross(new).matmul(d @ (d.T @ f))
        assert bool(((truth - at_new).square() <= model.variance(new) * norm * (1 + 1e-6) + 1e-9).all())


def test_bound_is_the_marginal_likelihood_where_nothing_is_left_out():
    x, y, _ = problem()
    kernel = PROCESS.operator(x)
    eta, variance = (torch.tensor(v, dtype=x.dtype) for v in (PROCESS.eta, PROCESS.variance))
    cov = variance * (kernel.dense() + eta * torch.eye(N, dtype=x.dtype))
    value = -0.5 * (y @ torch.linalg.solve(cov, y) + torch.logdet(cov) + N * math.log(2 * math.pi))
    full = evidence_bound(kernel, y, torch.eye(N, dtype=x.dtype), eta=eta, variance=variance)
    torch.testing.assert_close(full, value)
    for k in (5, 20, 60):
        actions = actions_of("blocks", PROCESS, Observations(x, y), k, generator=generator())
        assert evidence_bound(kernel, y, actions, eta=eta, variance=variance) < value


def test_training_raises_the_bound():
    x, y, _ = problem()
    blocks = actions_of("blocks", PROCESS, Observations(x, y), 12, generator=generator())
    assert bool(((blocks != 0).sum(1) == 1).all())
    process, trained, trace = train_blocks(PROCESS, Observations(x, y), blocks, steps=30)
    assert trace[-1] > trace[0] + 5.0
    assert bool(((trained != 0) == (blocks != 0)).all())
    assert computation_aware(process, Observations(x, y), trained).process.scale == process.scale


def test_scale_is_found_where_none_is_given():
    x, y, _ = problem()
    actions = torch.eye(N, dtype=x.dtype)
    model = computation_aware(PROCESS.with_(scale=None), Observations(x, y), actions)
    reference = exact_posterior(PROCESS.with_(scale=None), Observations(x, y))
    assert model.process.scale == pytest.approx(reference.process.scale, rel=0.01)


def test_misuse_is_told():
    x, y, _ = problem()
    with pytest.raises(ValueError, match="policy must be one of"):
        actions_of("random", PROCESS, Observations(x, y), 3, generator=generator())
    with pytest.raises(ValueError, match="k must be in 1..120"):
        actions_of("blocks", PROCESS, Observations(x, y), 121, generator=generator())
    with pytest.raises(ValueError, match="independent"):
        computation_aware(PROCESS, Observations(x, y), torch.ones(N, 2, dtype=x.dtype))
    with pytest.raises(ValueError, match="actions must have shape"):
        computation_aware(PROCESS, Observations(x, y), torch.ones(3, 2, dtype=x.dtype))
    with pytest.raises(ValueError, match="k must be in 0..1"):
        computation_aware(PROCESS, Observations(x, y), torch.ones(N, 1, dtype=x.dtype)).first(2)
    with pytest.raises(ValueError, match="has no output scale before"):
        _ = PROCESS.with_(scale=None).variance


@pytest.mark.parametrize("policy", ["pivots", "inducing", "residuals"])
def test_unequal_noise_and_covariance(policy):
    """With as many projections as points it is the exact process of that noise."""
    x, y, new = problem()
    relative = 0.2 + torch.tensor(np.random.default_rng(3).random(N))
    data = Observations(x, y, relative / relative.mean())
    model = computation_aware(PROCESS, data, actions_of(policy, PROCESS, data, N, generator=generator()))
    k = PROCESS.operator(x)
    cov, cross = k.dense() + torch.diag(data.noise(PROCESS.eta)), k.cross(new).dense()
    expected = model.constant + cross @ torch.linalg.solve(cov, y - model.constant)
    torch.testing.assert_close(model.mean(new), expected, rtol=1e-4, atol=1e-5)
    if policy == "pivots":
        expected = PROCESS.variance * (PROCESS.operator(new).dense() - cross @ torch.linalg.solve(cov, cross.T))
        torch.testing.assert_close(model.covariance(new), expected, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(model.covariance(new).diagonal(), model.variance(new))
    few = model.first(20)
    assert math.isnan(few.residual)
    assert model.residual < 1e-6


def test_residual_is_what_the_projections_leave():
    x, y, _ = problem()
    actions = actions_of("inducing", PROCESS, Observations(x, y), 10, generator=generator())
    model = computation_aware(PROCESS, Observations(x, y), actions)
    cov = PROCESS.operator(x).dense() + PROCESS.eta * torch.eye(N, dtype=x.dtype)
    left = y - y.mean() - cov @ (model.directions @ model.projected)
    assert model.residual == pytest.approx(float(left.norm() / (y - y.mean()).norm()), rel=1e-8)
    assert model.status.startswith("10 projections of 120 values")


def test_blocks_are_trained_for_equal_noise():
    x, y, _ = problem()
    blocks = actions_of("blocks", PROCESS, Observations(x, y), 4, generator=generator())
    with pytest.raises(ValueError, match="noise must be the same for all points"):
        train_blocks(PROCESS, Observations(x, y, torch.ones_like(y)), blocks)
