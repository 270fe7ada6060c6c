"""The tension between two data sets: whether the same parameters describe both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from surrogate.arrays import Array, default_float_errors
from surrogate.rng import generator

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["Tension", "tension"]


_DRAWS, _PATHS = 300, 64  # draws and paths for the surrogate's contribution to the error of a mean log-likelihood


@dataclass(frozen=True, eq=False)
class Tension:
    """Measures of the agreement between two data sets.

    Attributes:
        log_bayes_ratio: ln R = ln Z_ab - ln Z_a - ln Z_b: positive if one set of parameters for both is more probable
            than a set for each. It depends on the width of the prior.
        log_bayes_ratio_error: Its standard error.
        log_suspiciousness: ln S = <ln L_ab> - <ln L_a> - <ln L_b>, with posterior means: the part of ln R that does not
            depend on the width of the prior. It is zero on average for data that agree, and negative in tension
            (Handley and Lemos 2019, arXiv:1902.04029).
        log_suspiciousness_error: Its standard error.
        names: Names of the common parameters.
        shift: Differences of their posterior means in units of the standard deviation, with shape (k,).
        shift_chi2: Chi-squared of the shifts of all parameters together.
        shift_probability: Probability of a larger value for data that agree, for Gaussian posteriors in a wide prior.
    """

    log_bayes_ratio: float
    log_bayes_ratio_error: float
    log_suspiciousness: float
    log_suspiciousness_error: float
    names: tuple[str, ...]
    shift: Array
    shift_chi2: float
    shift_probability: float

    def __str__(self) -> str:
        return (
            f"log Bayes ratio {self.log_bayes_ratio:.2f} +- {self.log_bayes_ratio_error:.2f}, log suspiciousness "
            f"{self.log_suspiciousness:.2f} +- {self.log_suspiciousness_error:.2f}, shift of {len(self.names)} "
            f"parameters chi2 {self.shift_chi2:.2f} (probability {self.shift_probability:.2g})"
        )


@default_float_errors()
def tension(a: Result, b: Result, joint: Result) -> Tension:
    """The tension between two data sets, from their results and the joint result.

    Args:
        a: Result for the first data set, from ``infer`` or ``compare_with``.
        b: Result for the second one, with the same prior of the common parameters.
        joint: Result for both.

    Returns:
        Log Bayes ratio, suspiciousness and shifts of parameters, with errors.

    Raises:
        ValueError: If the data sets have no parameter in common.
    """
    names = tuple(name for name in a.names if name in b.names)
    if not names:
        msg = f"the data sets have no common parameter: {', '.join(a.names)} and {', '.join(b.names)}"
        raise ValueError(msg)
    means = [_mean_log_likelihood(result) for result in (joint, a, b)]
    columns = [[result.names.index(name) for name in names] for result in (a, b)]
    difference = a.mean[columns[0]] - b.mean[columns[1]]
    covariance = a.covariance[np.ix_(columns[0], columns[0])] + b.covariance[np.ix_(columns[1], columns[1])]
    chi2 = float(difference @ np.linalg.solve(covariance, difference))
    return Tension(
        joint.log_evidence - a.log_evidence - b.log_evidence,
        float(np.linalg.norm([result.log_evidence_error for result in (joint, a, b)])),
        means[0][0] - means[1][0] - means[2][0],
        float(np.linalg.norm([error for _, error in means])),
        names,
        difference / np.sqrt(np.diag(covariance)),
        chi2,
        float(stats.chi2.sf(chi2, len(names))),
    )


def _mean_log_likelihood(result: Result) -> tuple[float, float]:
    """Posterior mean of the log-likelihood, and its standard error due to the draws and the surrogate."""
    values = result.log_posterior - result.draws.log_prior
    mean = float(result.weights @ values)
    sd = float(np.sqrt(result.weights @ (values - mean) ** 2))
    ess = max(float(result.sampler.get("ess", 1.0 / (result.weights**2).sum())), 1.0)
    return mean, float(np.hypot(sd / np.sqrt(ess), _surrogate_error(result, values)))


def _surrogate_error(result: Result, values: Array) -> float:
    """Sd of the posterior mean log-likelihood over paths of the surrogate."""
    model, scaled = getattr(result.emulator, "model", None), getattr(result.emulator, "scaled", None)
    if model is None or scaled is None:
        return 0.0
    rng = generator(0, "tension")
    rows = rng.choice(len(values), _DRAWS, p=result.weights)
    deviations = model.deviations(scaled.to_unit(result.samples[rows]), _PATHS, rng)
    finite = np.where(np.isfinite(deviations), deviations, -1e300)
    weights = np.exp(finite - finite.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    means = (weights * (values[rows] + np.where(np.isfinite(deviations), deviations, 0.0))).sum(1)
    return float(means.std())
