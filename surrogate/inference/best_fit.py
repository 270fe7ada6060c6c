"""The best fit of a run: the maximum of its surrogate, confirmed and improved by a few true evaluations."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.arrays import Array
from surrogate.executors.choice import make_executor, workers_of
from surrogate.executors.evaluate import evaluate_batch
from surrogate.inference.refinement import Peak, Refinement, Slice, confirm
from surrogate.output.notebook import facts_html
from surrogate.problem.dataset import FAILED, Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["BestFit", "Calls", "Confirmation", "calls_of", "maximum", "refinement_of"]


@dataclass(frozen=True, eq=False, repr=False)
class BestFit:
    """The point of highest posterior density or likelihood.

    Attributes:
        of: "posterior" or "likelihood": what was maximised.
        names: Names of the parameters.
        x: The point, with shape (d,).
        log_likelihood: Natural log of the likelihood there, evaluated, or predicted if there were no calls.
        log_prior: Natural log of the prior density there.
        predicted: Log-likelihood predicted by the surrogate before the evaluation.
        remaining: By how many nats a nearby point may be higher: the largest prediction plus two standard deviations
            within one posterior sd of the maximum, minus the value at the maximum.
        tolerance: Requested tolerance in nats.
        n_evaluations: Number of further calls of the likelihood.
        n_failed: Number of further calls that failed.
        noisy: Whether the log-likelihood is noisy: the value is then the surrogate's mean, which averages over noise.
        data: All evaluated points; those of the further calls come last.
        derived: Derived values at the point, by name; empty without calls.
    """

    of: str
    names: tuple[str, ...]
    x: Array
    log_likelihood: float
    log_prior: float
    predicted: float
    remaining: float
    tolerance: float
    n_evaluations: int
    n_failed: int
    noisy: bool
    data: Dataset
    derived: dict[str, float]

    @property
    def log_posterior(self) -> float:
        """Natural log of likelihood times prior density, unnormalised."""
        return self.log_likelihood + self.log_prior

    @property
    def chi_squared(self) -> float:
        """Minus twice the natural log of the likelihood, including any constant in it."""
        return -2.0 * self.log_likelihood

    @property
    def confirmed(self) -> bool:
        """Whether true calls show that no nearby point is better by more than the tolerance."""
        return self.n_evaluations > 0 and self.remaining <= self.tolerance

    @property
    def point(self) -> dict[str, float]:
        """The parameters by name."""
        return dict(zip(self.names, self.x.tolist(), strict=True))

    @property
    def status(self) -> str:
        """A sentence that says how well the maximum is known."""
        if not self.n_evaluations:
            return f"maximum of the surrogate, NOT CONFIRMED by calls; it may be {self.remaining:.2g} nats higher"
        calls = f"{self.n_evaluations} further call{'s' * (self.n_evaluations != 1)}"
        failed = f", {self.n_failed} of which failed" if self.n_failed else ""
        if self.confirmed:
            return f"confirmed by {calls}{failed}: no point nearby is more than {self.tolerance:g} nats higher"
        return f"NOT CONFIRMED after {calls}{failed}: a point nearby may be {self.remaining:.2g} nats higher"

    def rows(self) -> list[tuple[str, str]]:
        """Names and values as text, for tables."""
        values = [(name, f"{value:.6g}") for name, value in self.point.items()]
        values += [("log-likelihood", f"{self.log_likelihood:.6g}"), ("chi-squared", f"{self.chi_squared:.6g}")]
        return [*values, ("log prior", f"{self.log_prior:.6g}"), ("log posterior", f"{self.log_posterior:.6g}")]

    def __str__(self) -> str:
        width = max(len(name) for name, _ in self.rows()) + 2
        lines = [f"maximum of the {self.of}: {self.status}"]
        return "\n".join([*lines, *(f"  {name:<{width}}{value}" for name, value in self.rows())])

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        return facts_html(f"maximum of the {self.of}: {self.status}", self.rows())

    def __repr__(self) -> str:
        state = "confirmed" if self.confirmed else "not confirmed"
        return f"<BestFit: maximum of the {self.of}, log-likelihood {self.log_likelihood:.6g}, {state}>"


@dataclass(frozen=True, eq=False)
class Confirmation:
    """How a maximum of the surrogate is confirmed by true calls.

    Attributes:
        log_likelihood: As ``infer`` takes it, or a ``Posterior``; that of the run if None.
        executor: As ``infer`` takes it.
        max_evaluations: Number of calls allowed.
        tolerance: By how many nats another point nearby may be better than a confirmed maximum.

    Raises:
        ValueError: If a number is out of range.
    """

    log_likelihood: Any
    executor: Any
    max_evaluations: int
    tolerance: float

    def __post_init__(self) -> None:
        if not self.tolerance > 0:
            msg = f"tolerance must be a positive number of nats, got {self.tolerance!r}"
            raise ValueError(msg)
        budget = self.max_evaluations
        if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
            msg = f"max_evaluations must be a whole number of at least 0, got {budget!r}"
            raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class Calls:
    """True evaluations: a function of points x with shape (b, d), the number allowed, and the number of workers."""

    evaluate: Callable[[Array], list[Evaluation]]
    budget: int
    batch: int = 1


@contextlib.contextmanager
def calls_of(result: Result, how: Confirmation) -> Iterator[Calls]:
    """Context with calls of the likelihood after a run; closes the executor if it made it.

    Raises:
        ValueError: If calls are requested and the likelihood is unknown.
    """
    if how.max_evaluations == 0:
        yield Calls(lambda x: [], 0)  # noqa: ARG005
        return
    if how.log_likelihood is None and result.target is None:
        msg = (
            "a result that was loaded from a folder does not hold the likelihood: pass log_likelihood=, or "
            "max_evaluations=0 for the maximum of the surrogate alone"
        )
        raise ValueError(msg)
    target: Any = result.target if how.log_likelihood is None else how.log_likelihood
    if not isinstance(target, Posterior):
        target = Posterior(target, _setup(result).prior, gradient=_setup(result).gradient)
    posterior = target
    with make_executor(how.executor, posterior.evaluate) as pool:
        yield Calls(lambda x: evaluate_batch(posterior, x, pool), how.max_evaluations, max(1, workers_of(pool) or 1))


def refinement_of(result: Result, of: str) -> Refinement:
    """The surrogate of a result in a form for maximisation.

    Raises:
        ValueError: If the result has no surrogate, or ``of`` is not an objective.
    """
    emulator: Any = result.emulator
    return Refinement.of_run(_setup(result), emulator.model, result.record.data, result.draws, of)


def _setup(result: Result) -> Any:
    if result.setup is None:
        msg = "this result was not made by surrogate.infer or surrogate.load_result: it has no surrogate to maximise"
        raise ValueError(msg)
    return result.setup


def maximum(result: Result, of: str, how: Confirmation) -> BestFit:
    """The point of highest posterior density or likelihood, see ``Result.maximum``."""
    ground = refinement_of(result, of)
    with calls_of(result, how) as calls:
        after, (peak,) = confirm(ground, [Slice()], calls.evaluate, budget=calls.budget, tolerance=how.tolerance)
    return _best_fit(ground, after, peak, result.names, how.tolerance)


def _best_fit(before: Refinement, after: Refinement, peak: Peak, names: tuple[str, ...], tolerance: float) -> BestFit:
    x = after.setup.scaled.from_unit(peak.t)
    log_prior = float(after.log_prior(peak.t[None])[0])
    height = peak.height
    further = after.data.status[after.n_run :]
    predicted = float(before.height(peak.t[None])[0]) - (log_prior if after.of == "posterior" else 0.0)
    remaining = peak.remaining if np.isfinite(peak.remaining) else _doubt(before, peak.t)
    return BestFit(
        of=after.of,
        names=names,
        x=x,
        log_likelihood=height - log_prior if after.of == "posterior" else height,
        log_prior=log_prior,
        predicted=predicted,
        remaining=remaining,
        tolerance=tolerance,
        n_evaluations=len(further),
        n_failed=int((further == FAILED).sum()),
        noisy=after.noisy,
        data=after.data,
        derived=_derived(after.data, x) if len(further) else {},
    )


def _doubt(ground: Refinement, t: Array) -> float:
    return float((ground.upper(t[None]) - ground.height(t[None]))[0])


def _derived(data: Dataset, x: Array) -> dict[str, float]:
    row = int(np.argmin(np.abs(data.x - x).max(1)))
    return {name: float(v) for name, v in zip(data.derived_names, data.derived[row], strict=True) if np.isfinite(v)}
