"""Contract tests that extensions can inherit: kernels, scouts, checks, selection rules, executors.

Inherit a contract in a test module, set what it tests, and pytest collects tests of the laws that every such part must
satisfy:

    from surrogate.testing import KernelContract

    class TestMyKernel(KernelContract):
        kernel = MyKernel(0.7)

A contract does not use pytest itself: its tests are plain methods that raise AssertionError.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.composition import Kernel, Points
from surrogate.gp.weights import FullWeights
from surrogate.inference.checks import Check
from surrogate.inference.findings import Finding
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.phases import Phase
from surrogate.inference.scouts import Scout
from surrogate.inference.setup import Setup
from surrogate.inference.view import View
from surrogate.linalg.operators import DenseOperator
from surrogate.log_density.search.structure import StructureSearch
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

__all__ = ["CheckContract", "ExecutorContract", "KernelContract", "RuleContract", "ScoutContract", "short_run"]

_DIFFERENCE = 1e-6  # step of central differences for numbers of order one in double precision
_TOLERANCE = 1e-5  # relative tolerance of their results
_WALL = 0.8  # first parameter beyond which the short run has no likelihood
_STEPS = 14  # of the short run at most


def _require(holds: bool, law: str) -> None:
    """Raises AssertionError with the violated law, even if Python disables assert statements."""
    if not holds:
        raise AssertionError(law)


class KernelContract:
    """Contract tests of a covariance function.

    Attributes:
        kernel: An instance with typical hyperparameters.
        d: Number of coordinates of its points.
    """

    kernel: ClassVar[Kernel]
    d: ClassVar[int] = 2

    def points(self, n: int = 12) -> Array:
        """Valid inputs of the kernel, with shape (n, d); override this if not all numbers are allowed."""
        return np.random.default_rng(3).normal(size=(n, self.d))

    def test_the_matrix_is_symmetric_and_positive_semidefinite(self) -> None:
        """K = K^T, and no eigenvalue is negative beyond rounding."""
        k = self.kernel.covariance(torch.as_tensor(self.points())).numpy()
        np.testing.assert_allclose(k, k.T, atol=1e-12)
        lowest = np.linalg.eigvalsh(k).min()
        _require(bool(lowest > -1e-10 * np.trace(k)), f"the covariance has an eigenvalue of {lowest:.3g}")

    def test_rows_against_columns_are_entries_of_the_matrix(self) -> None:
        """k(X, Z) is a block of the covariance of X and Z together, and the diagonal holds the variances."""
        x = torch.as_tensor(self.points())
        whole = self.kernel.covariance(x)
        torch.testing.assert_close(self.kernel.covariance(x[:5], x[5:]), whole[:5, 5:], atol=1e-7, rtol=1e-7)
        torch.testing.assert_close(self.kernel.diagonal(x), whole.diagonal(), atol=1e-9, rtol=1e-9)

    def test_interpolants_are_weighted_sums_of_columns(self) -> None:
        """interpolant(X, w)(z) = k(z, X) w."""
        x = torch.as_tensor(self.points())
        w = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)
        fast = self.kernel.interpolant(Points(x[:5]), w)(x[5:])
        torch.testing.assert_close(fast, self.kernel.cross(Points(x[:5]), x[5:]).T @ w, atol=1e-7, rtol=1e-7)

    def test_gradients_are_those_of_differences(self) -> None:
        """d/d theta of sum(W * K) by ``contract`` agrees with central differences."""
        x, vector = torch.as_tensor(self.points()), self.kernel.vector()
        weights = torch.as_tensor(np.random.default_rng(4).normal(size=(len(x), len(x))))
        weights = weights + weights.T

        def total(theta: Array) -> float:
            return float((weights * self.kernel.forward(theta, Points(x)).matrix()).sum())

        gradient = np.zeros(len(vector))
        self.kernel.forward(vector, Points(x)).contract(FullWeights(weights.clone()), gradient)
        expected = [_slope(total, vector, step) for step in _DIFFERENCE * np.eye(len(vector))]
        scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
        np.testing.assert_allclose(gradient, expected, rtol=_TOLERANCE, atol=_TOLERANCE * scale)

    def test_hyperparameters_are_copied_exactly(self) -> None:
        """``with_vector(vector())`` is the same kernel, and each entry of the vector has a name."""
        vector = self.kernel.vector()
        np.testing.assert_array_equal(self.kernel.with_vector(vector).vector(), vector)
        _require(len(self.kernel.names) == len(vector), "names and vector have different lengths")


def _slope(function: Callable[[Array], float], at: Array, step: Array) -> float:
    return (function(at + step) - function(at - step)) / (2.0 * np.abs(step).sum())


@cache
def short_run() -> tuple[tuple[Phase, View], ...]:
    """The last view of each phase in a short run on a half-infeasible normal density; takes about a second."""
    prior = Prior.of({"a": (-4.0, 4.0), "b": (-4.0, 4.0)})
    plain = StructureSearch(structures=False, noise=False)
    loop = PosteriorLoop(Setup(prior, particles=200, batch_size=4, search=plain))
    state, views = loop.init(3), {}
    while not state.verdict.stop and state.step < _STEPS:
        x = loop.ask(state)
        before = None if state.parameters is None else loop.model(state)
        state = loop.tell(state, x, [_half_forbidden(point) for point in x])
        if state.parameters is not None:
            nothing = np.empty((0, prior.d))
            views[state.verdict.phase] = loop.view(state).replace(before=before, under_way=nothing)
    return tuple(views.items())


def _half_forbidden(x: Array) -> Evaluation:
    if x[0] > _WALL:
        return Evaluation(-np.inf, "infeasible")
    return Evaluation(-0.5 * float(x[0] ** 2 / 0.6 + (x[1] - 0.3 * x[0]) ** 2 / 0.3), "ok")


class ScoutContract:
    """Contract tests of a scout.

    Attributes:
        scout: The scout.
    """

    scout: ClassVar[Scout]

    def views(self) -> list[View]:
        """Views of phases in which the scout acts; by default those of a short run."""
        chosen = [view.replace(batch=view.draws.warm[:4]) for phase, view in short_run() if phase in self.scout.phases]
        _require(bool(chosen), "no view of the short run is in a phase of this scout: override views")
        return chosen

    def test_it_is_a_scout(self) -> None:
        """It has the members of Scout: a name, phases, a place and points."""
        _require(isinstance(self.scout, Scout), f"{self.scout!r} lacks a member of Scout")
        _require(all(isinstance(phase, Phase) for phase in self.scout.phases), "phases must be members of Phase")

    def test_points_are_finite_and_inside_of_the_prior(self) -> None:
        """k >= 0 points with d coordinates, where the prior has density."""
        for view in self.views():
            points = self.scout.points(view)
            _require(points.shape[1:] == (view.d,), f"points must have shape (k, {view.d}), got {points.shape}")
            _require(
                bool(np.isfinite(view.window.log_density(view.window.unrolled(points))).all()), "outside the prior"
            )

    def test_the_same_view_gives_the_same_points(self) -> None:
        """A scout is a function of the view: it has no state and uses the view's random streams."""
        for view in self.views():
            np.testing.assert_array_equal(self.scout.points(view), self.scout.points(view))


