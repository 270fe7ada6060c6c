"""What a run takes home: posterior draws, the evidence, the evaluated points, the emulator and the record."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array
from surrogate.output.tables import equal_tailed_interval, summary_table
from surrogate.problem.dataset import Dataset

if TYPE_CHECKING:
    from getdist import MCSamples

    from surrogate.log_density.predictor import Predictor

__all__ = ["Emulator", "EvidenceCheck", "Result", "Reweighting"]


class Emulator(Protocol):
    """A surrogate of the log-likelihood beside the exact log-prior."""

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood at x with shape (m, d), each with shape (m,)."""
        ...

    def log_prior(self, x: ArrayLike) -> Array:
        """Log prior density at x with shape (m, d), with shape (m,)."""
        ...

    def predictor(self, names: tuple[str, ...], bounds: Array) -> Predictor:
        """The mean of the log-likelihood as numbers."""
        ...


@dataclass(frozen=True)
class EvidenceCheck:
    """Two estimates of the log evidence of one surrogate, from different draws; what the surrogate misses is in both.

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
    """Nats that are added to the errors in quadrature: no reader of an evidence minds such a difference."""

    @property
    def difference(self) -> float:
        """Bridge minus importance estimate in units of their combined error; nan where one of them has no value."""
        error = math.hypot(self.importance_error, self.bridge_error, self.FLOOR)
        return (self.bridge - self.importance) / error if math.isfinite(error) else math.nan

    @property
    def agrees(self) -> bool:
        """Whether both are within three combined errors of each other."""
        return abs(self.difference) <= 3.0

    def shifted(self, shift: float) -> EvidenceCheck:
        """Both estimates plus a number."""
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
    """How true evaluations at draws of the surrogate changed their weights.

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


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The posterior of a run, n weighted draws of d parameters, and its record.

    Attributes:
        names: Names of the parameters.
        labels: Their LaTeX labels, without dollars.
        bounds: Support of the prior, with shape (d, 2); may be infinite.
        samples: Draws, with shape (n, d).
        weights: Their weights, with shape (n,), summing to one.
        log_posterior: Natural log of likelihood times prior, by the surrogate, with shape (n,); unnormalised.
        log_prior: Natural log of the prior density, with shape (n,).
        derived: Derived values of the draws, with shape (n, k); k may be 0.
        derived_names: Names of the k derived values.
        log_evidence: Natural log of the integral of likelihood times prior, the prior being normalised.
        log_evidence_error: Standard error of that, the surrogate's own error included.
        converged: Whether the stopping rule was satisfied.
        status: A sentence that says why the run stopped.
        n_evaluations: Calls of the likelihood.
        data: The evaluated points.
        trace: One row per iteration.
        emulator: The surrogate itself.
        surrogate_error: How far the posterior moves over draws of the surrogate: ``"mean"``, the sd of the means, and
            ``"sd"``, that of the relative change of the sds, each with shape (d,).
        sampler: Autocorrelation time, effective sample size and acceptance of the chain that drew the samples.
        periodic: Whether each parameter is periodic; empty if none is.
        derived_error: Held-out errors of the derived values, root mean square, with shape (k,); 0 where they were
            computed and not emulated, empty where nothing is known.
        reweighting: What re-weighting with true evaluations gave, if it was asked for.
        interrupted: Whether a signal or the wall time ended the run; it can be continued.
        check: What the run saw of its own errors before it ended, see ``PosteriorLoop.self_check``.
        evidence: The log evidence by two estimators and how far they are apart.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    bounds: Array
    samples: Array
    weights: Array
    log_posterior: Array
    log_prior: Array
    derived: Array
    derived_names: tuple[str, ...]
    log_evidence: float
    log_evidence_error: float
    converged: bool
    status: str
    n_evaluations: int
    data: Dataset
    trace: tuple[dict[str, float | str], ...]
    emulator: Emulator
    surrogate_error: dict[str, Array]
    sampler: dict[str, float] = field(default_factory=dict)
    periodic: tuple[bool, ...] = ()
    derived_error: Array = field(default_factory=lambda: np.empty(0))
    reweighting: Reweighting | None = None
    interrupted: bool = False
    check: dict[str, float] = field(default_factory=dict)
    evidence: EvidenceCheck | None = None

    def __post_init__(self) -> None:
        n, d, k = len(self.weights), len(self.names), len(self.derived_names)
        expected = {"samples": (n, d), "log_posterior": (n,), "log_prior": (n,), "derived": (n, k), "bounds": (d, 2)}
        if wrong := [name for name, shape in expected.items() if getattr(self, name).shape != shape]:
            words = ", ".join(f"{name} with shape {getattr(self, name).shape}, not {expected[name]}" for name in wrong)
            msg = f"a result of {n} weights, {d} names and {k} derived names does not fit: {words}"
            raise ValueError(msg)
        if len(self.labels) != d:
            msg = f"labels must be as many as the {d} names, got {len(self.labels)}"
            raise ValueError(msg)

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        return f"<Result: {len(self.names)} parameters, {self.n_evaluations} evaluations, {state}>"

    @property
    def unrolled(self) -> Array:
        """The draws with each periodic parameter within half a turn of its circular mean, with shape (n, d).

        What has moments and intervals where the mass lies across the two bounds, which are one point; a value may then
        lie beyond them. Without periodic parameters these are the samples.
        """
        if not any(self.periodic):
            return self.samples
        out, (low, high) = self.samples.copy(), self.bounds.T
        for j in np.flatnonzero(self.periodic):
            period = high[j] - low[j]
            phase = np.angle(self.weights @ np.exp(2j * np.pi * (out[:, j] - low[j]) / period)) / (2.0 * np.pi)
            seam = low[j] + period * ((phase + 0.5) % 1.0 - 1.0)
            out[:, j] = seam + np.mod(out[:, j] - seam, period)
        return out

    @property
    def mean(self) -> Array:
        """Posterior means, with shape (d,); of periodic parameters about their circular mean, within the bounds."""
        mean = self.weights @ self.unrolled
        for j in np.flatnonzero(self.periodic):
            low, high = self.bounds[j]
            mean[j] = low + (mean[j] - low) % (high - low)
        return mean

    @property
    def covariance(self) -> Array:
        """Posterior covariance, with shape (d, d); periodic parameters as in ``unrolled``."""
        residual = self.unrolled - self.weights @ self.unrolled
        return (self.weights[:, None] * residual).T @ residual

    @property
    def sd(self) -> Array:
        """Posterior standard deviations, with shape (d,)."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def best_fit(self) -> Array:
        """The evaluated point of the highest log-posterior, with shape (d,); nan if no value was finite."""
        if not self.data.finite.any():
            return np.full(len(self.names), np.nan)
        x = self.data.x[self.data.finite]
        return x[np.argmax(self.data.y[self.data.finite] + self.emulator.log_prior(x))]

    def interval(self, level: float = 0.68) -> Array:
        """Equal-tailed credible intervals, with shape (d, 2); for a periodic parameter they may go beyond its bounds.

        Args:
            level: Posterior probability between the ends.

        Raises:
            ValueError: If the level is not between 0 and 1.
        """
        return equal_tailed_interval(self.unrolled, self.weights, level)

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """The emulator: what the run knows of the log-posterior anywhere.

        Args:
            x: Points with shape (m, d), or one with shape (d,).

        Returns:
            Mean and sd of log-likelihood plus log-prior, each with shape (m,); -inf outside the prior.

        Raises:
            ValueError: If the points have another number of parameters.
        """
        points = np.atleast_2d(np.asarray(x, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != len(self.names):
            msg = f"x must have shape (m, {len(self.names)}), got {np.shape(x)}"
            raise ValueError(msg)
        mean, sd = self.emulator.predict(points)
        return mean + self.emulator.log_prior(points), sd

    def predictor(self) -> Predictor:
        """The learned log-likelihood as a fast function, without the prior and without an error.

        ``predictor(x)`` takes one point with shape (d,), in about 10 microseconds for 500 evaluated points, and
        ``predictor.log_likelihood(x)`` many, with shape (m, d).
        """
        return self.emulator.predictor(self.names, self.bounds)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes the learned log-likelihood to a file for other programs.

        Args:
            path: ``NAME.npz`` for numbers, which ``surrogate.load_predictor`` reads and anyone may trust; ``NAME.pt2``
                for a program of ``torch.export``, which runs without this package.

        Raises:
            ValueError: If the suffix is another one.
            OSError: If the file cannot be written.
        """
        self.predictor().save(path)

    def summary(self) -> str:
        """The result as a table of text."""
        return summary_table(self)

    def to_getdist(self) -> MCSamples:
        """The draws for GetDist, with names, labels and ranges."""
        from surrogate.output.getdist import to_mcsamples

        return to_mcsamples(self)

    def save(self, root: str | os.PathLike[str]) -> None:
        """Writes ``root.txt``, ``.paramnames``, ``.ranges`` and ``.properties.ini`` in GetDist's layout."""
        from surrogate.output.getdist import save_chain

        save_chain(self, root)

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Writes a corner plot of the posterior, with the evaluated points on it, to a png, pdf or svg file."""
        from surrogate.output.plots import save_corner

        save_corner(self, path)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes one self-contained HTML page with everything that a reader of the result may ask."""
        from surrogate.output.report import save_report

        save_report(self, path)
