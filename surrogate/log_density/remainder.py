"""What a Gaussian that explains nearly all values exactly leaves to further modes.

A mode adds to the likelihood everywhere, a little even where another one dominates: of 24 values in four dimensions 23
lay on a quadratic within 4e-11 nats, and one 0.23 nats above it, 5.5 standard deviations from a mode that nothing else
spoke of. Where a quadratic is that good, such a value is a hint of a further mode, and says how high it is there; all
other values say that it is much lower than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr
from scipy.special import gammaln

from surrogate.arrays import Array, Flags
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.parameters import trend_size
from surrogate.log_density.peaks import Peaks, monomials_of

__all__ = ["Remainder", "remainder"]


_POWER = 1.5  # a cubic term, the first that a quadratic lacks, grows with this power of the depth
_DEEPEST = 1e9  # nats, beyond which a value is a sentinel, which no quadratic needs to explain
_MANY = 20  # number of coordinates above which no hints are looked for, because fits take a second
_FLOOR = 1e-9  # least error in nats of a quadratic, because of rounding
_EXACT = 1e-3  # error in nats, near the best point, up to which a quadratic without hints counts as exact
_SPARE = 4  # least number of values in excess of the coefficients
_MOST_HINTS, _SHARE_OF_HINTS = 30, 0.34  # largest number of hints, and as a share of the values
_CHANCE = 7.0  # nats of evidence from which a better fit without some values is no accident
_SURE = 30.0  # sds from which a value lies above the quadratic


@dataclass(frozen=True, eq=False)
class Remainder:
    """What a quadratic leaves of the likelihood.

    Attributes:
        log_likelihood: Log of the likelihood beyond that of the Gaussian at the evaluated points, with shape (n,): what
            it is at hints, what it is at most elsewhere.
        hints: Which values lie above the quadratic, with shape (n,).
        error: Error of the quadratic near the best point, in nats.
        coefficients: Number of coefficients that the Gaussians have.
        warp: Map to the coordinates in which they are Gaussians; None if they are so in those of the points.
    """

    log_likelihood: Array
    hints: Flags
    error: float
    coefficients: int
    warp: InputWarp | None = None

    def unseen(self, depth: Array) -> Array:
        """By how many nats a further mode must lie below a value at this depth to go unnoticed, with the same shape."""
        return -_log_part(_SURE * self.error * _growth(np.where(np.isfinite(depth), depth, 0.0)))


def remainder(w: Array, y: Array, peaks: Peaks | None = None) -> Remainder | None:
    """What a Gaussian, or a sum of several, leaves of a likelihood; None if none explains nearly all values.

    Values above a quadratic are left out one by one, each time the one whose absence improves the fit most. The
    errors that a quadratic may have grow like the 1.5th power of the depth. At most 30 fits, O(n p^2) each.

    Args:
        w: Evaluated points in coordinates in which the logarithm of a Gaussian is quadratic, with shape (n, e).
        y: Their finite log-likelihoods, with shape (n,).
        peaks: Places and shapes of several Gaussians, near enough for their shares.
    """
    n, p = len(w), trend_size(w.shape[1]) * (1 if peaks is None else len(peaks))
    if n < p + _SPARE:
        return None
    most = min(_MOST_HINTS, int(_SHARE_OF_HINTS * n), n - p - _SPARE) if w.shape[1] <= _MANY else 0
    depth = y.max() - y
    values = -depth if peaks is None else y - y.max() - peaks.log_sum(w)
    growth = _growth(depth)
    rows, values = _basis(w, peaks) / growth[:, None], values / growth
    best = _fit_without_hints(rows, values, depth > 0.0, most)
    hints = ~best.kept
    if (best.left_out[hints] <= _SURE * best.error).any() or (not hints.any() and best.error > _EXACT):
        return None
    part = np.where(hints, best.left_out, _SURE * best.error / np.sqrt(1.0 - best.leverage))
    seen = part * growth
    below = np.where(hints, depth + seen, depth)  # of the quadratic at hints
    return Remainder(y.max() - below + _log_part(seen), hints, best.error, p)


def _fit_without_hints(rows: Array, values: Array, candidates: Flags, most: int) -> _Fit:
    """The fit that chance explains least, without some of the candidates above it, at most so many."""
    n, p = rows.shape
    kept = np.ones(n, dtype=bool)
    first = fit = _Fit.of(rows, values, kept)
    best, score = fit, 0.0
    for count in range(1, most + 1):
        above = np.where(kept & (fit.left_out > 0.0) & candidates, fit.left_out * fit.residual, -np.inf)
        if fit.error <= _FLOOR or not above.max() > 0.0:
            break
        kept = kept.copy()
        kept[int(above.argmax())] = False
        fit = _Fit.of(rows, values, kept)
        ways = gammaln(n + 1) - gammaln(count + 1) - gammaln(n - count + 1)
        evidence = (n - count - p) * np.log(first.error / fit.error) - ways
        if evidence > max(score, _CHANCE):
            best, score = fit, evidence
    clear = ~best.kept & (best.left_out > _SURE * best.error)
    if not (clear | best.kept).all():  # some were left out in vain, before others
        best = _Fit.of(rows, values, ~clear)
    return best


@dataclass(frozen=True, eq=False)
class _Fit:
    """A least-squares fit of the values that are kept.

    Attributes:
        kept: Which ones, with shape (n,).
        residual: Value less fit, with shape (n,).
        left_out: Value less a fit without it, with shape (n,).
        leverage: Of the values kept, below 1, with shape (n,).
        error: Sd of the residuals.
    """

    kept: Flags
    residual: Array
    left_out: Array
    leverage: Array
    error: float

    @classmethod
    def of(cls, rows: Array, values: Array, kept: Flags) -> _Fit:
        """The fit; columns are scaled first, lest their units matter."""
        scale = np.linalg.norm(rows[kept], axis=0) + np.finfo(float).tiny
        q, r, order = qr(rows[kept] / scale, mode="economic", pivoting=True)
        coefficients = np.zeros(rows.shape[1])
        coefficients[order] = np.linalg.lstsq(r, q.T @ values[kept], rcond=None)[0]
        coefficients /= scale
        residual = values - rows @ coefficients
        leverage = np.zeros(len(values))
        leverage[kept] = np.minimum((q**2).sum(1), 1.0 - 1e-9)
        spare = max(1, int(kept.sum()) - rows.shape[1])
        error = float(np.sqrt((residual[kept] ** 2).sum() / spare))
        return cls(kept, residual, residual / (1.0 - leverage), leverage, max(error, _FLOOR))


def _growth(depth: Array) -> Array:
    """Errors that a quadratic may have, in units of those near the best point; infinite for sentinels."""
    return np.where(depth < _DEEPEST, (1.0 + np.minimum(depth, _DEEPEST)) ** _POWER, np.inf)


def _log_part(excess: Array) -> Array:
    """Log of a likelihood relative to another one whose log it raises by an excess: log(exp(excess) - 1)."""
    return np.where(
        excess < 1.0, np.log(np.expm1(np.minimum(excess, 1.0))), excess + np.log1p(-np.exp(-np.maximum(excess, 1.0)))
    )


def _basis(w: Array, peaks: Peaks | None) -> Array:
    """Monomials up to the second degree in standardised coordinates, for the share of each peak, with shape (n, p)."""
    u = (w - w.mean(0)) / (w.std(0) + np.finfo(float).tiny)
    monomials = monomials_of(u)
    return monomials if peaks is None else (peaks.shares(w)[:, :, None] * monomials[:, None]).reshape(len(w), -1)
