"""Posterior probabilities of categories and integers, and evidences given each of them, with errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from surrogate.arrays import Array, Flags
from surrogate.problem.levels import Levels

__all__ = ["Probabilities"]


@dataclass(frozen=True, eq=False)
class Probabilities:
    """The evidence of each level, a combination of the values of the discrete parameters, and its uncertainty.

    Attributes:
        levels: The L levels.
        log_evidence: Natural log of the evidence given each level, under the normalised prior of the continuous
            parameters, with shape (L,); -inf for a level too far below the others to be sampled.
        sampling_error: Monte Carlo error of each, with shape (L,).
        paths: Deviation of each log evidence from its value, for k joint realisations of the surrogate, with shape (k,
            L).
    """

    levels: Levels
    log_evidence: Array
    sampling_error: Array
    paths: Array

    @property
    def probability(self) -> Array:
        """Posterior probability of each level, with shape (L,)."""
        return np.exp(self._log_weights - logsumexp(self._log_weights))

    @property
    def _log_weights(self) -> Array:
        return self.log_evidence + self.levels.log_prior

    @property
    def _path_probability(self) -> Array:
        """Probabilities under each path, with shape (k, L)."""
        log_weights = self._log_weights + self.paths
        return np.exp(log_weights - logsumexp(log_weights, axis=1, keepdims=True))

    def error_of(self, members: Flags) -> float:
        """Standard error of the total probability of some levels, given as a mask with shape (L,)."""
        p = self.probability
        spread = float(self._path_probability[:, members].sum(1).std())
        inside = float(p[members].sum())
        slope = p * (members - inside)  # derivative of the probability with respect to each log evidence
        return float(np.hypot(spread, np.linalg.norm(slope * self.sampling_error)))

    @property
    def largest_error(self) -> tuple[float, str]:
        """The largest standard error of the probability of a value or level, and the name of that value or level."""
        masks = [(np.arange(len(self.levels)) == i, self.levels.text(i)) for i in range(len(self.levels))]
        for name, parameter in zip(self.levels.names, self.levels.parameters, strict=True):
            masks += [(self.levels.members(name, value), f"{name}={value}") for value in parameter.values]
        return max((self.error_of(mask), text) for mask, text in masks)

    def marginal(self, name: str) -> dict[Any, tuple[float, float]]:
        """Posterior probability of each value of a parameter, with its standard error.

        Raises:
            ValueError: If there is no such categorical or integer parameter.
        """
        p = self.probability
        masks = {value: self.levels.members(name, value) for value in self._values(name)}
        return {value: (float(p[mask].sum()), self.error_of(mask)) for value, mask in masks.items()}

    def log_evidence_by(self, name: str) -> dict[Any, tuple[float, float]]:
        """Log evidence given each value of a parameter, under the normalised prior of all others, with its error.

        They are -inf and NaN for a value whose levels are too far below the others to be sampled.

        Raises:
            ValueError: If there is no such categorical or integer parameter.
        """
        return {value: self._of(self.levels.members(name, value)) for value in self._values(name)}

    def log_evidence_ratio(self, name: str, first: Any, second: Any) -> tuple[float, float]:
        """Log evidence given one value of a parameter minus that given another, with its standard error.

        Errors common to both cancel.

        Raises:
            ValueError: If there is no such parameter or value.
        """
        values = self._values(name)
        if missing := [value for value in (first, second) if value not in values]:
            msg = f"'{name}' has the values {', '.join(map(repr, values))}, got {missing[0]!r}"
            raise ValueError(msg)
        (one, one_paths, one_error), (two, two_paths, two_error) = (
            self._parts(self.levels.members(name, value)) for value in (first, second)
        )
        if not (np.isfinite(one) and np.isfinite(two)):
            return one - two, np.nan
        error = np.linalg.norm([float((one_paths - two_paths).std()), one_error, two_error])
        return one - two, float(error)

    def _values(self, name: str) -> tuple[Any, ...]:
        if name not in self.levels.names:
            msg = f"the parameter must be categorical or integer ({', '.join(self.levels.names)}), got {name!r}"
            raise ValueError(msg)
        return self.levels.parameters[self.levels.names.index(name)].values

    def _of(self, members: Flags) -> tuple[float, float]:
        value, paths, error = self._parts(members)
        return value, float(np.hypot(paths.std(), error)) if np.isfinite(value) else np.nan

    def _parts(self, members: Flags) -> tuple[float, Array, float]:
        """Log evidence summed over some levels, its deviations over paths, and its Monte Carlo error."""
        log_prior = self.levels.log_prior[members]
        log_prior = log_prior - logsumexp(log_prior)
        weights = self.log_evidence[members] + log_prior
        total = float(logsumexp(weights))
        if not np.isfinite(total):
            return total, np.zeros(len(self.paths)), np.nan
        paths = logsumexp(weights + self.paths[:, members], axis=1) - total
        share = np.exp(weights - total)
        return total, paths, float(np.linalg.norm(share * self.sampling_error[members]))
