"""Further points with the same slow parameters, which are cheap because only fast parameters change."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.problem.prior import Prior
from surrogate.samplers.coordinates import Turns

__all__ = ["FastPoints", "count_slow"]


_SINGULAR = 1e-12  # relative singular value below which slow parameters count as dependent
_THIN = 1e-4  # smallest share of its variance that a fast parameter keeps
_TINY = 1e-300  # variance of a parameter with equal draws


@dataclass(frozen=True)
class FastPoints:
    """Settings for further evaluations at the same slow parameters.

    Attributes:
        columns: Positions of the fast parameters.
        count: Number of further points with other fast parameters, for each point.
    """

    columns: tuple[int, ...]
    count: int

    def extended(self, x: Array, draws: Array, prior: Prior, rng: np.random.Generator) -> Array:
        """Each point followed by ``count`` others that differ only in the fast parameters.

        Fast parameters are drawn from a normal distribution fitted to the draws, conditioned on the slow parameters.
        Draws outside the prior are replaced by the original point.

        Args:
            x: Points with shape (b, d).
            draws: Draws to which the normal distribution is fitted, with shape (n, d).
            prior: Prior of the parameters.
            rng: Random numbers.

        Returns:
            Points with shape (b (1 + count), d), with equal slow parameters in consecutive rows.
        """
        fast = list(self.columns)
        slow = [j for j in range(x.shape[1]) if j not in fast]
        out = np.repeat(x, 1 + self.count, axis=0)
        turns = Turns.of(prior.bounds, prior.periodic)
        seam = None if turns is None else turns.emptiest(draws)
        place = out if turns is None else turns.wrapped(out, seam)
        draws = draws if turns is None else turns.wrapped(draws, seam)
        mean, slope, factor = _conditional(draws, slow, fast)
        drawn = out.copy()
        drawn[:, fast] = mean + (place[:, slow] - draws[:, slow].mean(0)) @ slope
        drawn[:, fast] += rng.standard_normal((len(out), len(fast))) @ factor.T
        drawn = drawn if turns is None else turns.wrapped(drawn)
        further = (np.arange(len(out)) % (1 + self.count) > 0) & np.isfinite(prior.log_density(drawn))
        out[further] = drawn[further]
        return out


def _conditional(draws: Array, slow: list[int], fast: list[int]) -> tuple[NDArray, NDArray, NDArray]:
    """Mean, regression slope on the slow parameters and Cholesky factor of the fast parameters, from draws."""
    covariance = np.atleast_2d(np.cov(draws.T))
    inner, cross = covariance[np.ix_(fast, fast)], covariance[np.ix_(slow, fast)]
    slope = np.linalg.lstsq(covariance[np.ix_(slow, slow)], cross, rcond=_SINGULAR)[0]
    rest = inner - cross.T @ slope
    floor = _THIN * np.diag(inner) + _TINY
    return draws[:, fast].mean(0), slope, np.linalg.cholesky(0.5 * (rest + rest.T) + np.diag(floor))


def count_slow(x: Array, columns: tuple[int, ...]) -> int:
    """Number of changes of the slow parameters in a sequence of evaluations with shape (n, d), including the first."""
    slow = np.delete(x, list(columns), axis=1)
    return int(len(x) > 0) + int((slow[1:] != slow[:-1]).any(axis=1).sum())
