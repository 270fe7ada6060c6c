import math

import numpy as np
import pytest
import torch

from surrogate.networks.repriorised import RepriorisedBNN, WideNetwork
from surrogate.rng import torch_generator
from surrogate.samplers.diagnostics import bulk_ess, rank_rhat
from surrogate.samplers.hamiltonian import hmc
from surrogate.selection.tangent import NNGPKernel

NETWORKS = {
    "one layer": {"width": 9},
    "deep": {"width": 7, "depth": 3, "activation": "tanh"},
    "residual": {"width": 8, "depth": 3, "residual": True},
    "wider than the rows": {"width": 24, "depth": 2, "activation": "erf"},
}


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, "test"))


def rows(n, d=4, seed=0):
    x = normal(n, d, seed=seed)
    return x, torch.sin(2.0 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.1 * normal(n, seed=seed + 1)


def posterior(form="auto", n=20, noise=0.1, **options):
    x, y = rows(n)
    return RepriorisedBNN(WideNetwork(4, **options), x, y, noise, form)


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def forms(request):
    return posterior("primal", **request.param), posterior("dual", **request.param)


def test_energies_of_both_forms_are_equal(forms):
    primal, dual = forms
    phi = normal(primal.n_parameters, seed=5)
    assert float(primal.energy(phi)) == pytest.approx(float(dual.energy(phi)), rel=1e-9)


def test_energy_is_that_of_the_parameters_less_the_log_jacobian(forms):
    for model in forms:
        phi = normal(model.n_parameters, seed=6)
        constant = len(model.x) * math.log(model.noise)  # of the likelihood, which the other energy leaves out
        direct = model.energy_of_parameters(model.parameters(phi)) - model.log_jacobian(phi) + constant
        assert float(direct) == pytest.approx(float(model.energy(phi)), rel=1e-10)


def test_log_jacobian_is_that_of_the_map(forms):
    for model in forms:
        phi = normal(model.n_parameters, seed=7)
        jacobian = torch.func.jacrev(model.parameters)(phi)
        assert float(torch.linalg.slogdet(jacobian)[1]) == pytest.approx(float(model.log_jacobian(phi)), rel=1e-9)


def test_readouts_of_both_forms_have_the_mean_and_covariance_of_the_exact_posterior(forms):
    hidden = normal(forms[0].network.n_hidden, seed=8)
    psi = forms[0].network.features(hidden, forms[0].x)
    precision = psi.T @ psi / 0.1**2 + torch.eye(psi.shape[1], dtype=torch.float64)
    covariance = torch.linalg.inv(precision)
    mean = covariance @ psi.T @ forms[0].y / 0.1**2
    for model in forms:
        zero = torch.zeros(model.network.n_readout, dtype=torch.float64)

        def readout(whitened, model=model):
            return model.parameters(torch.cat([hidden, whitened]))[model.network.n_hidden :]

        root = torch.func.jacrev(readout)(zero)
        torch.testing.assert_close(readout(zero), mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(root @ root.T, covariance, rtol=1e-9, atol=1e-9)


def test_potential_is_the_marginal_likelihood():
    model = posterior(width=30, depth=2)
    hidden = normal(model.network.n_hidden, seed=9)
    psi = model.network.features(hidden, model.x)
    covariance = psi @ psi.T + 0.01 * torch.eye(len(psi), dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(torch.zeros_like(model.y), covariance).log_prob(model.y)
    assert -float(model.potential(hidden)) - 0.5 * len(psi) * math.log(2 * math.pi) == pytest.approx(float(exact))


def test_the_smaller_matrix_is_factored():
    assert posterior(width=30).dual
    assert not posterior(width=10).dual


def test_gradient_of_the_potential(forms):
    for model in forms:
        hidden = normal(model.network.n_hidden, seed=10).requires_grad_()
        assert torch.autograd.gradcheck(model.potential, hidden, atol=1e-4)


def residual_covariance(x, depth, weight_variance=2.0, bias_variance=0.01):
    """NNGP of residual ReLU layers, Psi Psi' for infinite width, entry by entry."""
    k = weight_variance / x.shape[1] * x @ x.T + bias_variance

    def through(k):
        size = k.diagonal().sqrt()
        cosine = (k / size / size[:, None]).clamp(-1.0, 1.0)
        angle = torch.arccos(cosine)
        return size * size[:, None] * (torch.sin(angle) + (math.pi - angle) * cosine) / (2.0 * math.pi)

    for _ in range(depth - 1):
        k = k + weight_variance * through(k) + bias_variance
    return weight_variance * through(k) + bias_variance


@pytest.mark.parametrize("residual", [pytest.param(False, marks=pytest.mark.slow), True])
def test_wide_networks_become_the_gaussian_process(residual):
    x, _ = rows(12)
    network = WideNetwork(4, 1024, depth=2, activation="relu", residual=residual)
    grams = []
    for seed in range(32):
        psi = network.features(normal(network.n_hidden, seed=seed), x)
        grams.append(psi @ psi.T)
    if residual:
        exact = residual_covariance(x, 2)
    else:
        exact = NNGPKernel(layers=3, weight_variance=2.0, bias_variance=0.01).matrix(x, x)
    deviation = torch.stack(grams).mean(0) - exact
    assert float(deviation.norm() / exact.norm()) < 0.05


@pytest.mark.parametrize(("method", "residual"), [("hmc", False), pytest.param("pcn", True, marks=pytest.mark.slow)])
def test_posterior_of_a_wide_network_is_that_of_the_gaussian_process(method, residual):
    x, y = rows(24)
    new = rows(10, seed=3)[0]
    depth = 2 if residual else 1
    network = WideNetwork(4, 512 if residual else 1024, depth=depth, activation="relu", residual=residual)
    draws = RepriorisedBNN(network, x, y, 0.1).sample(
        n_draws=15, n_warmup=10, n_chains=4, method=method, n_steps=2, seed=1
    )
    mean, variance = draws.predict(new)
    every = torch.cat([x, new])
    if residual:
        k = residual_covariance(every, 2)
    else:
        k = NNGPKernel(layers=2, weight_variance=2.0, bias_variance=0.01).matrix(every, every)
    cross = torch.linalg.solve(k[:24, :24] + 0.01 * torch.eye(24, dtype=torch.float64), k[:24, 24:]).T
    exact_mean, exact_variance = cross @ y, (k[24:, 24:] - cross @ k[:24, 24:]).diagonal()
    assert float((mean - exact_mean).norm() / exact_mean.norm()) < 0.05
    assert float((variance - exact_variance).norm() / exact_variance.norm()) < 0.05


@pytest.mark.slow  # the identities above say the same without chance
def test_draws_equal_those_of_the_plain_parameters():
    """A network so small that chains in its own parameters converge too; a bound in standard errors."""
    x, y = rows(6)
    model = RepriorisedBNN(WideNetwork(4, 4, activation="tanh"), x, y, 1.0)
    draws = model.sample(n_draws=200, n_warmup=100, n_chains=16, n_steps=4, seed=2)
    new = rows(3, seed=4)[0]
    start = normal(16, model.n_parameters, seed=11)
    stream = torch_generator(3, "plain")
    plain = hmc(model.energy_of_parameters, start, n_draws=300, n_warmup=100, generator=stream)
    outputs = torch.func.vmap(lambda theta: model.outputs(theta, new))(plain.draws).view(300, 16, 3)
    for power in (1, 2):
        ours, theirs = (values.pow(power).numpy() for values in (draws.outputs(new), outputs))
        error = np.hypot(*(v.std((0, 1)) / np.sqrt(bulk_ess(v)) for v in (ours, theirs)))
        assert (np.abs(ours.mean((0, 1)) - theirs.mean((0, 1))) < 5 * error).all()
    assert (rank_rhat(draws.outputs(new).numpy()) < 1.02).all()


@pytest.mark.slow
def test_predictions_integrate_the_readout():
    model = posterior(width=12)
    draws = model.sample(n_draws=100, n_warmup=50, n_chains=4, seed=4)
    new = rows(5, seed=4)[0]
    mean, variance = draws.predict(new)
    outputs = draws.outputs(new)
    ess = torch.from_numpy(bulk_ess(outputs.numpy()))
    flat = outputs.flatten(0, 1)
    assert ((flat.mean(0) - mean).abs() < 5 * flat.std(0) / ess.sqrt()).all()
    assert ((flat.var(0) / variance).log().abs() < 5 * (2 / ess).sqrt() + 0.1).all()


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: WideNetwork(0, 4), "at least 1"),
        (lambda: WideNetwork(2, 4, activation="softmax"), "one of gelu"),
        (lambda: WideNetwork(2, 4, weight_sd=0.0), "weight_sd"),
        (lambda: posterior(noise=0.0, width=4), "noise"),
        (lambda: posterior(form="both", width=4), "form"),
        (lambda: RepriorisedBNN(WideNetwork(3, 4), *rows(5), 0.1), "shapes"),
        (lambda: RepriorisedBNN(WideNetwork(4, 4), rows(5)[0], torch.full((5,), torch.nan), 0.1), "finite"),
        (lambda: posterior(width=4).sample(method="gibbs"), "method"),
    ],
)
def test_misuse_is_told(make, match):
    with pytest.raises(ValueError, match=match):
        make()
