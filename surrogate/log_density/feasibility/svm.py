"""Feasible or not: a support vector machine for regions where a log-likelihood is -inf or cannot be computed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from surrogate.arrays import Array, Flags

__all__ = ["Everywhere", "Gate", "fit_gate", "trusted"]


_MAX_ITERATIONS = 200_000  # of libsvm
GAMMAS = (0.01, 0.03, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass(frozen=True)
class Everywhere:
    """The gate where nothing infeasible has been seen."""

    def margin(self, u: Array) -> Array:
        """Plus infinity, with shape (m,)."""
        return np.full(len(u), np.inf)

    def probability(self, u: Array) -> Array:
        """Ones, with shape (m,)."""
        return np.ones(len(u))


@dataclass(frozen=True, eq=False)
class Gate:
    """A fitted support vector machine.

    Its decision function is 1 and -1 on the margins. The strip between them, where hardly an evaluated point lies, is
    what the data leave open, and the probability of being feasible is taken to rise linearly across it.

    Attributes:
        support: Support vectors, with shape (k, d).
        weights: Their signed multipliers, with shape (k,).
        intercept: Added to the sum.
        gamma: Of the kernel exp(-gamma |u - u'|^2).
        points: All points with a label, with shape (n, d).
    """

    support: Array
    weights: Array
    intercept: float
    gamma: float
    points: Array

    def margin(self, u: Array) -> Array:
        """Decision function, positive where feasible, with shape (m,); O(m k d)."""
        r2 = (u**2).sum(1)[:, None] + (self.support**2).sum(1) - 2.0 * (u @ self.support.T)
        return np.exp(-self.gamma * np.maximum(r2, 0.0)) @ self.weights + self.intercept

    def doubt(self, u: Array) -> Array:
        """Variance p (1 - p) of the label, with shape (m,), for p the logistic function of twice the margin.

        Wider than ``probability``: beyond the margins a label is likely, not certain.
        """
        p = 1.0 / (1.0 + np.exp(-2.0 * np.clip(self.margin(u), -20.0, 20.0)))
        return p * (1.0 - p)

    def probability(self, u: Array) -> Array:
        """Probability of being feasible, with shape (m,): 0 and 1 beyond the margins."""
        return np.clip(0.5 * (1.0 + self.margin(u)), 0.0, 1.0)


def _machine(gamma: float, u: Array, feasible: Flags, cost: Array) -> Any:
    from sklearn.svm import SVC

    # Where a kernel is too wide to separate the labels libsvm iterates for very long; the next one is tried instead.
    machine = SVC(C=1.0, kernel="rbf", gamma=gamma, tol=1e-4, cache_size=50, max_iter=_MAX_ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return machine.fit(u, feasible, sample_weight=cost)


def _alone(u: Array, feasible: Flags, *, nearest: int = 3) -> Flags:
    """Whether fewer than two of the nearest labels of each point are infeasible, with shape (n,)."""
    if len(u) <= nearest:
        return np.zeros(len(u), dtype=bool)
    r2 = ((u[:, None, :] - u[None]) ** 2).sum(-1)
    np.fill_diagonal(r2, np.inf)
    neighbours = np.argpartition(r2, nearest, axis=1)[:, :nearest]
    return np.asarray((~feasible[neighbours]).sum(1) < 2)


def trusted(u: Array, feasible: Flags, doubtful: Flags | None) -> tuple[Array, Flags]:
    """The labels without those in doubt that stand alone.

    Labels in doubt (evaluations that failed, perhaps by chance) count where they cluster, that is where at least two of
    the three nearest labels are infeasible too; alone among feasible points they are left out.
    """
    if doubtful is None:
        return u, feasible
    keep = ~(doubtful & _alone(u, feasible))
    return u[keep], feasible[keep]


def fit_gate(u: Array, feasible: Flags, *, doubtful: Flags | None = None, cost: float = 1e5) -> Gate | Everywhere:
    """The smoothest support vector machine that gets every label right.

    Kernels exp(-gamma |u - u'|^2) are tried from the widest on, until no label is wrong; the width is in units of the
    whitened posterior. Labels in doubt count where they cluster, see ``trusted``.

    Args:
        u: Evaluated points in whitened coordinates, with shape (n, d).
        feasible: With shape (n,).
        doubtful: Labels that may be wrong, with shape (n,).
        cost: Penalty of a wrong label.

    Returns:
        The gate; ``Everywhere`` when no infeasible point is there.

    Raises:
        ValueError: If no point is feasible.
    """
    if feasible.all():
        return Everywhere()
    if not feasible.any():
        msg = "a gate needs at least one feasible point"
        raise ValueError(msg)
    u, feasible = trusted(u, feasible, doubtful)
    if feasible.all():
        return Everywhere()
    weights = np.full(len(u), cost)
    machine = None
    for gamma in GAMMAS:
        machine = _machine(gamma / u.shape[1], u, feasible, weights)
        finished = int(np.max(machine.n_iter_)) < _MAX_ITERATIONS
        if finished and (machine.predict(u) == feasible).all():
            break
    if machine is None:
        return Everywhere()
    sign = 1.0 if machine.classes_[1] else -1.0
    return Gate(
        machine.support_vectors_,
        sign * machine.dual_coef_[0],
        sign * float(machine.intercept_[0]),
        float(machine.gamma),
        u,
    )