class CheckContract:
    """Contract tests of a check.

    Attributes:
        check: The check.
    """

    check: ClassVar[Check]

    def views(self) -> list[View]:
        """Views for the check; by default those of a short run."""
        return [view for phase, view in short_run() if phase is not Phase.TEMPERED and view.before is not None]

    def test_it_is_a_check(self) -> None:
        """It has the members of Check: a name, phases, columns and look."""
        _require(isinstance(self.check, Check), f"{self.check!r} lacks a member of Check")

    def test_a_finding_says_what_its_columns_need(self) -> None:
        """A finding has all its columns, points of the right shape, and a reason if the check does not agree."""
        for view in self.views():
            finding = self.check.look(view)
            _require(isinstance(finding, Finding), "look must return a Finding")
            _require(finding.points.shape[1:] == (view.d,), f"points must have shape (k, {view.d})")
            missing = set(self.check.columns) - set(finding.numbers)
            _require(not missing, f"the finding lacks the columns {sorted(missing)}")
            _require(bool(finding.reason) or finding.claim.agrees, "a finding that denies the claim needs a reason")

    def test_the_same_view_gives_the_same_finding(self) -> None:
        """A check is a function of the view."""
        for view in self.views():
            first, second = self.check.look(view), self.check.look(view)
            np.testing.assert_array_equal(first.points, second.points)
            _require((first.claim, first.reason) == (second.claim, second.reason), "the same view gave another finding")


