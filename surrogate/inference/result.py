"""The result of a run: its posterior, and what its surrogate says anywhere, of the maximum and of other data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array, default_float_errors
from surrogate.inference.outputs import data_of, learned_outputs, outputs_of, predictive_draws
from surrogate.output.posterior_samples import PosteriorSamples
from surrogate.output.subset import named_points

if TYPE_CHECKING:
    from surrogate.inference.best_fit import BestFit
    from surrogate.inference.profiles import Profile
    from surrogate.inference.setup import Setup
    from surrogate.log_density.composite.emulator import OutputEmulator
    from surrogate.log_density.predictor import Predictor
    from surrogate.problem.target import Posterior

__all__ = ["Emulator", "Result"]


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


@dataclass(frozen=True, eq=False, repr=False)
class Result(PosteriorSamples):
    """The posterior of a run, n weighted draws of d parameters, the record of the run, and its surrogate.

    The fields and properties of ``draws`` and ``record`` can be read from the result itself: ``result.mean``, ``sd``,
    ``covariance``, ``interval(0.95)``, ``labels``, ``bounds``, ``log_prior``, ``derived``, ``data``, ``trace``,
    ``best_fit``, ``interrupted`` and so on.

    Attributes:
        emulator: The surrogate itself.
        setup: Setup of the run; None if the result was not made by a run.
        target: The likelihood and the prior, in the process that made the run; None if it was loaded from a folder.
    """

    emulator: Emulator
    setup: Setup | None = None
    target: Posterior | None = None

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        return f"<Result: {len(self.names)} parameters, {self.n_evaluations} evaluations, {state}>"

    @default_float_errors()
    def predict(self, x: ArrayLike | Mapping[str, ArrayLike]) -> tuple[Array, Array]:
        """The emulator: what the run knows of the log-posterior anywhere.

        Args:
            x: Points with shape (m, d), or one with shape (d,); or values by name, each a number or with shape (m,).

        Returns:
            Mean and sd of log-likelihood plus log-prior, each with shape (m,); -inf outside the prior.

        Raises:
            ValueError: If the points have other parameters.
        """
        if isinstance(x, Mapping):
            x = named_points(x, self.names)
        points = np.atleast_2d(np.asarray(x, dtype=np.float64))
        if points.ndim != 2 or points.shape[1] != len(self.names):
            msg = f"x must have shape (m, {len(self.names)}), got {np.shape(x)}"
            raise ValueError(msg)
        mean, sd = self.emulator.predict(points)
        return mean + self.emulator.log_prior(points), sd

    def maximum(
        self,
        of: str = "posterior",
        *,
        log_likelihood: Any = None,
        executor: Any = None,
        max_evaluations: int = 10,
        tolerance: float = 0.02,
    ) -> BestFit:
        """The point of highest posterior density or likelihood, found on the surrogate and confirmed by true calls.

        The surrogate is maximised from several starts, the likelihood is called there, the surrogate learns the value,
        and so on, until neither its maximum nor its maximum plus two of its standard deviations within one posterior
        sd is higher than the best evaluated point by more than the tolerance.

        Args:
            of: "posterior" (density in the parameters) or "likelihood", within the support of the prior.
            log_likelihood: The likelihood again, for a result that was loaded from a folder; as ``infer`` takes it.
            executor: Where it is called, as ``infer`` takes it.
            max_evaluations: Calls allowed; 0 gives the maximum of the surrogate alone, which is not confirmed.
            tolerance: In nats.

        Raises:
            ValueError: If an argument has a wrong value, or calls are wanted and the likelihood is not known.
        """
        from surrogate.inference.best_fit import Confirmation, maximum

        return maximum(self, of, Confirmation(log_likelihood, executor, max_evaluations, tolerance))

    def profile(
        self,
        name: str,
        values: ArrayLike | int = 7,
        *,
        of: str = "likelihood",
        log_likelihood: Any = None,
        executor: Any = None,
        max_evaluations: int = 40,
        tolerance: float = 0.05,
        levels: tuple[float, ...] = (0.68, 0.95),
    ) -> Profile:
        """The highest log-likelihood at given values of a parameter, with confidence intervals.

        Found and confirmed as ``maximum`` is, at each value and for the overall maximum, with shared calls.

        Args:
            name: The parameter.
            values: Values of it, at least three; or how many, spread over the range in which the surrogate's own
                profile falls half a nat below the highest level.
            of: "likelihood" or "posterior": what is maximised over the other parameters.
            log_likelihood: The likelihood again, for a result that was loaded from a folder.
            executor: Where it is called, as ``infer`` takes it; with n workers n values are improved at a time.
            max_evaluations: Calls allowed for all values together; 0 for the surrogate alone.
            tolerance: In nats, at each value.
            levels: Confidence levels of the intervals, by Wilks' theorem.

        Raises:
            ValueError: If an argument has a wrong value, or calls are wanted and the likelihood is not known.
        """
        from surrogate.inference.best_fit import Confirmation
        from surrogate.inference.profiles import profile

        how = Confirmation(log_likelihood, executor, max_evaluations, tolerance)
        return profile(self, name, values, of=of, how=how, levels=levels)

    @default_float_errors()
    def observables(self, x: ArrayLike | None = None) -> Any:
        """The outputs of the simulator as the run has learned them, for a run of ``surrogate.Observables``.

        Args:
            x: Parameters with shape (m, d), or one point with shape (d,). Without it the answer is that of
                ``output_emulator``.

        Returns:
            Outputs and their sds, as the simulator arranges them, with a leading axis of m.

        Raises:
            ValueError: If the run learned no outputs, or x has another number of parameters.
        """
        emulator = self.output_emulator()
        return emulator if x is None else emulator.predict(x)

    @default_float_errors()
    def output_emulator(self) -> OutputEmulator:
        """The outputs of the simulator as a function of the parameters, for a run of ``surrogate.Observables``.

        It can be saved, ``result.output_emulator().save("spectra.npz")``, for ``surrogate.load_observables`` to read.

        Raises:
            ValueError: If the run learned no outputs.
        """
        return outputs_of(self)

    @default_float_errors()
    def posterior_predictive(self, n: int = 200, *, seed: int = 0) -> Any:
        """Outputs of the simulator at n draws of the posterior, by the emulator and with its error.

        Args:
            n: Number of draws.
            seed: Chooses them.

        Returns:
            An array or a dict of arrays with a leading axis of n. No call is made.

        Raises:
            ValueError: If the run learned no outputs.
        """
        return predictive_draws(self, n, seed)

    def compare_with(
        self,
        compare: Callable[..., Any],
        prior: Any = None,
        *,
        vectorized: bool = False,
        refine: int = 0,
        seed: int = 0,
        n_samples: int = 10_000,
        **options: Any,
    ) -> Result:
        """The posterior and the evidence for another comparison of the same outputs, for a run of ``Observables``.

        A part of the data, another covariance, or one more data set on the same outputs: no call of the simulator is
        made where ``refine`` is 0. ``converged`` and ``status`` say whether the surrogate is sure of the result.

        Args:
            compare: As in ``surrogate.Observables``.
            prior: Another prior; it must have the slow parameters, and may have other fast ones.
            vectorized: Whether ``compare`` takes many points in one call.
            refine: Calls of the simulator that may be made, where the new posterior needs them.
            seed: Of all random numbers.
            n_samples: Effective number of independent draws.
            options: Further arguments of ``infer`` for the calls.

        Raises:
            ValueError: If the run learned no outputs, or was loaded from a folder.
        """
        from surrogate.inference.other_data import compared_with

        calls = {"max_evaluations": refine, **options} if refine else {}
        return compared_with(self, compare, prior, vectorized=vectorized, calls=calls, seed=seed, n_samples=n_samples)

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

    @default_float_errors()
    def report(self, path: str | os.PathLike[str], *, reference: Any = None) -> None:
        """Writes one self-contained HTML page with everything that a reader of the result may ask.

        Args:
            path: File to write.
            reference: As of `plot`.

        Raises:
            ValueError: If the reference has other parameters.
            OSError: If a file cannot be read or written.
        """
        from surrogate.output.getdist import reference_samples
        from surrogate.output.predictive import predictive_section
        from surrogate.output.report import save_report

        known = reference_samples(reference, self.draws)
        further = [predictive_section(self.posterior_predictive(), data_of(self))] if learned_outputs(self) else []
        save_report(
            self.draws, self.evidence, self.record, path, emulator=self.emulator, reference=known, further=further
        )
