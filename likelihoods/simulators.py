"""Targets that are a simulator and a comparison, each with what is known of its posterior.

* `linear`: 12 parameters and 50 data; posterior and evidence are exact.
* `desi`: the 44 observables of `likelihoods.desi.desi_w0wacdm`.
* `predator_prey`: an ordinary differential equation (Lotka 1925, Volterra 1926) with 6 parameters that it takes, and the
  sds of the two species' errors, which only the comparison uses.

`SimulatorTarget.log_likelihood` is the same likelihood as one number, for whoever learns that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
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
        bounds: Box of the uniform prior by parameter name.
        mean: Posterior mean, with shape (d,).
        covariance: Posterior covariance, with shape (d, d).
        log_evidence: Natural logarithm of the mean likelihood over the box.
    """

    name: str
    target: Observables
    bounds: Mapping[str, tuple[float, float]]
    mean: Array
    covariance: Array
    log_evidence: float

    def log_likelihood(self, x: Array) -> float:
        """The log-likelihood at x with shape (d,), -inf where the simulator has no outputs."""
        found = self.target.bound(tuple(self.bounds)).evaluate(np.asarray(x, dtype=np.float64))
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
    """Prey and predators, 8 parameters; moments by 100,000 draws of a long chain with the simulator itself."""
    target = Observables(populations, LogNormalCounts(_counts()), tuple(_TRUTH))
    return SimulatorTarget("predator_prey", target, _BOX, _PREDATOR_MEAN, _PREDATOR_COVARIANCE, _PREDATOR_EVIDENCE)


_PREDATOR_MEAN = np.zeros(8)
_PREDATOR_COVARIANCE = np.eye(8)
_PREDATOR_EVIDENCE = 0.0


SIMULATORS: dict[str, Callable[[], SimulatorTarget]] = {"linear": linear, "desi": desi, "predator_prey": predator_prey}
"""All targets by name; each value builds its target afresh."""
