"""Information criteria of a finished run: AIC, BIC, DIC and WAIC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array
from surrogate.rng import generator

if TYPE_CHECKING:
    from surrogate.inference.best_fit import BestFit
    from surrogate.inference.result import Result

__all__ = ["Criteria", "information_criteria", "waic"]


_INFLUENTIAL = 0.4
"""Variance of a datum's log density over the posterior above which WAIC is unreliable.

Vehtari, Gelman & Gabry (2017), doi:10.1007/s11222-016-9696-4, section 2.
"""


@dataclass(frozen=True)
class Criteria:
    """Information criteria of a model on the scale of -2 log-likelihood: smaller is better, NaN if unknown.

    Attributes:
        aic: Akaike's (1974), 2 d - 2 ln L_max.
        aicc: The same with the correction for few data, + 2 d (d + 1) / (n - d - 1).
        bic: Schwarz's (1978), d ln n - 2 ln L_max.
        dic: Spiegelhalter et al.'s (2002), D(mean) + 2 p, with D = -2 ln L.
        p_dic: Effective number of parameters p = mean(D) - D(mean).
        waic: Watanabe's (2010), -2 sum_i (ln mean L_i - var ln L_i) over the data.
        waic_error: Standard error of ``waic``, from its spread over the data.
        p_waic: Effective number of parameters, sum_i var ln L_i.
        warnings: Sentences on limitations of these numbers.
    """

    aic: float = np.nan
    aicc: float = np.nan
    bic: float = np.nan
    dic: float = np.nan
    p_dic: float = np.nan
    waic: float = np.nan
    waic_error: float = np.nan
    p_waic: float = np.nan
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, str]]:
        """Names and values of the known criteria, as text."""
        names = {"aic": "AIC", "aicc": "AICc", "bic": "BIC", "dic": "DIC", "waic": "WAIC"}
        rows = [(words, f"{getattr(self, name):.3f}") for name, words in names.items()]
        return [(words, value) for words, value in rows if value != "nan"]


def information_criteria(
    result: Result,
    *,
    n_data: int | None = None,
    best_fit: BestFit | None = None,
    log_likelihoods: Any = None,
    n_draws: int = 400,
    seed: int = 0,
) -> Criteria:
    """Information criteria of a run.

    AIC and BIC use the highest log-likelihood, DIC the surrogate at the draws and at their mean, and WAIC the log
    density of each datum. Unlike evidences, none of them depends on the widths of priors.

    Args:
        result: Result of the run.
        n_data: Number of data, for AICc and BIC.
        best_fit: ``result.maximum("likelihood")``; by default the maximum of the surrogate, with a warning.
        log_likelihoods: For WAIC: a function of a point x with shape (d,) that returns the log density of each datum,
            with shape (n,), called at ``n_draws`` draws; or its values at equally weighted draws, with shape (m, n).
        n_draws: Draws at which the function is called.
        seed: Seed for choosing these draws.

    Raises:
        ValueError: If an argument has a wrong value or shape.
    """
    if n_data is not None and n_data < 1:
        msg = f"n_data must be at least 1, got {n_data}"
        raise ValueError(msg)
    if best_fit is not None and best_fit.of != "likelihood":
        msg = "best_fit must be result.maximum('likelihood'), got the maximum of the posterior"
        raise ValueError(msg)
    d, warnings = len(result.names), []
    fit = result.maximum("likelihood", max_evaluations=0) if best_fit is None else best_fit
    if not fit.confirmed:
        warnings.append(f"AIC and BIC: {fit.status}")
    chi_squared = fit.chi_squared
    n = np.nan if n_data is None else float(n_data)
    few = 2.0 * d * (d + 1) / (n - d - 1) if n > d + 1 else np.nan
    dic, p_dic = _dic(result)
    if p_dic < 0:
        warnings.append("DIC: its number of parameters is negative, because the mean lies outside the posterior")
    per_datum = _per_datum(result, log_likelihoods, n_draws, seed)
    widely = (np.nan, np.nan, np.nan, 0) if per_datum is None else waic(per_datum)
    if widely[3]:
        warnings.append(f"WAIC: {widely[3]} data depend strongly on the parameters (variance above {_INFLUENTIAL})")
    return Criteria(
        aic=2.0 * d + chi_squared,
        aicc=2.0 * d + chi_squared + few,
        bic=d * float(np.log(n)) + chi_squared,
        dic=dic,
        p_dic=p_dic,
        waic=widely[0],
        waic_error=widely[1],
        p_waic=widely[2],
        warnings=tuple(warnings),
    )


def _dic(result: Result) -> tuple[float, float]:
    """The deviance information criterion and its number of parameters, from the surrogate."""
    log_likelihood = result.log_posterior - result.draws.log_prior
    mean_deviance = -2.0 * float(result.weights @ log_likelihood)
    at_mean = -2.0 * float(result.emulator.predict(result.draws.mean[None])[0][0])
    p = mean_deviance - at_mean
    return at_mean + 2.0 * p, p


def _per_datum(result: Result, log_likelihoods: Any, n: int, seed: int) -> Array | None:
    if log_likelihoods is None:
        return None
    if isinstance(log_likelihoods, Callable):  # type: ignore[arg-type]
        rows = generator(seed, "waic").choice(len(result.weights), n, p=result.weights)
        log_likelihoods = np.array([np.ravel(log_likelihoods(x)) for x in result.samples[rows]])
    table = np.asarray(log_likelihoods, dtype=np.float64)
    if table.ndim != 2 or table.shape[0] < 2 or not np.isfinite(table).all():
        msg = f"log_likelihoods must be finite numbers with shape (draws, data), got shape {table.shape}"
        raise ValueError(msg)
    return table


def waic(log_likelihoods: Array) -> tuple[float, float, float, int]:
    """WAIC, its standard error, its effective number of parameters, and the number of influential data.

    Args:
        log_likelihoods: Log density of each datum at equally weighted draws, with shape (m, n).
    """
    m, n = log_likelihoods.shape
    log_mean = logsumexp(log_likelihoods, axis=0) - np.log(m)
    variance = log_likelihoods.var(axis=0, ddof=1)
    each = -2.0 * (log_mean - variance)
    error = float(np.sqrt(n * each.var(ddof=1))) if n > 1 else np.nan
    return float(each.sum()), error, float(variance.sum()), int((variance > _INFLUENTIAL).sum())
