"""What tables, plots and reports need of a finished run besides its samples: the evidence and the record."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from surrogate.arrays import Array
from surrogate.output.probabilities import Probabilities
from surrogate.problem.dataset import Dataset

__all__ = ["Evidence", "EvidenceCheck", "Origin", "Record", "Reweighting"]


@dataclass(frozen=True)
class Evidence:
    """The log evidence of a run.

    Attributes:
        log_evidence: Natural log of the integral of likelihood times normalised prior.
        error: Its standard error, which includes the surrogate's own error.
        check: A second, independent estimate and its difference from the first, if there is one.
        probabilities: Probabilities of the levels of categorical and integer parameters, if there are any.
    """

    log_evidence: float
    error: float
    check: EvidenceCheck | None = None
    probabilities: Probabilities | None = None


@dataclass(frozen=True)
class EvidenceCheck:
    """Two estimates of the log evidence of one surrogate from different draws; both share the surrogate's error.

    Attributes:
        importance: By importance sampling of a mixture, see ``samplers.evidence``; the one that is reported.
        importance_error: Its Monte Carlo standard error.
        bridge: By bridge sampling between the final chain and another mixture, see ``samplers.bridge``.
        bridge_error: Its standard error; infinite where chain and mixture do not overlap.
    """

    importance: float
    importance_error: float
    bridge: float
    bridge_error: float

    FLOOR = 0.01
    """Nats added to the errors in quadrature, because so small a difference in an evidence does not matter."""

    @property
    def difference(self) -> float:
        """Bridge minus importance estimate in units of their combined error; nan where one of them has no value."""
        error = math.hypot(self.importance_error, self.bridge_error, self.FLOOR)
        return (self.bridge - self.importance) / error if math.isfinite(error) else math.nan

    @property
    def agrees(self) -> bool:
        """Whether the estimates differ by at most three combined errors."""
        return abs(self.difference) <= 3.0

    def shifted(self, shift: float) -> EvidenceCheck:
        """A copy with a constant added to both estimates."""
        return replace(self, importance=self.importance + shift, bridge=self.bridge + shift)

    def __str__(self) -> str:
        if not math.isfinite(self.difference):
            return "log evidence NOT CONFIRMED: no overlap of the final chain and the mixture of a bridge"
        word = "confirmed" if self.agrees else "NOT CONFIRMED"
        return (
            f"log evidence {word} by bridge sampling: {self.bridge - self.importance:+.3f} nats from importance "
            f"sampling, {abs(self.difference):.1f} combined errors"
        )


@dataclass(frozen=True, eq=False)
class Reweighting:
    """The result of re-weighting draws of the surrogate with true evaluations.

    Attributes:
        n: Draws evaluated.
        k_hat: Pareto shape of the largest weights; below 0.7 they can be trusted.
        ess: Effective number of draws.
        reliable: Whether the weights can be trusted.
        failed: Evaluations that failed.
        log_ratios: True minus surrogate log-posterior of each draw, with shape (n,).
    """

    n: int
    k_hat: float
    ess: float
    reliable: bool
    failed: int
    log_ratios: Array

    def __str__(self) -> str:
        words = "" if self.reliable else ", NOT RELIABLE: the surrogate misses part of the posterior"
        lost = f", {self.failed} of them failed" if self.failed else ""
        return (
            f"re-weighted with {self.n} true evaluations{lost}: effective size {self.ess:.0f}, "
            f"Pareto k-hat {self.k_hat:.2f}{words}"
        )


@dataclass(frozen=True)
class Origin:
    """Where a run comes from: what a reader needs to repeat it. Unknown fields are empty.

    Attributes:
        likelihood: Module and name of the log-likelihood.
        command: The command that started the run; empty in an interactive session.
        folder: Output folder.
        seed: Seed of all random numbers; None if not known.
        started: When the run was first started, in seconds since 1970.
        host: Machine on which the main process ran.
        workers: How many evaluations could run at a time.
        seconds: Wall-clock time from start to end, summed over the sessions of a run that was resumed.
    """

    likelihood: str = ""
    command: str = ""
    folder: str = ""
    seed: int | None = None
    started: float = 0.0
    host: str = ""
    workers: int = 1
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Record:
    """The evaluations, diagnostics and verdict of a run.

    Attributes:
        converged: Whether the stopping rule was satisfied.
        status: A sentence that says why the run stopped.
        n_evaluations: Calls of the likelihood.
        data: The n evaluated points.
        log_prior: Natural log of the prior density at the evaluated points, with shape (n,).
        trace: One row per iteration.
        surrogate_error: How far the posterior moves over paths of the surrogate: ``"mean"``, the sd of the posterior
            means, and ``"sd"``, the sd of the relative change of the posterior sds, each with shape (d,).
        sampler: Autocorrelation time, effective sample size and acceptance of the chain that drew the samples.
        check: The run's check of its own errors, see `surrogate.inference.reliability.self_check`.
        reweighting: Result of re-weighting with true evaluations, if requested.
        interrupted: Whether a signal or the wall-time limit ended the run, which can then be continued.
        origin: Where the run comes from.
        priors: A description of the prior of each of the d parameters.
        predicted: Mean and sd of the log-likelihood predicted before each evaluation, with shape (n, 2); NaN where
            there was no surrogate yet.

    Raises:
        ValueError: If there is not one ``log_prior`` for each evaluated point.
    """

    converged: bool
    status: str
    n_evaluations: int
    data: Dataset
    log_prior: Array
    trace: tuple[dict[str, float | str], ...]
    surrogate_error: dict[str, Array]
    sampler: dict[str, float] = field(default_factory=dict)
    check: dict[str, float] = field(default_factory=dict)
    reweighting: Reweighting | None = None
    interrupted: bool = False
    origin: Origin = Origin()
    priors: tuple[str, ...] = ()
    predicted: Array = field(default_factory=lambda: np.empty((0, 2)))

    def __post_init__(self) -> None:
        if self.log_prior.shape != (len(self.data),):
            msg = f"log_prior must have shape ({len(self.data)},), one for each point, got {self.log_prior.shape}"
            raise ValueError(msg)

    @property
    def log_posterior(self) -> Array:
        """Natural log of likelihood times prior at the points with a finite log-likelihood, in their order."""
        return (self.data.y + self.log_prior)[self.data.finite]

    @property
    def best_fit(self) -> Array:
        """The evaluated point with the highest log-posterior, with shape (d,); nan if no value was finite."""
        if not self.data.finite.any():
            return np.full(self.data.d, np.nan)
        return self.data.x[self.data.finite][np.argmax(self.log_posterior)]
