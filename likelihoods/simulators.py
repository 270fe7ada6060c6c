"""Targets that are a simulator and a comparison, each with what is known of its posterior.

* `linear`: 12 parameters and 50 data; posterior and evidence are exact.
* `desi`: the 44 observables of `likelihoods.desi.desi_w0wacdm`.
* `spectrum`: a toy of a power spectrum in 613 bins with 6 parameters, and up to 20 nuisance templates.
* `predator_prey`: an ordinary differential equation (Lotka 1925, Volterra 1926) with 6 parameters, and the sds of the
  two species' errors, which only the comparison uses.

`SimulatorTarget.log_likelihood` is the same likelihood as one number, for whoever learns that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from scipy.linalg import block_diag

from likelihoods import desi as desi_data
from likelihoods.target import Array
from surrogate.problem.gaussian_data import GaussianData
from surrogate.problem.observables import Observables

__all__ = ["SIMULATORS", "SimulatorTarget", "desi", "linear", "populations", "predator_prey"]


@dataclass(frozen=True, eq=False)
class SimulatorTarget:
    """A simulator, a comparison, and what is known of the posterior.

    Attributes:
        name: Name of the target.
        target: Simulator and comparison.
        prior: Prior by parameter name.
        mean: Posterior mean, with shape (d,).
        covariance: Posterior covariance, with shape (d, d).
        log_evidence: Natural logarithm of the integral of likelihood times prior.
    """

    name: str
    target: Observables
    prior: Mapping[str, Any]
    mean: Array
    covariance: Array
    log_evidence: float

    def log_likelihood(self, x: Array) -> float:
        """The log-likelihood at x with shape (d,), -inf where the simulator has no outputs."""
        found = self.target.bound(tuple(self.prior)).evaluate(np.asarray(x, dtype=np.float64))
        return float(found.y)


def linear(d: int = 12, m: int = 50, *, seed: int = 0) -> SimulatorTarget:
    """f = A x with a random matrix A, and data with independent errors of 0.1; the box is [-5, 5]^d."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((m, d))
    y = matrix @ rng.uniform(-0.3, 0.3, d) + 0.1 * rng.standard_normal(m)
    covariance = np.linalg.inv(matrix.T @ matrix / 0.01)
    mean = covariance @ matrix.T @ y / 0.01
    chi2 = float(((y - matrix @ mean) ** 2).sum()) / 0.01
    log_evidence = -0.5 * chi2 + 0.5 * np.linalg.slogdet(2.0 * np.pi * covariance)[1] - d * np.log(10.0)
    bounds = {f"x{i}": (-5.0, 5.0) for i in range(d)}
    target = Observables(lambda x: matrix @ x, GaussianData(y, np.full(m, 0.01)))
    return SimulatorTarget("linear", target, bounds, mean, covariance, float(log_evidence))


def desi() -> SimulatorTarget:
    """Distances over r_d, expansion rates and omega_b of w0waCDM, 44 numbers, with the posterior of `desi_w0wacdm`."""
    known = desi_data.desi_w0wacdm()
    z, rates, sds = desi_data.CHRONOMETERS.T
    y = np.concatenate([desi_data.BAO_DISTANCES, rates, [desi_data.OMEGA_B_BBN]])
    covariance = block_diag(desi_data.BAO_COVARIANCE, np.diag(sds**2), desi_data.OMEGA_B_BBN_SD**2)
    return SimulatorTarget(
        "desi",
        Observables(desi_data.observables, GaussianData(y, covariance)),
        known.prior,
        np.asarray(known.mean),
        np.asarray(known.covariance),
        float(known.log_evidence or 0.0),
    )


_TIMES = np.linspace(1.0, 20.0, 20)
_STEPS = 10  # of the solver between two times: its error is below 1e-5 of the populations

# Rates of growth, predation, death and gain, the initial populations in thousands, and the sds of log populations.
_TRUTH = {"alpha": 0.55, "beta": 0.028, "gamma": 0.84, "delta": 0.026, "prey": 33.0, "predator": 6.0}
_NOISE = {"sd_prey": 0.25, "sd_predator": 0.25}
_BOX = {
    "alpha": (0.2, 1.2),
    "beta": (0.005, 0.08),
    "gamma": (0.3, 2.0),
    "delta": (0.005, 0.08),
    "prey": (10.0, 80.0),
    "predator": (1.0, 20.0),
    "sd_prey": (0.05, 1.0),
    "sd_predator": (0.05, 1.0),
}