class RuleContract:
    """Contract tests of a selection rule: a function of a kernel matrix (or access to its columns) and a size.

    Attributes:
        rule: Function of access to the kernel matrix (``diag()``, ``columns(index)``, ``shape``) and n, which returns
            distinct indices.
    """

    rule: ClassVar[Callable[[Any, int], Tensor]]

    def select(self, kernel: Tensor, n: int) -> list[int]:
        """The indices chosen by the rule under test."""
        return type(self).rule(DenseOperator(kernel), n).tolist()

    def kernel(self, m: int = 20) -> Tensor:
        """A positive definite matrix without ties."""
        root = torch.as_tensor(np.random.default_rng(5).normal(size=(m, m)))
        return root @ root.T / m + 0.01 * torch.eye(m, dtype=torch.float64)

    def test_indices_are_distinct_and_as_many_as_asked_for(self) -> None:
        """The rule returns n distinct points."""
        chosen = self.select(self.kernel(), 7)
        _require(len(set(chosen)) == len(chosen) == 7, f"7 distinct indices expected, got {chosen}")
        _require(all(0 <= i < 20 for i in chosen), "an index lies outside of the pool")

    def test_the_order_of_the_pool_does_not_matter(self) -> None:
        """The rule chooses the same points from a permuted pool."""
        kernel, order = self.kernel(), np.random.default_rng(6).permutation(20)
        permuted = self.select(kernel[order][:, order], 5)
        _require(sorted(order[permuted].tolist()) == sorted(self.select(kernel, 5)), "the order of the pool matters")


class ExecutorContract:
    """Contract tests of an executor: the promises of ``concurrent.futures`` on which a run relies."""

    make: ClassVar[Callable[[], Executor]]
    """Function that makes a new executor."""

    def executor(self) -> Executor:
        """A new executor."""
        return type(self).make()

    def test_results_belong_to_their_calls(self) -> None:
        """Each future has the result of its own call."""
        with self.executor() as executor:
            futures = [executor.submit(pow, value, 2) for value in range(20)]
            _require(
                [future.result(timeout=60) for future in futures] == [v * v for v in range(20)], "results mixed up"
            )

    def test_an_exception_is_the_futures_own(self) -> None:
        """An exception is raised by ``result`` and affects no other call."""
        with self.executor() as executor:
            bad, good = executor.submit(math.sqrt, -1.0), executor.submit(pow, 3, 2)
            error = bad.exception(timeout=60)
            _require(isinstance(error, ValueError), f"ValueError expected, got {error!r}")
            _require(good.result(timeout=60) == 9, "a failed call spoilt another")

    def test_what_has_not_begun_can_be_cancelled(self) -> None:
        """A cancelled call never runs, and ``cancel`` says whether it was in time."""
        with self.executor() as executor:
            futures: list[Future] = [executor.submit(pow, value, 2) for value in range(5)]
            cancelled = [future.cancel() for future in futures]
            for future, gone in zip(futures, cancelled, strict=True):
                _require(future.cancelled() if gone else future.result(timeout=60) >= 0, "cancelled and run")
