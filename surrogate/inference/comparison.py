"""Comparison of models: Bayes factors of finished runs with their errors, and their dependence on priors."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array, default_float_errors
from surrogate.inference.criteria import Criteria
from surrogate.inference.widening import Widening, widenings
from surrogate.output.text_table import html_table, text_table

if TYPE_CHECKING:
    from surrogate.inference.predictive_check import PredictiveCheck
    from surrogate.inference.result import Result

__all__ = ["Comparison", "ComparedModel", "compare"]


@dataclass(frozen=True, eq=False)
class ComparedModel:
    """One model of a comparison.

    Attributes:
        name: Name of the model.
        log_evidence: Natural log of its evidence.
        error: Standard error of the log evidence.
        converged: Whether the run has converged.
        status: Why the run stopped.
        widenings: Changes of the evidence if each prior is widened.
        criteria: Information criteria, if given.
        check: A posterior predictive check, if one was given.
    """

    name: str
    log_evidence: float
    error: float
    converged: bool
    status: str
    widenings: tuple[Widening, ...] = ()
    criteria: Criteria | None = None
    check: PredictiveCheck | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Models of the same data, compared by their evidences.

    Attributes:
        models: The models, at least two.
        prior_probabilities: Normalised prior probabilities of the models, with shape (k,).
    """

    models: tuple[ComparedModel, ...]
    prior_probabilities: Array = field(default_factory=lambda: np.empty(0))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(model.name for model in self.models)

    @property
    def log_evidences(self) -> Array:
        """Natural logs of the evidences, with shape (k,)."""
        return np.array([model.log_evidence for model in self.models])

    @property
    def errors(self) -> Array:
        """Standard errors of the log evidences, with shape (k,)."""
        return np.array([model.error for model in self.models])

    @property
    def log_bayes_factors(self) -> Array:
        """Log Bayes factors of the row's model over the column's, with shape (k, k)."""
        return self.log_evidences[:, None] - self.log_evidences[None]

    @property
    def log_bayes_factor_errors(self) -> Array:
        """Standard errors of the log Bayes factors, with shape (k, k), for independent runs."""
        error = np.hypot(self.errors[:, None], self.errors[None])
        np.fill_diagonal(error, 0.0)
        return error

    @property
    def probabilities(self) -> Array:
        """Posterior probabilities of the models, given that one of them is true, with shape (k,)."""
        with np.errstate(divide="ignore"):
            log_p = self.log_evidences + np.log(self.prior_probabilities)
        p = np.exp(log_p - log_p.max())
        return p / p.sum()

    @property
    def best(self) -> ComparedModel:
        """The model with the largest evidence."""
        return self.models[int(np.argmax(self.log_evidences))]

    @property
    def trusted(self) -> bool:
        """Whether all runs have converged."""
        return all(model.converged for model in self.models)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Reasons for caution with these numbers, as sentences."""
        words = [f"{m.name} has NOT CONVERGED, its evidence may be wrong: {m.status}" for m in self.models]
        found = [text for text, model in zip(words, self.models, strict=True) if not model.converged]
        for model in self.models:
            found += [f"{model.name}, {text}" for text in (model.criteria.warnings if model.criteria else ())]
            if model.check is not None and model.check.disagreeing:
                found.append(f"{model.name} does not predict the data: {', '.join(model.check.disagreeing)}")
        return tuple(found)

    def rows(self) -> list[list[str]]:
        """Table rows of the models, best first: name, log evidence, log Bayes factor over the best, probability."""
        order = np.argsort(-self.log_evidences, kind="stable")
        best, rows = order[0], []
        for i in order:
            model, star = self.models[i], "" if self.models[i].converged else " (!)"
            factor = (
                "-"
                if i == best
                else _with_error(self.log_bayes_factors[i, best], self.log_bayes_factor_errors[i, best])
            )
            chance = f"{self.probabilities[i]:.3g}"
            rows.append([model.name + star, _with_error(model.log_evidence, model.error), factor, chance])
        return rows

    def sensitivity_rows(self) -> list[list[str]]:
        """Table rows of the widened priors: model, parameter, prior, change of the log evidence, note."""
        return [
            [m.name, w.name, w.prior, f"{'>= ' if w.cut else ''}{_with_error(w.shift, w.error)}", w.note]
            for m in self.models
            for w in m.widenings
        ]

    def _tables(self) -> list[tuple[str, Sequence[str], list[list[str]]]]:
        """Title, head and cells of each table."""
        tables: list[tuple[str, Sequence[str], list[list[str]]]]
        tables = [("", ("model", "log evidence", "log Bayes factor", "probability"), self.rows())]
        rows = self.sensitivity_rows()
        if rows:
            factor = self.models[0].widenings[0].factor if self.models[0].widenings else 2.0
            head = ("model", "parameter", "prior", "change of log evidence", "note")
            tables.append((f"Each prior widened by a factor of {factor:g}", head, rows))
        known = [(m.name, dict(m.criteria.rows())) for m in self.models if m.criteria is not None]
        if known:
            columns = list(dict.fromkeys(name for _, values in known for name in values))
            cells = [[name, *(values.get(column, "-") for column in columns)] for name, values in known]
            tables.append(("Information criteria, smaller is better", ("model", *columns), cells))
        checks = [
            [m.name, name, f"{p:.3f}"]
            for m in self.models
            if m.check is not None
            for name, p in zip(m.check.names, m.check.p_values, strict=True)
        ]
        if checks:
            tables.append(("Posterior predictive checks", ("model", "statistic", "p-value"), checks))
        return tables

    def __str__(self) -> str:
        parts = [f"WARNING: {words}" for words in self.warnings]
        for title, head, rows in self._tables():
            parts += ["", *([title] if title else []), text_table(head, rows)]
        return "\n".join(parts).strip("\n")

    def __repr__(self) -> str:
        return f"<Comparison: {', '.join(self.names)}; best {self.best.name}>"

    def _repr_html_(self) -> str:
        return html_table(self.warnings, self._tables())


@default_float_errors()
def compare(
    *results: Any,
    names: Iterable[str] | None = None,
    anyway: bool = False,
    prior_probabilities: ArrayLike | None = None,
    widen: float | None = 2.0,
    criteria: Sequence[Criteria] | None = None,
    checks: Sequence[PredictiveCheck] | None = None,
) -> Comparison:
    """A comparison of models of the same data by Bayes factors, with errors and dependence on priors.

    The log Bayes factor of two models is the difference of their log evidences. Likelihoods must be normalised alike:
    over the same data, and with the same constants left out.

    Args:
        results: Two or more results, or folders of runs, which are loaded.
        names: Names of the models; by default the names of folders, or A, B, ...
        anyway: Whether to accept runs that have not converged, which are then marked.
        prior_probabilities: Prior probabilities of the models, with shape (k,); equal by default.
        widen: Factor by which to widen each prior to show how the evidence depends on it; None to skip this.
        criteria: Criteria of each model, from ``surrogate.inference.criteria.information_criteria``.
        checks: Checks of each model, from ``surrogate.inference.predictive_check.predictive_check``.

    Raises:
        ValueError: If there are fewer than two, a run has not converged or has no finite evidence, or numbers of names,
            probabilities, criteria or checks do not match.
        TypeError: If something is neither a result nor a path.
    """
    loaded = [_load(result) for result in results]
    words = _names(results, names)
    k = len(loaded)
    if k < 2:
        msg = f"a comparison needs at least two results, got {k}"
        raise ValueError(msg)
    for what, given in (("criteria", criteria), ("checks", checks)):
        if given is not None and len(given) != k:
            msg = f"{what} must be one for each of the {k} models, got {len(given)}"
            raise ValueError(msg)
    _refuse(loaded, words, anyway=anyway)
    models = [
        ComparedModel(
            name=name,
            log_evidence=float(result.log_evidence),
            error=float(result.log_evidence_error),
            converged=result.converged,
            status=result.status,
            widenings=() if widen is None or result.setup is None else _widen(result, widen),
            criteria=None if criteria is None else criteria[i],
            check=None if checks is None else checks[i],
        )
        for i, (name, result) in enumerate(zip(words, loaded, strict=True))
    ]
    return Comparison(tuple(models), _probabilities(prior_probabilities, k))


def _widen(result: Result, factor: float) -> tuple[Widening, ...]:
    return () if result.setup is None else widenings(result.setup.prior, result.draws, factor)


def _load(result: Any) -> Result:
    from surrogate.inference.loading import load_result
    from surrogate.inference.result import Result

    if isinstance(result, Result):
        return result
    if isinstance(result, (str, os.PathLike)):
        return load_result(result)
    msg = f"compare takes results of surrogate.infer, or folders of runs, got {type(result).__name__}"
    raise TypeError(msg)


def _names(results: Sequence[Any], names: Iterable[str] | None) -> list[str]:
    if isinstance(names, str):
        msg = f"names must be a list with one name per model, got the text {names!r}"
        raise TypeError(msg)
    usual = [
        os.path.basename(os.path.normpath(result)) if isinstance(result, (str, os.PathLike)) else chr(ord("A") + i % 26)
        for i, result in enumerate(results)
    ]
    if len(set(usual)) < len(usual):  # folders with equal names
        usual = [str(result) if isinstance(result, (str, os.PathLike)) else n for result, n in zip(results, usual)]  # noqa: B905
    words = usual if names is None else [str(name) for name in names]
    if len(words) != len(results) or len(set(words)) < len(words):
        msg = f"names must be {len(results)} different names, got {', '.join(words)}"
        raise ValueError(msg)
    return words


def _refuse(results: Sequence[Result], names: Sequence[str], *, anyway: bool) -> None:
    """Raises ValueError if an evidence is unknown, or a run has not converged and ``anyway`` is False."""
    unknown = [name for name, result in zip(names, results, strict=True) if not math.isfinite(result.log_evidence)]
    if unknown:
        msg = f"{', '.join(unknown)}: no finite log evidence to compare"
        raise ValueError(msg)
    open_ = [f"{name} ({r.status})" for name, r in zip(names, results, strict=True) if not r.converged]
    if open_ and not anyway:
        msg = (
            f"not converged: {'; '.join(open_)}. The evidence of such a run may be wrong by any amount. Continue "
            "the run, or compare with anyway=True (--anyway), which marks it"
        )
        raise ValueError(msg)


def _probabilities(given: ArrayLike | None, k: int) -> Array:
    p = np.full(k, 1.0 / k) if given is None else np.asarray(given, dtype=np.float64)
    if p.shape != (k,) or not (np.isfinite(p) & (p >= 0)).all() or p.sum() <= 0:
        msg = f"prior_probabilities must be {k} numbers of at least 0, got {given!r}"
        raise ValueError(msg)
    return p / p.sum()


def _with_error(value: float, error: float) -> str:
    """A value and its error as text, to two digits of the error."""
    if not math.isfinite(error) or error <= 0:
        return f"{value:.3f}"
    digits = min(max(1 - math.floor(math.log10(error)), 0), 3)
    return f"{value:.{digits}f} +- {error:.{digits}f}"
