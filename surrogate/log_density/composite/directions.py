"""Directions of the outputs of a run's evaluations, and calls of a comparison along them.

Directions are computed one evaluation after the other, by the method of Gram and Schmidt, so that earlier ones stay
when evaluations are added, and no call of the comparison is repeated. All sums are those of one evaluation at a time,
so that a resumed run is bit for bit equal to an uninterrupted one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.problem.observables import BoundObservables
from surrogate.problem.outputs import Layout

__all__ = ["Directions"]


_NEW = 1e-10  # share of a row that earlier directions must miss for a new direction
_DROP = 2.0  # nats by which a step of a difference quotient lowers the log-likelihood
_REFINED = 3  # adjustments of each step
_SHORTEST = 1e-4  # smallest step, as a share of the first one
_CHANGE = 1e-3  # relative change of the numbers of an array by which it is tried whether they matter
_ROUNDING = 1e-11  # relative change of a log-likelihood that is a rounding error
_SEED = 0  # of these changes

Term = tuple[int, int]  # number of a direction and the sign of the step along it


class Directions:
    """Orthonormal directions that span the outputs of some evaluations about one of them, the centre.

    Attributes:
        target: The target.
        layout: Names and shapes of the outputs.
        x: Parameters of the centre, with shape (d,).
        logs: Numbers that are described by their logarithms, a mask with shape (M,).
        unit: Root mean square of each array at the centre, repeated for each of its numbers, with shape (M,); one for
            logarithms.
        centre: Outputs of the centre in these units, with shape (M,).
        used: Numbers of the arrays that the comparison uses, a mask with shape (M,). All others are left out: those of
            other data sets may vary by more than all that matters.
        answers: Results for some of the evaluations, kept by whoever computed them.
    """

    def __init__(self, target: BoundObservables, layout: Layout, x: Array, outputs: Array, logs: Flags) -> None:
        self.target, self.layout, self.x, self.logs = target, layout, x, logs
        self.unit = np.ones(layout.size)
        for columns in layout.columns.values():
            part = outputs[columns]
            size = float(np.sqrt((part**2).mean())) if part.size else 0.0
            self.unit[columns] = size if size > 0.0 else 1.0
        self.unit[logs] = 1.0
        self.centre = self._in_units(outputs)
        self.used = self._used(outputs)
        self.answers: dict[Any, Any] = {}
        self._outputs: list[Array] = []
        self._scores: list[Array] = []
        self._rows: list[Array] = []
        self._lengths: list[float] = []
        self._steps: list[float] = []
        self._known: dict[tuple[bytes, tuple[Term, ...]], float] = {}

    def _used(self, outputs: Array) -> Flags:
        """The numbers of the arrays that matter, found by changing each array at random by a thousandth."""
        change = _CHANGE * np.random.default_rng(_SEED).uniform(-1.0, 1.0, self.layout.size)
        changed = outputs + change * np.where(outputs == 0.0, self.unit, outputs)
        base, used = self._compare(self.x, outputs), np.ones(self.layout.size, dtype=bool)
        for columns in self.layout.columns.values():
            trial = outputs.copy()
            trial[columns] = changed[columns]
            used[columns] = not abs(self._compare(self.x, trial) - base) <= _ROUNDING * max(1.0, abs(base))
        return used if used.any() else ~used

    def suit(self, outputs: Array) -> bool:
        """Whether outputs, with shape (n, M), are those of the evaluations so far, or begin with them."""
        return all(np.array_equal(a, b) for a, b in zip(outputs, self._outputs, strict=False))

    def of(self, outputs: Array) -> tuple[Array, Array]:
        """Directions of evaluations, (k, M), and their coordinates along them, (n, k), for outputs (n, M).

        Evaluations may be added to those of the last call or removed at the end, at O(k M) for each new one.
        """
        n = len(outputs)
        for row in outputs[len(self._outputs) :]:
            self._add(row)
        size = max((len(scores) for scores in self._scores[:n]), default=0)
        scores = np.zeros((n, size))
        for into, values in zip(scores, self._scores, strict=False):
            into[: len(values)] = values
        return np.array(self._rows[:size]).reshape(size, -1), scores

    def _in_units(self, outputs: Array) -> Array:
        return np.where(self.logs, np.log(np.where(self.logs, outputs, 1.0)), outputs) / self.unit

    def _add(self, outputs: Array) -> None:
        offset = np.where(self.used, self._in_units(outputs) - self.centre, 0.0)
        known, rest = np.array(self._rows).reshape(-1, len(offset)), offset
        scores = np.zeros(len(known))
        for _ in range(2):  # once more for rounding errors
            more = known @ rest
            scores, rest = scores + more, rest - more @ known
        length = float(np.linalg.norm(rest))
        if length > _NEW * float(np.linalg.norm(offset)):
            self._rows.append(rest / length)
            self._lengths.append(length)
            scores = np.append(scores, length)
        self._outputs.append(outputs)
        self._scores.append(scores)

    def quadratic(self, x: Array, size: int, *, both_sides: bool) -> tuple[float, Array, Array] | None:
        """Value, slope and Hessian at the centre along the first directions; None where the likelihood is zero.

        Args:
            x: Parameters, of which the comparison sees the fast ones, with shape (d,).
            size: Number of directions k.
            both_sides: Whether mixed derivatives are central differences, which takes twice the calls.
        """
        steps = [self._step(i) for i in range(size)]
        if any(step is None for step in steps):
            return None
        h = np.array(steps, dtype=np.float64)
        base = self.call(x)
        above, below = (np.array([self.call(x, (i, sign)) for i in range(size)]) for sign in (1, -1))
        hessian = np.diag((above - 2.0 * base + below) / h**2)
        for i in range(size):
            for j in range(i):
                bend = self.call(x, (j, 1), (i, 1)) - above[i] - above[j] + base
                if both_sides:
                    bend = 0.5 * (bend + self.call(x, (j, -1), (i, -1)) - below[i] - below[j] + base)
                hessian[i, j] = hessian[j, i] = bend / (h[i] * h[j])
        slope = 0.5 * (above - below) / h
        return (base, slope, hessian) if np.isfinite(hessian).all() and np.isfinite(slope).all() else None

    def _step(self, i: int) -> float | None:
        """A step along a direction that lowers the log-likelihood by some nats; None where the likelihood is zero."""
        while len(self._steps) <= i:
            step = self._first_step(len(self._steps))
            if step is None:
                return None
            self._steps.append(step)
        return self._steps[i]

    def _first_step(self, i: int) -> float | None:
        step = longest = self._lengths[i]
        base, bend = self.call(self.x), np.inf
        for _ in range(_REFINED + 1):
            bend = abs(
                self.compare(self.x, self._rows[i] * step) + self.compare(self.x, self._rows[i] * -step) - 2 * base
            )
            if not np.isfinite(bend):
                step *= 0.25
            elif bend > 0.0:
                step = float(np.clip(step * np.sqrt(2.0 * _DROP / bend), _SHORTEST * longest, longest))
        return step if np.isfinite(bend) else None

    def call(self, x: Array, *terms: Term) -> float:
        """Log-likelihood at the centre plus steps along directions, -inf where the comparison is not possible."""
        key = (x.tobytes(), terms)
        if key not in self._known:
            offset = np.zeros(self.layout.size)
            for number, sign in terms:
                offset = offset + self._rows[number] * (sign * self._steps[number])
            self._known[key] = self.compare(x, offset)
        return self._known[key]

    def compare(self, x: Array, offset: Array) -> float:
        """Log-likelihood at the centre plus an offset in its units, -inf where the comparison is not possible."""
        outputs = (self.centre + offset) * self.unit
        with np.errstate(over="ignore"):
            outputs[self.logs] = np.exp(outputs[self.logs])
        return self._compare(x, outputs)

    def _compare(self, x: Array, outputs: Array) -> float:
        """Log-likelihood of outputs, with shape (M,), -inf where the comparison is not possible."""
        try:
            found = float(self.target.compare(self.layout, outputs[None], x[None])[0])
        except Exception:  # noqa: BLE001 - outputs that no simulator returns may be refused
            return -np.inf
        return -np.inf if np.isnan(found) or found == np.inf else found
