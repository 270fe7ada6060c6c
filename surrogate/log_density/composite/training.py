"""Training data of composite surrogates: rows with outputs, their components and coordinates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.gp.process import Data
from surrogate.log_density.composite.comparison import LOWEST, Comparison, comparison_of
from surrogate.log_density.composite.quadratic import QuadraticComparison, quadratic_of
from surrogate.log_density.composite.reduction import Reduction, Rows, reduce
from surrogate.log_density.parameters import relevant_depth
from surrogate.problem.dataset import OK, Dataset
from surrogate.problem.outputs import Layout

__all__ = ["OutputData"]


_LEFT = 0.01  # allowed residual of a near row in units of the comparison, about as many nats
_LEFT_OF_DISTANCE = 0.003  # the same per unit of additional distance
_MOVED = 0.01  # nats by which dropped components may change a log-likelihood near the best ...
_MOVED_OF_DEPTH = 0.01  # ... plus this for each nat of depth
_LEADING = 30.0  # factor on these tolerances: components that are left out with it do not choose kernels


@dataclass(frozen=True, eq=False)
class OutputData:
    """The evaluations of a run with outputs.

    Attributes:
        data: All evaluations.
        t: Their unit coordinates, with shape (n, d).
        source: Conversion of outputs to units of the comparison.
        size: Number of components; None for as many as are needed.
        logs: Names of outputs that are described by their logarithms.
    """

    data: Dataset
    t: Array
    source: Rows
    size: int | None = None
    logs: frozenset[str] = frozenset()

    @cached_property
    def rows(self) -> Flags:
        """Mask of the rows with outputs, with shape (n,)."""
        return self.data.has_outputs

    @property
    def layout(self) -> Layout:
        """Names and shapes of the outputs.

        Raises:
            ValueError: If there are none.
        """
        if self.data.layout is None:
            msg = "no evaluation has outputs: the simulator has not succeeded yet"
            raise ValueError(msg)
        return self.data.layout

    @property
    def slow(self) -> Array:
        """Slow unit coordinates of the rows with outputs, with shape (k, s)."""
        return self.t[self.rows][:, self.source.target.columns]

    @cached_property
    def x(self) -> Array:
        """Parameters of the rows with outputs, with shape (k, d)."""
        return self.data.x[self.rows]

    @cached_property
    def depth(self) -> Array:
        """Depth of these rows below the best value, with shape (k,); large if there is no value."""
        y = np.where(self.data.status[self.rows] == OK, self.data.y[self.rows], LOWEST)
        return np.minimum(float(np.max(y)) - y, -LOWEST)

    @cached_property
    def far(self) -> Array:
        """Distance of each row from the best one in excess of the relevant depth, in units of the comparison."""
        return np.maximum(0.0, np.sqrt(2.0 * self.depth) - np.sqrt(2.0 * relevant_depth(self.t.shape[1])))

    @cached_property
    def _allowed(self) -> Array:
        return _LEFT + _LEFT_OF_DISTANCE * np.sqrt(2.0 * self.depth)

    @cached_property
    def _quadratic(self) -> tuple[Reduction, QuadraticComparison] | None:
        """Components and quadratic of a comparison that is declared ``smooth``; None for others."""
        y = np.where(self.data.status[self.rows] == OK, self.data.y[self.rows], -np.inf)
        if not self.source.smooth or not np.isfinite(y).any():
            return None
        outputs = self.data.outputs[self.rows]
        return quadratic_of(self.source, self.x, outputs, self.layout, y, allowed=self._allowed, size=self.size)

    @property
    def misses(self) -> bool:
        """Whether a comparison is declared ``smooth``, but its quadratic misses evaluations near the best."""
        y = np.where(self.data.status == OK, self.data.y, -np.inf)[self.rows]
        return self.source.smooth and bool(np.isfinite(y).any()) and self._quadratic is None

    @cached_property
    def reduction(self) -> Reduction:
        """The components of the outputs."""
        if self._quadratic is not None:
            return self._quadratic[0]
        if self.size is not None or self.source.data is not None:
            return self._reduced(self.size)
        return self._reduced(self._fewest(self._reduced(None)))

    @cached_property
    def complete(self) -> tuple[Reduction, Comparison]:
        """Components above rounding, or above what Gaussian data allow, and the log-likelihood of them.

        Where a comparison is approximated by quadratics, they are those of ``reduction``.
        """
        if self._quadratic is not None:
            return self._quadratic
        full = self._reduced(None)
        return full, comparison_of(self.source.target, full, self.x[int(np.argmin(self.depth))])

    @cached_property
    def leading(self) -> int:
        """Number of first components that matter most: without the others log-likelihoods change by some tenths."""
        if self._quadratic is None and self.source.data is None:
            return self._fewest(self.reduction, _LEADING)
        squares = self.reduction.scores**2
        left = np.sqrt(np.maximum(squares.sum(1, keepdims=True) - np.cumsum(squares, axis=1), 0.0))
        return int(np.argmax((left <= _LEADING * self._allowed[:, None]).all(0))) + 1

    def _reduced(self, size: int | None) -> Reduction:
        return reduce(
            self.source,
            self.x,
            self.data.outputs[self.rows],
            self.layout,
            best=int(np.argmin(self.depth)),
            logs=self.logs,
            allowed=self._allowed if self.source.data is not None else None,
            size=size,
        )

    def _fewest(self, full: Reduction, factor: float = 1.0) -> int:
        """The fewest components with which no log-likelihood changes by more than allowed, times a factor."""
        comparison = comparison_of(self.source.target, full, self.x[int(np.argmin(self.depth))])
        usual = comparison.value(full.scores, self.x)
        known = np.isfinite(usual)
        allowed = factor * (_MOVED + _MOVED_OF_DEPTH * self.depth[known])

        def enough(k: int) -> bool:
            z = np.where(np.arange(full.scores.shape[1]) < k, full.scores, 0.0)[known]
            return bool((np.abs(comparison.value(z, self.x[known]) - usual[known]) <= allowed).all())

        low, high = 1, full.scores.shape[1]
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle + 1, high)
        return high

    @cached_property
    def comparison(self) -> Comparison:
        """The log-likelihood as a function of the components, or its quadratic approximation if declared ``smooth``."""
        if self._quadratic is not None:
            return self._quadratic[1]
        return comparison_of(self.source.target, self.reduction, self.x[int(np.argmin(self.depth))])

    def training_set(self, coordinates: Callable[[Array], Array], device: str) -> Data:
        """Whitened slow parameters and components as data for processes."""
        return Data.of(coordinates(self.slow), self.reduction.scores, depth=self.far, device=device)
