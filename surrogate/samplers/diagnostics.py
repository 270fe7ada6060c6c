"""Convergence diagnostics: autocorrelation times, effective sample sizes and R-hat."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

__all__ = [
    "autocorrelation",
    "bulk_ess",
    "effective_sample_size",
    "integrated_autocorrelation_time",
    "rank_rhat",
    "split_rhat",
    "tail_ess",
]

Centre = Literal["walker", "ensemble"]


def autocorrelation(chain: NDArray, *, centre: Centre = "walker") -> NDArray:
    """Normalised autocorrelation function of each parameter, averaged over walkers.

    With ``centre="walker"`` each walker is centred on its own mean and normalised by its own variance, as in emcee.
    This is biased towards zero unless the chain is much longer than the correlation. With ``centre="ensemble"`` the
    mean and variance are those of all walkers together, and every lag is divided by its number of pairs. This is
    unbiased for a stationary ensemble of any length, and walkers stuck in different modes stay correlated at all lags,
    as they should. O(s log s) for each walker and parameter.

    Args:
        chain: Positions with shape (s, w, d): steps, walkers, parameters.
        centre: Whose mean is subtracted: "walker" or "ensemble".

    Returns:
        The function at lags 0..s-1, with shape (s, d). A parameter that does not vary gets 1 at every lag.
    """
    # One parameter at a time, because the spectra of a long chain of many walkers would fill the memory.
    return np.stack([_autocorrelation(chain[:, :, j], centre) for j in range(chain.shape[2])], axis=1)


def integrated_autocorrelation_time(chain: ArrayLike, *, window: float = 5.0, centre: Centre = "walker") -> NDArray:
    """Steps of the chain per independent draw, tau = 1 + 2 sum_k rho(k), for each parameter.

    The sum stops at the smallest lag M with M >= ``window`` * tau(M) (Sokal's rule). A chain too short for
    any such M gives the sum over all lags, a lower bound.

    Args:
        chain: Positions with shape (s, w, d): steps, walkers, parameters; (s, w) is one parameter.
        window: Sokal's constant; 5 balances bias exp(-5) against noise.
        centre: See :func:`autocorrelation`.

    Returns:
        The times in steps, with shape (d,), at least 1.

    References:
        Sokal (1996), "Monte Carlo methods in statistical mechanics"; Goodman & Weare (2010), section 4.
    """
    values = _three_axes(chain)
    times = 2.0 * np.cumsum(autocorrelation(values, centre=centre), axis=0) - 1.0
    enough = np.arange(len(values))[:, None] >= window * times
    lag = np.where(enough.any(axis=0), enough.argmax(axis=0), len(values) - 1)
    return np.maximum(np.take_along_axis(times, lag[None, :], axis=0)[0], 1.0)


def effective_sample_size(weights: ArrayLike) -> float:
    """Kish's effective number of equally weighted draws, (sum w)^2 / sum w^2.

    Args:
        weights: Non-negative weights with shape (n,), of any normalisation.

    Returns:
        A number in 1..n; 0.0 when every weight is zero.

    Raises:
        ValueError: If a weight is negative or not finite.

    Example:
        >>> effective_sample_size([1.0, 1.0, 0.0])
        2.0
    """
    w = np.asarray(weights, dtype=float)
    if not np.all(np.isfinite(w)) or np.any(w < 0):
        msg = f"weights must be finite and non-negative, got {w[~(np.isfinite(w) & (w >= 0))][0]}"
        raise ValueError(msg)
    if w.size == 0 or w.max() == 0:
        return 0.0
    w = w / w.max()  # avoids underflow of squared tiny weights
    return float(w.sum() ** 2 / (w**2).sum())


def split_rhat(chain: ArrayLike) -> NDArray:
    """Split R-hat, the potential scale reduction of half chains, for each parameter.

    It is 1 if all halves agree; above about 1.01 the walkers disagree or still drift.

    Args:
        chain: Positions with shape (s, w, d) with s >= 4; (s, w) is one parameter.

    Returns:
        R-hat, with shape (d,); NaN for a parameter that does not vary within any half.

    Raises:
        ValueError: If there are fewer than 4 steps.

    References:
        Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), doi:10.1214/20-BA1221, equations 1-4.
    """
    return _rhat(_halves(chain))


def rank_rhat(chain: ArrayLike) -> NDArray:
    """Rank-normalised split R-hat of each parameter: the larger of those for location and scale.

    Unlike ``split_rhat`` it detects walkers with equal means but different spreads, and it is defined for heavy tails.
    Vehtari et al. recommend less than 1.01.

    Args:
        chain: Positions with shape (s, w, d) with s >= 4; (s, w) is one parameter.

    Returns:
        The diagnostic, with shape (d,); NaN for a parameter that does not vary.

    Raises:
        ValueError: If there are fewer than 4 steps.

    References:
        Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), doi:10.1214/20-BA1221, section 4.
    """
    halves = _halves(chain)
    folded = np.abs(halves - np.median(halves, axis=(0, 1)))
    return np.maximum(_rhat(_normal_scores(halves)), _rhat(_normal_scores(folded)))


def bulk_ess(chain: ArrayLike) -> NDArray:
    """Effective number of independent draws for the centre of the distribution, for each parameter.

    It is computed from the rank-normalised halves of the walkers, so walkers that disagree give few effective draws
    however fast each one moves. Reliable from about 100 per walker.

    Args:
        chain: Positions with shape (s, w, d) with s >= 8; (s, w) is one parameter.

    Returns:
        The diagnostic, with shape (d,); NaN for a parameter that does not vary.

    Raises:
        ValueError: If there are fewer than 8 steps.

    References:
        Vehtari, Gelman, Simpson, Carpenter & Buerkner (2021), doi:10.1214/20-BA1221, sections 3.2 and 4.3. Geyer
        (1992), doi:10.1214/ss/1177011137, for the truncation of the sum over lags.
    """
    return _ess(_normal_scores(_halves(chain, least=4)))


def tail_ess(chain: ArrayLike) -> NDArray:
    """The smaller effective number of draws for the 5 % and 95 % quantiles, for each parameter.

    Arguments, result, errors and reference are those of ``bulk_ess``.
    """
    halves = _halves(chain, least=4)
    ends = np.quantile(_three_axes(chain), (0.05, 0.95), axis=(0, 1))
    return np.minimum(*(_ess((halves <= end).astype(float)) for end in ends))


def _halves(chain: ArrayLike, *, least: int = 2) -> NDArray:
    """The two halves of every walker as separate walkers, with shape (s // 2, 2 w, d)."""
    values = _three_axes(chain)
    half = len(values) // 2
    if half < least:
        msg = f"a chain split in halves needs at least {2 * least} steps, got {len(values)}"
        raise ValueError(msg)
    return np.concatenate([values[:half], values[-half:]], axis=1)


def _rhat(chains: NDArray) -> NDArray:
    s = len(chains)
    within = chains.var(axis=0, ddof=1).mean(axis=0)
    between = s * chains.mean(axis=0).var(axis=0, ddof=1)
    ratio = np.divide(between, within, out=np.full_like(within, np.nan), where=within > 0)
    return np.sqrt((s - 1) / s + ratio / s)


def _normal_scores(chains: NDArray) -> NDArray:
    """Normal quantiles of the ranks over all steps and walkers, by Blom's formula."""
    s, w, d = chains.shape
    ranks = rankdata(chains.reshape(s * w, d), axis=0)
    return ndtri((ranks - 0.375) / (s * w + 0.25)).reshape(s, w, d)


def _ess(chains: NDArray) -> NDArray:
    return np.array([_ess_of_one(chains[:, :, j]) for j in range(chains.shape[2])])


def _ess_of_one(chains: NDArray) -> float:
    """Geyer's initial monotone sequence for several chains of one parameter, with shape (s, w)."""
    s, w = chains.shape
    spectrum = np.fft.rfft(chains - chains.mean(axis=0), n=2 * s, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, n=2 * s, axis=0)[:s].mean(axis=1) / s
    within = covariance[0] * s / (s - 1)
    total = covariance[0] + (chains.mean(axis=0).var(ddof=1) if w > 1 else 0.0)
    if not total > 0:
        return np.nan
    rho = 1.0 - (within - covariance) / total
    rho[0] = 1.0
    pairs = rho[: 2 * ((s - 1) // 2)].reshape(-1, 2).sum(1)
    ends = np.flatnonzero(pairs <= 0)
    end = int(ends[0]) if len(ends) else len(pairs) - 1
    # From the last pair only the even lag is added, if positive, which is less biased for antithetic chains.
    time = 2.0 * np.minimum.accumulate(pairs[:end]).sum() - 1.0 + max(rho[2 * end], 0.0)
    return s * w / max(time, 1.0 / np.log10(s * w))


def _autocorrelation(series: NDArray, centre: Centre) -> NDArray:
    """Autocorrelation function, with shape (s,), of one parameter with shape (s, w)."""
    s = len(series)
    mean = series.mean(axis=0) if centre == "walker" else series.mean()
    spectrum = np.fft.rfft(series - mean, n=2 * s, axis=0)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, n=2 * s, axis=0)[:s]
    if centre == "walker":
        return _ratio(covariance).mean(axis=1)
    return _ratio(covariance.mean(axis=1) / np.arange(s, 0, -1))


def _ratio(covariance: NDArray) -> NDArray:
    zero = covariance[:1]
    return np.divide(covariance, zero, out=np.ones_like(covariance), where=zero > 0)


def _three_axes(chain: ArrayLike) -> NDArray:
    values = np.asarray(chain, dtype=float)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or len(values) == 0:
        msg = f"chain must have shape (steps, walkers, parameters) with at least one step, got {values.shape}"
        raise ValueError(msg)
    return values
