"""Additive models of mixed columns by basis functions: against exact processes, dense formulas and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from surrogate.gp.additive import Component, total_kernel
from surrogate.gp.additive_basis import AdditiveBasis, Sums, fit_additive, posterior_at
from surrogate.gp.additive_reduction import reduced
from surrogate.gp.additive_sampling import _Model, sample_weights
from surrogate.gp.categories import UNSEEN, Correlated, Overlap, Unstructured, ZeroSum
from surrogate.gp.process import Data


def columns(n=60, seed=0):
    """A number in [-1, 1], a category of 3, a category of 2, and another number."""
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(-1.0, 1.0, n), rng.integers(0, 3, n), rng.integers(0, 2, n), rng.uniform(0.0, 5.0, n)]
    return torch.as_tensor(np.column_stack(parts)), rng


def values(u, rng, noise=0.3):
    x, z = u[:, 0].numpy(), u[:, 1].numpy()
    y = torch.as_tensor(np.sin(3.0 * x) + 0.6 * (z - 1.0) * x + noise * rng.standard_normal(len(x)))
    return y - y.mean()


def every_kind(u):
    return [
        Component.of(u, numbers=[0], functions=10),
        Component.of(u, categories={1: ZeroSum(3)}),
        Component.of(u, numbers=[3], kernel="matern52"),
        Component.of(u, numbers=[0], categories={1: Correlated(3, 2)}, functions=8),
        Component.of(u, categories={1: Correlated(3), 2: Unstructured(2)}),
        Component.of(u, numbers=[3], categories={1: ZeroSum(3), 2: Overlap(2)}, functions=8),
        Component.of(u, numbers=[0, 3], functions=7, kernel="rbf"),
    ]


@pytest.fixture(scope="module")
def model():
    u, rng = columns()
    return AdditiveBasis.of(every_kind(u), u, values(u, rng))


def test_the_evidence_is_that_of_dense_matrices(model):
    u, rng = columns()
    y, vector = values(u, rng), model.process.vector()
    f = model.weighted(model.weights(vector), model.features(u)).numpy()
    k = f @ f.T + math.exp(vector[-1]) * np.eye(len(y))
    s2 = float(y @ np.linalg.solve(k, y)) / len(y)
    expected = 0.5 * (len(y) * (math.log(2.0 * math.pi * s2) + 1.0) + np.linalg.slogdet(k)[1])
    assert model.objective(vector)[0] == pytest.approx(expected, rel=1e-10)


def test_gradients_agree_with_central_differences(model):
    vector = model.process.vector() + 0.05 * np.random.default_rng(3).standard_normal(model.process.size)
    low, high = np.array([prior.of_entry[2:] for prior in model.process.priors]).T
    vector = np.clip(vector, low + 1e-3, high - 1e-3)
    _, gradient = model.objective(vector)
    for i, step in enumerate(1e-5 * np.eye(len(vector))):
        slope = (model.objective(vector + step)[0] - model.objective(vector - step)[0]) / 2e-5
        assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-6)


def test_features_times_their_weights_are_the_kernel_in_the_middle_of_the_box():
    u, _ = columns(40)
    for component in every_kind(u):
        if component.kernel_name != "rbf":
            continue
        vector = component.kernel.vector()
        f = component.weights(vector, u).times(component.features(u))
        k = component.kernel.covariance(u)
        assert float((f @ f.T - k).abs().max()) < 0.02 * float(k.max())


SD, NOISE = 1.0, 0.3


def evidence_error(seed, boundary, lengthscale=0.4, functions=16, n=500):
    """Of a smooth function for each of three categories, by a draw of the process itself."""
    u, rng = columns(n, seed)
    part = Component.of(u, numbers=[0], categories={1: ZeroSum(3)}, functions=functions, boundary=boundary)
    vector = np.log([SD, lengthscale, NOISE**2])
    k = part.kernel.with_vector(vector[:-1]).covariance(u).numpy() + NOISE**2 * np.eye(n)
    y = torch.as_tensor(np.linalg.cholesky(k) @ rng.standard_normal(n))
    basis = AdditiveBasis.of([part], u, y)
    exact = basis.process.with_vector(vector).condition(Data.of(u.numpy(), y.numpy()))
    return basis.condition(vector).log_evidence - exact.log_evidence


def test_the_evidence_is_close_to_that_of_the_exact_process():
    assert max(abs(evidence_error(seed, 2.0)) for seed in range(4)) < 0.05
    for lengthscale in (0.27, 0.345):
        assert max(abs(evidence_error(seed, 1.5, lengthscale)) for seed in range(4)) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("boundary", [1.5, 2.0])
@pytest.mark.parametrize("end", ["short", "long"])
def test_the_evidence_is_close_for_all_draws_at_the_ends_of_the_range_of_lengthscales(boundary, end):
    lengthscale = {"short": 2.7 * boundary / 16, "long": 0.69 * (boundary - 1.0)}[end]
    assert max(abs(evidence_error(seed, boundary, min(lengthscale, 0.6))) for seed in range(20)) < 0.2


def test_a_lengthscale_for_which_the_evidence_is_inexact_gets_a_warning():
    with pytest.warns(RuntimeWarning, match="lengthscale of 0.4 is above 0.3.*, use a larger boundary"):
        assert abs(evidence_error(1, 1.5)) < 1.0
    with pytest.warns(RuntimeWarning, match="lengthscale of 0.2 is below 0.2.*, use more functions"):
        assert abs(evidence_error(1, 1.5, 0.2)) < 5.0


def test_a_box_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="lengthscale of 0.4 is too long for the box"):
        evidence_error(0, 1.2, n=50)
    with pytest.raises(ValueError, match="too short for this many functions"):
        evidence_error(0, 1.5, functions=6, n=50)


def test_predictions_are_those_of_the_exact_process():
    u, rng = columns(80)
    parts = [Component.of(u, numbers=[0]), Component.of(u, numbers=[0], categories={1: ZeroSum(3)})]
    y = values(u, rng)
    posterior = fit_additive(AdditiveBasis.of(parts, u, y))
    exact = posterior.basis.process.with_vector(posterior.vector).condition(Data.of(u.numpy(), y.numpy()))
    new, _ = columns(30, 7)
    torch.testing.assert_close(posterior.mean(new), exact.mean(new), rtol=0, atol=0.01)
    torch.testing.assert_close(posterior.variance(new).sqrt(), exact.variance(new).sqrt(), rtol=0.03, atol=2e-3)
    torch.testing.assert_close(posterior.component_means(new).sum(1), posterior.mean(new))


def test_beyond_the_box_and_for_an_unseen_category_the_variance_is_that_of_the_prior():
    u, rng = columns(80)
    parts = [Component.of(u, numbers=[0]), Component.of(u, categories={1: ZeroSum(3)})]
    posterior = fit_additive(AdditiveBasis.of(parts, u, values(u, rng)))
    new = torch.tensor([[0.2, 1.0, 0, 0], [0.2, UNSEEN, 0, 0], [99.0, UNSEEN, 0, 0]], dtype=u.dtype)
    means, variance = posterior.component_means(new), posterior.variance(new)
    assert float(means[1, 1]) == 0.0
    assert float(means[1, 0]) == float(means[0, 0])
    s2 = posterior.scale**2
    of_category = s2 * math.exp(2.0 * posterior.basis.vectors(posterior.vector)[1][0])
    assert float(variance[1]) > of_category > float(variance[0])
    whole = posterior.basis.process.with_vector(posterior.vector).kernel.diagonal(new[2:])
    assert float(variance[2]) == pytest.approx(s2 * float(whole[0]))


def test_sums_of_parts_are_the_sum():
    u, rng = columns(50)
    y, parts = values(u, rng), every_kind(u)[:3]
    size = sum(part.size for part in parts)

    def features(rows):
        return torch.cat([part.features(rows) for part in parts], 1)

    whole, first, second = (Sums.of(features, u[s], y[s], size) for s in (slice(50), slice(20), slice(20, 50)))
    for a, b in ((first + second, whole), (whole.without(second), first)):
        torch.testing.assert_close(a.gram, b.gram)
        torch.testing.assert_close(a.projection, b.projection)
        assert (a.n, a.square) == (b.n, pytest.approx(b.square))


def test_the_decomposition_finds_the_components_and_reduction_drops_the_others():
    u, rng = columns(900, 3)
    x, z = u[:, 0].numpy(), u[:, 1].numpy().astype(int)
    truth = np.column_stack([np.sin(3.0 * x), np.array([0.8, -0.8, 0.0])[z]])
    y = torch.as_tensor(truth.sum(1) + 0.3 * rng.standard_normal(900))
    y -= y.mean()
    parts = [
        Component.of(u, numbers=[0], name="smooth"),
        Component.of(u, categories={1: ZeroSum(3)}, name="offset"),
        Component.of(u, numbers=[0], categories={1: ZeroSum(3)}, name="difference"),
        Component.of(u, numbers=[3], name="nothing"),
        Component.of(u, categories={2: ZeroSum(2)}, name="nothing either"),
    ]
    size = sum(part.size for part in parts)
    posterior = fit_additive(AdditiveBasis.of(parts, u, y))
    explained = posterior.explained()
    np.testing.assert_allclose(explained[:2], truth.var(0), rtol=0.1)
    np.testing.assert_allclose(explained, posterior.component_means(u).var(0, correction=0), rtol=1e-6, atol=1e-12)
    assert posterior.shares().sum() == pytest.approx(1.0)

    def features(rows):
        return torch.cat([part.features(rows) for part in parts], 1)

    folds = [Sums.of(features, u[k::5], y[k::5], size) for k in range(5)]
    small = reduced(posterior, folds)
    assert small.kept == (0, 1)
    assert len(small.steps) == 5
    new, _ = columns(200, 9)
    gap = (small.posterior.mean(new) - posterior.mean(new)).square().mean().sqrt()
    assert float(gap) < 0.1
    with pytest.raises(ValueError, match="two folds"):
        reduced(posterior, folds[:1])


def test_squared_errors_from_sums_are_those_of_predictions(model):
    u, rng = columns()
    y = values(u, rng)
    posterior = posterior_at(model, model.process.vector())
    expected = float((posterior.mean(u) - y).square().mean())
    assert posterior.squared_error(model.sums) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("kind", ["gaussian", "poisson", "bernoulli"])
def test_laplace_evidence_and_its_gradient(kind):
    """Differences of the evidence; for numbers it is the exact one of the same basis functions."""
    u, rng = columns(40)
    parts = [Component.of(u, numbers=[0], functions=10), Component.of(u, categories={1: ZeroSum(3)})]
    y = values(u, rng)
    y = {"gaussian": y, "poisson": (y + 2.0).clamp(min=0.0).round(), "bernoulli": (y > 0).to(y)}[kind]
    features = torch.cat([part.features(u) for part in parts], 1)
    model = _Model(tuple(parts), features, y, kind, torch.full_like(y, 1.5))
    vector = np.log([0.8, 0.5, 0.3, 0.4][: len(model.priors)])
    value, gradient = model.evidence(vector)
    for i, step in enumerate(1e-4 * np.eye(len(vector))):
        slope = (model.evidence(vector + step)[0] - model.evidence(vector - step)[0]) / 2e-4
        assert gradient[i] == pytest.approx(slope, rel=1e-4, abs=1e-4)
    if kind == "gaussian":
        a = model.matrix(torch.as_tensor(vector)).numpy()
        k = a @ a.T + 0.16 * np.eye(40)
        expected = 0.5 * (y.numpy() @ np.linalg.solve(k, y.numpy()) + np.linalg.slogdet(2.0 * math.pi * k)[1])
        assert value == pytest.approx(expected, rel=1e-8)


def test_draws_of_numbers_are_the_posterior():
    """Which is normal: means within five standard errors of 1,000 draws, sds within a tenth."""
    u, rng = columns(120)
    y = values(u, rng)
    parts = [Component.of(u, numbers=[0], functions=12), Component.of(u, categories={1: ZeroSum(3)})]
    draws = sample_weights(parts, u, y, "gaussian", generator=torch.Generator().manual_seed(1))
    assert draws.rhat < 1.05
    assert draws.noise == pytest.approx(0.3, abs=0.1)
    unit = float(y.std())
    kernel = total_kernel(parts).with_vector(draws.vector)
    new = columns(10, 4)[0]
    k = unit**2 * (kernel.covariance(u).numpy() + 9.0) + draws.noise**2 * np.eye(120)
    cross = unit**2 * (kernel.covariance(u, new).numpy() + 9.0)
    mean = cross.T @ np.linalg.solve(k, y.numpy())
    prior = unit**2 * (kernel.diagonal(new).numpy() + 9.0)
    sd = np.sqrt(prior - np.einsum("nm,nm->m", cross, np.linalg.solve(k, cross)))
    latent = draws.latent(new).numpy()
    np.testing.assert_allclose(latent.mean(0), mean, atol=5.0 * sd.max() / math.sqrt(1000))
    np.testing.assert_allclose(latent.std(0), sd, rtol=0.15)
    torch.testing.assert_close(draws.component_draws(new).sum(2) + draws.constant[:, None], draws.latent(new))


@pytest.mark.parametrize("kind", ["poisson", "bernoulli"])
def test_draws_of_counts_and_of_yes_and_no_hold_the_truth(kind):
    """The central 80 % of the draws hold the truth at half of the points at least, and the draws follow it."""
    u, rng = columns(250, 5)
    x, z = u[:, 0].numpy(), u[:, 1].numpy().astype(int)
    f = 1.0 + 1.2 * np.sin(3.0 * x) + np.array([0.7, -0.7, 0.0])[z]
    y = rng.poisson(np.exp(f)) if kind == "poisson" else rng.random(250) < 1.0 / (1.0 + np.exp(-f))
    parts = [Component.of(u, numbers=[0], functions=10, boundary=1.5), Component.of(u, categories={1: ZeroSum(3)})]
    values = torch.as_tensor(y, dtype=torch.float64)
    draws = sample_weights(parts, u, values, kind, generator=torch.Generator().manual_seed(2))
    latent = draws.latent(u).numpy()
    assert draws.rhat < 1.05
    assert draws.chains.n_divergent == 0
    low, high = np.quantile(latent, [0.1, 0.9], axis=0)
    assert np.mean((low < f) & (f < high)) > 0.5
    assert np.corrcoef(latent.mean(0), f)[0, 1] > (0.97 if kind == "poisson" else 0.85)


U = columns(20)[0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Component.of(U), "a component needs a column"),
        (lambda: Component.of(U, numbers=[0, 1, 3]), "takes at most 2 columns of numbers, got 3"),
        (lambda: Component.of(U, numbers=[0], kernel="matern12"), "kernel must be one of"),
        (
            lambda: Component.of(U, numbers=[0], functions=4),
            r"suits no lengthscale .* use boundary > 1 and 7 functions",
        ),
        (lambda: AdditiveBasis.of([], U, U[:, 0]), "needs a component"),
        (
            lambda: sample_weights([Component.of(U, numbers=[0])], U, U[:, 0], "gamma", generator=torch.Generator()),
            "observations must be one of",
        ),
        (
            lambda: sample_weights([Component.of(U, numbers=[0])], U, U[:, 0], "poisson", generator=torch.Generator()),
            "needs counts",
        ),
        (
            lambda: sample_weights(
                [Component.of(U, categories={1: Correlated(3)})], U, U[:, 0], "gaussian", generator=torch.Generator()
            ),
            "tables without hyperparameters",
        ),
    ],
)
def test_misuse_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
