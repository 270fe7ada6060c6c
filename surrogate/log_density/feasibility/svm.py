"""Feasibility by a support vector machine: the smoothest boundary that classifies every point correctly."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from surrogate.arrays import Array, Flags
from surrogate.gp.posterior import joint_normal
from surrogate.linalg.stationary import CORRELATIONS
from surrogate.log_density.feasibility.points import trusted
from surrogate.log_density.feasibility.protocol import Classifier, Everywhere, FeasibilityArrays

__all__ = ["FeasibilityMachine", "fit_machine"]


_MAX_ITERATIONS = 200_000  # largest number of iterations of libsvm
_MOST_FOR_LIBSVM = 20_000  # points for libsvm, whose cost is quadratic, although few points are support vectors
_MOST_FOR_LIBSVM_BESIDE_A_GPU = 5_000  # points
_LEAST_SQUARES_COST = 1.0  # the high costs needed for a separation without errors make a least-squares machine worse
GAMMAS = (0.01, 0.03, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Values of gamma times d for the kernel, from wide to narrow."""


@dataclass(frozen=True, eq=False)
class FeasibilityMachine(Classifier):
    """A fitted support vector machine.

    Its decision function is 1 and -1 on the margins. Only the strip between them, which contains hardly any evaluated
    points, is uncertain; the probability of being feasible is assumed to rise linearly across it.

    Attributes:
        support: Support vectors, with shape (k, d).
        weights: Their signed multipliers, with shape (k,).
        intercept: Constant added to the sum.
        gamma: Gamma of the kernel exp(-gamma |u - u'|^2).
    """

    support: Array
    weights: Array
    intercept: float
    gamma: float

    @property
    def kind(self) -> str:
        """The word "svm"."""
        return "svm"

    def _kernel(self, u: Array, v: Array) -> Array:
        r2 = (u**2).sum(1)[:, None] + (v**2).sum(1) - 2.0 * (u @ v.T)
        return CORRELATIONS["rbf"].correlation(2.0 * self.gamma * np.maximum(r2, 0.0))

    def margin(self, u: Array) -> Array:
        """Decision function, positive where feasible, with shape (m,); O(m k d)."""
        return self._kernel(u, self.support) @ self.weights + self.intercept

    def probability(self, u: Array) -> Array:
        """Probability of being feasible, with shape (m,); 0 or 1 outside the margins."""
        return np.clip(0.5 * (1.0 + self.margin(u)), 0.0, 1.0)

    def doubt(self, u: Array) -> Array:
        """Variance p (1 - p) of the feasibility of a point, with shape (m,), for p the logistic of twice the margin.

        It is wider than ``probability``, because outside the margins a class is likely but not certain.
        """
        p = 1.0 / (1.0 + np.exp(-2.0 * np.clip(self.margin(u), -20.0, 20.0)))
        return p * (1.0 - p)

    def deviations(self, u: Array, count: int, rng: np.random.Generator) -> Array:
        """Joint paths of feasibility as logs relative to their mean, with shape (count, m): -inf where infeasible.

        A machine defines no paths. Here each point is feasible with its ``probability``, and points are correlated like
        a Gaussian process with the machine's kernel; O(m^2 d + m^3).
        """
        p = self.probability(u)
        f = joint_normal(self._kernel(u, u), count, rng)
        with np.errstate(divide="ignore"):
            return np.where(f > -ndtri(p), -np.log(p), -np.inf)

    def correlated(self, u: Array) -> tuple[Array, Array]:
        """The kernel matrix at u, (m, m), and zeros with shape (1, m), because it is not conditioned on data."""
        return self._kernel(u, u), np.zeros((1, len(u)))

    def arrays(self, d: int) -> FeasibilityArrays:  # noqa: ARG002  # the support vectors have d coordinates
        """The classifier as arrays of numbers."""
        shape = np.array([self.intercept, self.gamma, 0.0])
        return FeasibilityArrays(self.support, self.weights, np.empty((0, 0)), shape)

    @classmethod
    def of_arrays(cls, arrays: FeasibilityArrays) -> FeasibilityMachine:
        """The inverse of ``arrays``."""
        intercept, gamma, _ = map(float, arrays.shape)
        return cls(arrays.points, arrays.weights, intercept, gamma)


def _machine(gamma: float, u: Array, feasible: Flags, cost: Array) -> Any:
    from sklearn.svm import SVC

    # If a kernel is too wide to separate the classes libsvm iterates for very long, so the next one is tried.
    machine = SVC(C=1.0, kernel="rbf", gamma=gamma, tol=1e-4, cache_size=50, max_iter=_MAX_ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return machine.fit(u, feasible, sample_weight=cost)


def fit_machine(
    u: Array, feasible: Flags, *, doubtful: Flags | None = None, cost: float = 1e5, device: str = "cpu"
) -> FeasibilityMachine | Everywhere:
    """The smoothest support vector machine that classifies every point correctly.

    Kernels exp(-gamma |u - u'|^2) are tried from the widest to narrower ones until no point is misclassified; widths
    are in units of the whitened posterior.

    Args:
        u: Evaluated points in whitened coordinates, with shape (n, d).
        feasible: Whether each point is feasible, with shape (n,).
        doubtful: Whether each point may be infeasible by chance, with shape (n,), see ``points.trusted``.
        cost: Penalty of a point on the wrong side.
        device: Device for a machine with very many points, see ``fit_least_squares``.

    Returns:
        The machine, or ``Everywhere`` if no point is infeasible.

    Raises:
        ValueError: If no point is feasible.
    """
    if feasible.all():
        return Everywhere()
    if not feasible.any():
        msg = "feasibility needs at least one feasible point"
        raise ValueError(msg)
    u, feasible = trusted(u, feasible, doubtful)
    if feasible.all():
        return Everywhere()
    if len(u) > (_MOST_FOR_LIBSVM if device == "cpu" else _MOST_FOR_LIBSVM_BESIDE_A_GPU):
        return fit_least_squares(u, feasible, device=device)
    weights = np.full(len(u), cost)
    for gamma in GAMMAS:
        machine = _machine(gamma / u.shape[1], u, feasible, weights)
        finished = int(np.max(machine.n_iter_)) < _MAX_ITERATIONS
        if finished and (machine.predict(u) == feasible).all():
            break
    sign = 1.0 if machine.classes_[1] else -1.0
    return FeasibilityMachine(
        machine.support_vectors_,
        sign * machine.dual_coef_[0],
        sign * float(machine.intercept_[0]),
        float(machine.gamma),
    )


def fit_least_squares(u: Array, feasible: Flags, *, device: str = "cpu") -> FeasibilityMachine:
    """The least-squares support vector machine with the fewest misclassified points, among several widths.

    For more points than libsvm can handle: one linear system for each width, in tiles on any device. Its decision
    function is a regression on the classes +1 and -1, which can be used as a margin, because halfway between them both
    classes are equally likely.

    Args:
        u: Points in whitened coordinates, with shape (n, d), of both classes.
        feasible: Whether each point is feasible, with shape (n,).
        device: Device to fit on.
    """
    from surrogate.svm.lssvc import LSSVC  # imported here because it loads scikit-learn, which most runs do not need

    machines = [
        LSSVC(_LEAST_SQUARES_COST, gamma=gamma / u.shape[1], device=device).fit(u, feasible) for gamma in GAMMAS
    ]
    best = min(machines, key=lambda machine: int((machine.predict(u) != feasible).sum()))
    return FeasibilityMachine(u, best.dual_coef_[0], float(best.intercept_[0]), best.gamma_)
