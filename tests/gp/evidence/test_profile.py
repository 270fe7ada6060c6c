from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from surrogate.gp.evidence.profile import NoiseProfile
from surrogate.linalg.stationary import CORRELATIONS, squared_distance

N = 400


def problem(*, noise, seed=0, lengthscale=0.3, trend=True):
    """A draw of trend + process + noise at N points of the unit square."""
    rng = np.random.default_rng(seed)
    x = torch.tensor(rng.random((N, 2)))
    k = CORRELATIONS["matern52"].correlation(squared_distance(x, x).fill_diagonal_(0.0) / lengthscale**2)
    root = torch.linalg.cholesky(k + 1e-10 * torch.eye(N, dtype=torch.float64))
    y = root @ torch.tensor(rng.standard_normal(N)) + math.sqrt(noise) * torch.tensor(rng.standard_normal(N))
    design = torch.cat([torch.ones(N, 1, dtype=torch.float64), x], 1)
    return k, y + design @ torch.tensor([3.0, -2.0, 5.0], dtype=torch.float64), design if trend else None


def restricted(k, y, design, *, eta, s2):
    """The textbook restricted log-likelihood, by dense inverses."""
    cov = s2 * (k + eta * torch.eye(N, dtype=torch.float64))
    inverse = torch.linalg.inv(cov)
    information = design.T @ inverse @ design
    m = inverse - inverse @ design @ torch.linalg.inv(information) @ design.T @ inverse
    p = N - design.shape[1]
    return float(
        -0.5 * (p * math.log(2 * math.pi) + torch.logdet(cov) + torch.logdet(information) + y @ m @ y)
        + 0.5 * torch.logdet(design.T @ design)
    )


def test_value_is_the_textbook_formula():
    k, y, design = problem(noise=1e-2)
    profile = NoiseProfile.of(k, y, trend=design)
    for eta in (1e-3, 0.1, 10.0):
        assert profile.value(eta) == pytest.approx(
            restricted(k, y, design, eta=eta, s2=profile.signal_variance(eta)), abs=1e-5
        )


def test_the_trend_does_not_matter():
    k, y, design = problem(noise=1e-2)
    profile = NoiseProfile.of(k, y, trend=design)
    shifted = NoiseProfile.of(k, y + 100.0 * design[:, 1], trend=design)
    assert shifted.value(0.3) == pytest.approx(profile.value(0.3), rel=1e-9)


@pytest.mark.parametrize("noise", [1e-3, 1e-1, 1.0])
def test_derivative_is_that_of_the_value(noise):
    profile = NoiseProfile.of(*problem(noise=noise)[:2])
    for eta in (1e-3, 0.1, 10.0):
        step = 1e-5 * eta
        slope = (profile.value(eta + step) - profile.value(eta - step)) / (2 * step)
        assert profile.derivative(eta) == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [1e-6, 1e-4, 1e-2, 1.0])
def test_one_dimension_finds_what_two_find(noise, seed):
    k, y, design = problem(noise=noise, seed=seed)
    profile = NoiseProfile.of(k, y, trend=design)
    estimate = profile.maximise()

    def cost(theta):
        signal, sigma = np.exp(theta)
        spectrum = signal * profile.eigenvalues + sigma
        return 0.5 * float((torch.log(2 * math.pi * spectrum) + profile.rotated.square() / spectrum).sum())

    start = np.log([estimate.signal_variance, estimate.noise_variance]) + [0.3, -0.4]
    best = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 2000})
    assert estimate.status == "interior"
    assert estimate.log_likelihood == pytest.approx(-best.fun, abs=1e-6)
    assert estimate.log_likelihood >= -best.fun - 1e-9
    np.testing.assert_allclose(np.exp(best.x), [estimate.signal_variance, estimate.noise_variance], rtol=1e-3)


def test_noise_is_found_within_its_error():
    estimates = [NoiseProfile.of(*problem(noise=0.04, seed=s)[:2], trend=problem(noise=1)[2]) for s in range(12)]
    logs = np.log([profile.maximise().noise_variance for profile in estimates])
    assert abs(logs.mean() - math.log(0.04)) < 4 * logs.std(ddof=1) / math.sqrt(len(logs)) + 0.05


@pytest.mark.parametrize("seed", range(3))
def test_derivative_stays_within_its_bound(seed):
    profile = NoiseProfile.of(*problem(noise=0.01, seed=seed)[:2])
    for eta in np.logspace(-10, 6, 31):
        assert abs(profile.derivative(eta)) <= profile.derivative_bound(eta) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_asymptote_is_reached(seed):
    profile = NoiseProfile.of(*problem(noise=0.01, seed=seed)[:2])
    ratios = [profile.asymptote(eta) / profile.derivative(eta) for eta in (1e3, 1e4, 1e5)]
    errors = np.abs(np.array(ratios) - 1)
    assert errors[2] < 1e-4
    assert errors[0] > 20 * errors[1] > 20 * 20 * errors[2] * 0.2


def test_pure_noise_is_told():
    k, _, _ = problem(noise=1.0)
    vectors = torch.linalg.eigh(k).eigenvectors
    y = vectors[:, : N // 2].sum(1)  # only where the kernel has next to no variance
    estimate = NoiseProfile.of(k, y).maximise()
    assert estimate.status == "pure noise"
    assert estimate.signal_variance == 0.0
    assert NoiseProfile.of(k, y).derivative(1e4) > 0


def test_no_noise_is_told():
    k, _, _ = problem(noise=1.0)
    values, vectors = torch.linalg.eigh(k)
    y = vectors @ (values.clamp(min=1e-16).sqrt() * torch.tensor(np.random.default_rng(0).choice([-1.0, 1.0], N)))
    assert NoiseProfile.of(k, y).maximise(bounds=(1e-3, 10.0)).status == "least"


def test_two_maxima_are_both_found():
    eigenvalues = torch.cat([torch.full((60,), 1e-6), torch.full((60,), 1.0)]).double()
    rotated = torch.cat([torch.full((59,), 1e-4), torch.tensor([0.05]), torch.full((60,), 1.0)]).double()
    few = NoiseProfile(eigenvalues, rotated).maximise()
    assert len(few.candidates) >= 1
    assert few.log_likelihood == max(NoiseProfile(eigenvalues, rotated).value(eta) for eta in few.candidates)


def test_misuse_is_told():
    k, y, design = problem(noise=1.0)
    with pytest.raises(ValueError, match="kernel must have shape"):
        NoiseProfile.of(k[:5], y)
    with pytest.raises(ValueError, match="trend must have shape"):
        NoiseProfile.of(k, y, trend=design[:5])
    with pytest.raises(ValueError, match="independent"):
        NoiseProfile.of(k, y, trend=torch.cat([design, design[:, :1]], 1))
