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
    """Interface of an emulator: a surrogate of the log-likelihood and the exact log-prior."""

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood at x with shape (m, d), each with shape (m,)."""
        ...

    def log_prior(self, x: ArrayLike) -> Array:
        """Log prior density at x with shape (m, d), with shape (m,)."""
        ...

    def predictor(self, names: tuple[str, ...], bounds: Array) -> Predictor:
        """A fast predictor of the log-likelihood."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Result(PosteriorSamples):
    """The posterior of a run, n weighted draws of d parameters, the record of the run, and its surrogate.

    Fields and properties of ``draws`` and ``record`` are also attributes of the result: ``result.mean``, ``sd``,
    ``covariance``, ``interval(0.95)``, ``labels``, ``bounds``, ``log_prior``, ``derived``, ``data``, ``trace``,
    ``best_fit``, ``interrupted`` and so on.

    Attributes:
        emulator: The surrogate, in the coordinates of the prior.
        setup: Setup of the run; None if the result was not made by a run.
        target: The likelihood and the prior, in the process that made the run; None if the result was loaded from a
            folder.
    """

    emulator: Emulator
    setup: Setup | None = None
    target: Posterior | None = None

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        return f"<Result: {len(self.names)} parameters, {self.n_evaluations} evaluations, {state}>"

    @default_float_errors()
    def predict(self, x: ArrayLike | Mapping[str, ArrayLike]) -> tuple[Array, Array]:
        """The emulator's prediction of the log-posterior at any points.

        Args:
            x: Points with shape (m, d), or one with shape (d,); or values by name, each a number or with shape (m,).

        Returns:
            Mean and sd of log-likelihood plus log-prior, each with shape (m,); -inf outside the prior.

        Raises:
            ValueError: If the parameters of the points are wrong.
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
        """The point of highest posterior density or likelihood, found with the surrogate and confirmed by true calls.

        The surrogate is maximised from several starts, the likelihood is called at the maximum, and the surrogate is
        refitted. This is repeated until neither the surrogate's maximum, nor its mean plus two standard deviations
        within one posterior sd of it, exceeds the best evaluated point by more than the tolerance.

        Args:
            of: "posterior" (density in the parameters) or "likelihood", within the support of the prior.
            log_likelihood: The likelihood, for a result that was loaded from a folder; as ``infer`` takes it.
            executor: Executor of the calls, as ``infer`` takes it.
            max_evaluations: Largest number of calls; 0 gives the maximum of the surrogate, without confirmation.
            tolerance: Tolerance in nats.

        Raises:
            ValueError: If an argument has a wrong value, or calls are requested but the likelihood is unknown.
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

        The maxima, at each value and overall, are found and confirmed as in ``maximum``, with shared calls.

        Args:
            name: The parameter.
            values: At least three values of the parameter; or their number, for values spread over the range in which
                the surrogate's profile falls to half a nat below the highest level.
            of: "likelihood" or "posterior": what is maximised over the other parameters.
            log_likelihood: The likelihood, for a result that was loaded from a folder.
            executor: Executor of the calls, as ``infer`` takes it; with n workers, n values are improved at a time.
            max_evaluations: Largest number of calls for all values together; 0 to use only the surrogate.
            tolerance: Tolerance in nats, at each value.
            levels: Confidence levels of the intervals, by Wilks' theorem.

        Raises:
            ValueError: If an argument has a wrong value, or calls are requested but the likelihood is unknown.
        """
        from surrogate.inference.best_fit import Confirmation
        from surrogate.inference.profiles import profile

        how = Confirmation(log_likelihood, executor, max_evaluations, tolerance)
        return profile(self, name, values, of=of, how=how, levels=levels)

    @default_float_errors()
    def observables(self, x: ArrayLike | None = None) -> Any:
        """The simulator's outputs as learned by a run of ``surrogate.Observables``.

        Args:
            x: Parameters with shape (m, d), or one point with shape (d,). Without it the answer is that of
                ``output_emulator``.

        Returns:
            Outputs and their sds, as the simulator arranges them, with a leading axis of m.

        Raises:
            ValueError: If the run learned no outputs, or x has a wrong number of parameters.
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
        """Outputs of the simulator at n draws of the posterior, as emulated, including the emulator's error.

        Args:
            n: Number of draws.
            seed: Seed for choosing the draws and for the errors.

        Returns:
            An array or a dict of arrays with a leading axis of n. The simulator is not called.

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
        """The result for another comparison of the same outputs, for a run of ``Observables``.

        Use it for a part of the data, another covariance, or an additional data set on the same outputs. The simulator
        is not called if ``refine`` is 0. ``converged`` and ``status`` say whether the surrogate is certain enough of
        the result.

        Args:
            compare: As in ``surrogate.Observables``.
            prior: Another prior, with the same slow parameters and possibly other fast ones; by default that of the
                run.
            vectorized: Whether ``compare`` takes many points in one call.
            refine: Largest number of calls of the simulator, made where the new posterior needs them.
            seed: Seed of all random numbers.
            n_samples: Effective number of independent draws.
            options: Further arguments of ``infer`` for the calls.

        Raises:
            ValueError: If the run learned no outputs, or was loaded from a folder.
        """
        from surrogate.inference.other_data import compared_with

        calls = {"max_evaluations": refine, **options} if refine else {}
        return compared_with(self, compare, prior, vectorized=vectorized, calls=calls, seed=seed, n_samples=n_samples)

    def predictor(self) -> Predictor:
        """The learned log-likelihood as a fast function, without prior and without error estimate.

        ``predictor(x)`` takes one point with shape (d,), in about 10 microseconds for 500 evaluated points, and
        ``predictor.log_likelihood(x)`` many, with shape (m, d).
        """
        return self.emulator.predictor(self.names, self.bounds)

    def export(self, path: str | os.PathLike[str]) -> None:
        """Writes the learned log-likelihood to a file for other programs.

        Args:
            path: ``NAME.npz`` for arrays, which ``surrogate.load_predictor`` reads without running code; ``NAME.pt2``
                for a program of ``torch.export``, which runs without this package.

        Raises:
            ValueError: If the suffix is not supported.
            OSError: If the file cannot be written.
        """
        self.predictor().save(path)

    @default_float_errors()
    def report(self, path: str | os.PathLike[str], *, reference: Any = None) -> None:
        """Writes the report of the run as one self-contained HTML page.

        Args:
            path: File to write.
            reference: As in `plot`.

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