def populations(alpha: Any, beta: Any, gamma: Any, delta: Any, prey: Any, predator: Any) -> Array:
    """Prey and predators at 20 times, with shape (2, 20), or (m, 2, 20) for parameters with shape (m,).

    du/dt = alpha u - beta u v, dv/dt = delta u v - gamma v, for the logarithms, by the fourth-order Runge-Kutta method.
    """
    alpha, beta, gamma, delta = (np.asarray(value, dtype=np.float64) for value in (alpha, beta, gamma, delta))
    state = np.stack(np.broadcast_arrays(np.log(prey), np.log(predator), alpha)[:2])

    def slope(log: Array) -> Array:
        u, v = np.exp(np.clip(log, -50.0, 20.0))
        return np.stack([alpha - beta * v, delta * u - gamma])

    out, h, before = [], 0.0, 0.0
    for time in _TIMES:
        h, before = (time - before) / _STEPS, time
        for _ in range(_STEPS):
            k1 = slope(state)
            k2 = slope(state + 0.5 * h * k1)
            k3 = slope(state + 0.5 * h * k2)
            k4 = slope(state + h * k3)
            state = state + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
        out.append(np.exp(np.clip(state, -50.0, 50.0)))
    return np.moveaxis(np.stack(out, axis=-1), 0, -2)


def _counts() -> Array:
    """Observed populations, with shape (2, 20): log-normal errors of the truth."""
    errors = np.random.default_rng(7).standard_normal((2, len(_TIMES)))
    return populations(**_TRUTH) * np.exp(np.array(list(_NOISE.values()))[:, None] * errors)


@dataclass(frozen=True, eq=False)
class LogNormalCounts:
    """The log-likelihood of counts with log-normal errors, whose sds are parameters; up to the constant of the data.

    Attributes:
        counts: Observed populations, with shape (2, k).
    """

    counts: Array
    vectorized: bool = True

    def __call__(self, outputs: Array, parameters: Mapping[str, Array]) -> Array:
        """Log-likelihoods of populations with shape (m, 2, k); -inf where one is not positive."""
        sd = np.stack([np.broadcast_to(parameters[name], len(outputs)) for name in _NOISE], axis=1)
        positive = (outputs > 0.0).all((1, 2))
        residual = np.log(np.where(outputs > 0.0, outputs, 1.0) / self.counts) / sd[..., None]
        value = -0.5 * (residual**2).sum((1, 2)) - self.counts.shape[1] * np.log(sd * np.sqrt(2.0 * np.pi)).sum(1)
        return np.where(positive, value, -np.inf)


def predator_prey() -> SimulatorTarget:
    """Prey and predators, 8 parameters; moments and evidence by importance sampling.

    60,000 draws of an adapted mixture, with an effective size of 25,000: the evidence is good to 0.005.
    """
    target = Observables(populations, LogNormalCounts(_counts()), tuple(_TRUTH))
    return SimulatorTarget("predator_prey", target, _BOX, _PREDATOR_MEAN, _PREDATOR_COVARIANCE, _PREDATOR_EVIDENCE)


_PREDATOR_MEAN = np.array([0.549548, 0.0318171, 0.815231, 0.0266688, 33.6856, 5.14349, 0.201832, 0.243357])
_PREDATOR_SD = np.array([0.056237, 0.00446397, 0.0846986, 0.00354893, 2.92135, 0.458802, 0.0386687, 0.0469871])
_PREDATOR_CORRELATION = np.array(
    [
        [1, 0.884, -0.937, -0.876, 0.074, 0.46, -0.007, 0.028],
        [0.884, 1, -0.888, -0.802, 0.131, 0.286, -0.025, 0.059],
        [-0.937, -0.888, 1, 0.924, -0.27, -0.521, 0.074, -0.065],
        [-0.876, -0.802, 0.924, 1, -0.472, -0.395, 0.077, -0.06],
        [0.074, 0.131, -0.27, -0.472, 1, 0.018, -0.181, 0.199],
        [0.46, 0.286, -0.521, -0.395, 0.018, 1, -0.01, 0.08],
        [-0.007, -0.025, 0.074, 0.077, -0.181, -0.01, 1, -0.044],
        [0.028, 0.059, -0.065, -0.06, 0.199, 0.08, -0.044, 1],
    ]
)
_PREDATOR_COVARIANCE = _PREDATOR_CORRELATION * np.outer(_PREDATOR_SD, _PREDATOR_SD)
_PREDATOR_EVIDENCE = -13.0467


_MULTIPOLES = np.linspace(30.0, 2500.0, 613)
_SPECTRUM = {"amplitude": 1.0, "tilt": 0.96, "scale": 0.0104, "phase": 0.4, "contrast": 0.45, "damping": 1.4}
_SPECTRUM_BOX = {
    "amplitude": (0.5, 2.0),
    "tilt": (0.8, 1.2),
    "scale": (0.0095, 0.0115),
    "phase": (-1.0, 1.5),
    "contrast": (0.1, 1.0),
    "damping": (0.7, 3.0),
}


