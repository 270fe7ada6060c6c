"""The results of a run as plain data: draws, evidence and record, with tables, plots and files of them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from surrogate.arrays import Array, default_float_errors
from surrogate.output.probabilities import Probabilities
from surrogate.output.record import Evidence, Record
from surrogate.output.subset import only
from surrogate.output.tables import summary_table
from surrogate.samplers.samples import Samples

if TYPE_CHECKING:
    from getdist import MCSamples
    from matplotlib.figure import Figure

__all__ = ["PosteriorSamples"]


@dataclass(frozen=True, eq=False, repr=False)
class PosteriorSamples:
    """The posterior of a run, n weighted draws of d parameters, its evidence, and the record of the run.

    The fields and properties of ``draws`` and ``record`` can be read from it as well: ``mean``, ``sd``, ``covariance``,
    ``interval(0.95)``, ``labels``, ``bounds``, ``log_prior``, ``derived``, ``data``, ``trace``, ``best_fit``,
    ``interrupted`` and so on.

    Attributes:
        draws: The weighted draws, see `surrogate.samplers.samples.Samples`.
        evidence: The log evidence and its check, see `surrogate.output.record.Evidence`.
        record: Record of the run, see `surrogate.output.record.Record`.
    """

    draws: Samples
    evidence: Evidence
    record: Record

    def __getattr__(self, name: str) -> Any:
        """A field or property of the draws or of the record."""
        for part in ("draws", "record"):
            owner = self.__dict__.get(part)
            if not name.startswith("_") and hasattr(type(owner), name) or name in _field_names(owner):
                return getattr(owner, name)
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(msg)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.draws), *dir(self.record)} - {"x"})

    def _repr_html_(self) -> str:
        """The HTML that a notebook shows."""
        from surrogate.output.notebook import result_html

        return result_html(self.draws, self.evidence, self.record)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return self.draws.names

    @property
    def samples(self) -> Array:
        """The draws, with shape (n, d)."""
        return self.draws.x

    @property
    def weights(self) -> Array:
        """Normalised weights of the draws, with shape (n,)."""
        return self.draws.weights

    @property
    def log_posterior(self) -> Array:
        """Natural log of likelihood times prior of the draws, by the surrogate, unnormalised, with shape (n,)."""
        return self.draws.log_posterior

    @property
    def log_evidence(self) -> float:
        """Natural log of the integral of likelihood times normalised prior."""
        return self.evidence.log_evidence

    @property
    def log_evidence_error(self) -> float:
        """Standard error of the log evidence, including the surrogate's own error."""
        return self.evidence.error

    @property
    def converged(self) -> bool:
        """Whether the stopping rule was satisfied."""
        return self.record.converged

    @property
    def status(self) -> str:
        """A sentence that says why the run stopped."""
        return self.record.status

    @property
    def n_evaluations(self) -> int:
        """Number of calls of the likelihood."""
        return self.record.n_evaluations

    def probabilities(self, name: str) -> dict[Any, tuple[float, float]]:
        """Posterior probability of each value of a categorical or integer parameter, with its standard error.

        If the parameter distinguishes models, these are the posterior probabilities of the models: normalised products
        of prior probability and evidence. The errors are those of the surrogate and of sampling.

        Raises:
            ValueError: If there is no such parameter.
        """
        return _probabilities(self).marginal(name)

    def log_evidence_by(self, name: str) -> dict[Any, tuple[float, float]]:
        """Natural log of the evidence given each value of a categorical or integer parameter, and its standard error.

        The prior of all other parameters is normalised, so differences are log Bayes factors. For their errors use
        ``log_evidence_ratio``, because errors common to two values cancel. A value too far below the others to be
        sampled has -inf and NaN.

        Raises:
            ValueError: If there is no such parameter.
        """
        return _probabilities(self).log_evidence_by(name)

    def log_evidence_ratio(self, name: str, first: Any, second: Any) -> tuple[float, float]:
        """Log Bayes factor of one value of a categorical or integer parameter against another, and its standard error.

        Raises:
            ValueError: If there is no such parameter or value.
        """
        return _probabilities(self).log_evidence_ratio(name, first, second)

    @default_float_errors()
    def summary(self) -> str:
        """The summary of the result as text."""
        return summary_table(self.draws, self.evidence, self.record)

    @default_float_errors()
    def to_getdist(self) -> MCSamples:
        """The draws for GetDist, with names, labels and ranges."""
        from surrogate.output.getdist import to_mcsamples

        return to_mcsamples(self.draws)

    @default_float_errors()
    def save(self, root: str | os.PathLike[str]) -> None:
        """Writes ``root.txt``, ``.paramnames``, ``.ranges`` and ``.properties.ini`` in GetDist's layout.

        The last file says whether the run has converged.
        """
        from surrogate.output.getdist import save_chain

        save_chain(self.draws, root, converged=self.converged)

    @default_float_errors()
    def to_arviz(self) -> Any:
        """The draws for ArviZ: InferenceData, or a DataTree from its version 1.0 on; needs ``arviz``."""
        from surrogate.output.arviz import to_arviz

        return to_arviz(self.draws, self.evidence, self.record)

    def to_pandas(self) -> Any:
        """The draws as a DataFrame: parameters, derived values, ``weight``, ``log_posterior``; needs ``pandas``."""
        from surrogate.output.arviz import to_pandas

        return to_pandas(self.draws)

    @default_float_errors()
    def plot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        parameters: Iterable[str] | None = None,
        reference: Any = None,
    ) -> Figure:
        """A corner plot of the posterior, with the evaluated points on it.

        Args:
            path: A png, pdf or svg file to write; None to write none.
            parameters: Names of the parameters to plot, in order; by default all.
            reference: The same posterior from another method, drawn on top: draws with shape (n, d), a pair of draws
                and weights, or the root of a chain in GetDist's layout.

        Raises:
            ValueError: If the ending or a parameter is unknown, or the reference has other parameters.
            OSError: If a file cannot be read or written.
        """
        from surrogate.output.getdist import reference_samples
        from surrogate.output.plots import corner_figure, save_figure

        known = reference_samples(reference, self.draws)
        draws, record = only(parameters, self.draws, self.record)
        figure = corner_figure(draws, record, None if known is None else only(parameters, known, self.record)[0])
        if path is not None:
            save_figure(figure, path)
        return figure


def _probabilities(run: PosteriorSamples) -> Probabilities:
    """The probabilities of the values of categories and integers.

    Raises:
        ValueError: If the run had no such parameters.
    """
    if run.evidence.probabilities is None:
        msg = f"the run has no categories or integers; its parameters are {', '.join(run.names)}"
        raise ValueError(msg)
    return run.evidence.probabilities


def _field_names(part: Any) -> tuple[str, ...]:
    return () if part is None else tuple(field.name for field in fields(part))