def bands(amplitude: float, tilt: float, scale: float, phase: float, contrast: float, damping: float) -> Array:
    """A damped spectrum with peaks in 613 bins, as of the cosmic microwave background; a toy, in arbitrary units."""
    ell = _MULTIPOLES
    smooth = amplitude * (ell / 500.0) ** (tilt - 1.0) * np.exp(-((ell / (1000.0 * damping)) ** 2))
    return smooth * (1.0 + contrast * np.cos(scale * ell + phase))


def spectrum(n_nuisance: int = 0) -> SimulatorTarget:
    """613 bins, 6 parameters, and nuisance templates with standard normal amplitudes, as foregrounds have.

    The posterior and the evidence are those of the six parameters with the templates integrated out exactly, by
    importance sampling: all but the amplitudes' own moments, which are left out of ``mean`` and ``covariance``.
    """
    rng = np.random.default_rng(11)
    ell = _MULTIPOLES
    noise = 0.02 * (1.0 + (ell / 1500.0) ** 2)
    covariance = np.diag(noise**2) + 2e-6 * np.exp(-np.abs(ell[:, None] - ell) / 60.0)
    powers, centres = rng.uniform(-1.0, 2.0, 20), rng.uniform(200.0, 2300.0, 20)
    rows = 0.01 * (ell / 1000.0) ** powers[:, None] * np.exp(-0.5 * ((ell - centres[:, None]) / 900.0) ** 2)
    templates = {f"n{i}": rows[i] for i in range(n_nuisance)}
    y = bands(**_SPECTRUM) + np.linalg.cholesky(covariance) @ rng.standard_normal(len(ell))
    target = Observables(bands, GaussianData(y, covariance, templates=templates), tuple(_SPECTRUM))
    prior = {**_SPECTRUM_BOX, **{name: stats.norm(0.0, 1.0) for name in templates}}
    marginal = GaussianData(
        y, covariance + sum((np.outer(r, r) for r in templates.values()), np.zeros(covariance.shape))
    )
    mean, moments, log_evidence = _integrated(marginal, float(np.linalg.slogdet(covariance)[1]))
    return SimulatorTarget(f"spectrum_{n_nuisance}", target, prior, mean, moments, log_evidence)


def _integrated(data: GaussianData, log_determinant: float) -> tuple[Array, Array, float]:
    """Moments and evidence of the six parameters of ``bands`` for data, by importance sampling about the mode.

    Args:
        data: With templates integrated out.
        log_determinant: That of the covariance without templates, whose normalisation the likelihood has.
    """
    low, high = np.array(list(_SPECTRUM_BOX.values())).T
    x, scale = np.array(list(_SPECTRUM.values())), high - low
    steps = 1e-4 * np.diag(scale)
    for _ in range(5):  # Gauss-Newton
        jacobian = np.array([(bands(*(x + s)) - bands(*(x - s))) / 2e-4 for s in steps])
        white = data.whitened(np.concatenate([jacobian, (bands(*x) - data.y)[None]]))
        shape = np.linalg.inv(white[:-1] @ white[:-1].T)
        x = x - scale * (shape @ (white[:-1] @ white[-1]))
    covariance = shape * np.outer(scale, scale)
    proposal = stats.multivariate_t(x, 1.2 * covariance, df=8)
    draws = proposal.rvs(4000, random_state=np.random.default_rng(0))
    draws = draws[((draws >= low) & (draws <= high)).all(1)]
    values = data(np.array([bands(*point) for point in draws]), {})
    log_weights = values - proposal.logpdf(draws)
    weights = np.exp(log_weights - log_weights.max())
    log_evidence = np.log(weights.sum() / 4000.0) + log_weights.max() - np.log(scale).sum()
    weights /= weights.sum()
    mean = weights @ draws
    integrated = 2.0 * np.log(np.diag(np.linalg.cholesky(_covariance_of(data)))).sum()
    log_evidence += 0.5 * (log_determinant - integrated)
    return mean, (draws - mean).T @ ((draws - mean) * weights[:, None]), float(log_evidence)


def _covariance_of(data: GaussianData) -> Array:
    """The covariance of data of one block."""
    unit = data.correlated(np.eye(data.size))
    return np.asarray(unit.T @ unit)


SIMULATORS: dict[str, Callable[[], SimulatorTarget]] = {
    "linear": linear,
    "desi": desi,
    "predator_prey": predator_prey,
    "spectrum": spectrum,
}
"""All targets by name; each value builds its target afresh."""
