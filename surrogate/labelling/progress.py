"""Figures that a labelling run reports: errors, coverage of intervals, gain from selection, and when to stop.

Chosen rows are not a random sample: they are those that the model knows least about, so errors on them are larger than
on the whole table. Held-out errors are therefore averaged over rows drawn at random (the audit share of each batch, and
the labels of the table if these are a random sample) as soon as there are 30 of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from surrogate.arrays import Array, Flags
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.state import FAILED, FREE, LABELLED, OUT, Batch, LabelState, Stage
from surrogate.output.learning_curve import LabelSummary, RowDetails
from surrogate.output.tables import plus_minus

__all__ = [
    "BatchScore",
    "Coverage",
    "LabelEnding",
    "compared",
    "coverage",
    "ending",
    "facts",
    "gain_per_doubling",
    "prospect",
    "score",
    "summary",
]


_HALF = 1.9  # RMSE / MAE above which choosing rows saves half of the labels
_FEW_VALUES = 5  # distinct labels, up to which they are classes or grades rather than a quantity
_FEW = 50  # errors, below which the ratio is only an indication; with 20 Gaussian errors its sd is 0.07


def prospect(stage: Stage, *, n_values: int | None = None) -> str:
    """A sentence on whether selection is likely to pay off, judged by the tails of the held-out errors.

    On tables with RMSE / MAE of at least 1.9, LCMD reached the error of random rows with 46 to 65 % fewer labels; at
    1.37 with 4 to 23 % fewer; at 1.26 it saved none. On one table with a target of a few discrete values (1.75) it was
    worse than random rows. The correlation with the gain over 15 tables is that of Holzmueller et al. (2023),
    https://arxiv.org/abs/2203.09410, R^2 = 0.76.

    Args:
        stage: Point of the learning curve for the model.
        n_values: Number of distinct labels; None if there are many.
    """
    if n_values is not None and n_values <= _FEW_VALUES:
        return (
            f"labels have {n_values} different values, and held-out errors do not say whether choosing rows pays; on a "
            "table of this kind it was worse than random rows (--method random draws them)"
        )
    ratio = stage.ratio
    if not math.isfinite(ratio):
        return "held-out errors are zero: the labels follow from the columns, and any rows will do"
    few = ", no more than an indication with so few" if stage.n_held_out < _FEW else ""
    figure = f"RMSE / MAE of {stage.n_held_out} held-out errors is {ratio:.2f} (1.25 for Gaussian errors{few})"
    if ratio >= _HALF:
        return f"{figure}: choosing rows is likely to save about half of the labels"
    if ratio >= 1.5:
        return f"{figure}: choosing rows is likely to save some of the labels, a quarter to a half"
    if ratio >= 1.32:
        return f"{figure}: choosing rows may save a little, up to a quarter of the labels"
    return f"{figure}: choosing rows is NOT likely to do better than random rows"


@dataclass(frozen=True)
class BatchScore:
    """Errors of a batch, from predictions saved before its labels arrived.

    Attributes:
        number: Number of the batch.
        told: Number of labels received.
        out: Number of rows still pending.
        chosen: RMSE on chosen rows, NaN if there are none.
        random: RMSE on random rows, NaN if there are none.
    """

    number: int
    told: int
    out: int
    chosen: float
    random: float


def score(state: LabelState, batch: Batch) -> BatchScore:
    """Errors of a batch, from the predictions made before its labels were known."""
    told = (state.status[batch.rows] == LABELLED) & (state.last_batch[batch.rows] == batch.number)
    error = state.y[batch.rows] - batch.prediction[:, 0]
    return BatchScore(
        batch.number,
        int(told.sum()),
        len(state.out_in(batch.number)),
        _rmse(error[told & ~batch.random]),
        _rmse(error[told & batch.random]),
    )


def _rmse(error: Array) -> float:
    known = error[np.isfinite(error)]
    return float(np.sqrt(np.mean(known**2))) if len(known) else math.nan


@dataclass(frozen=True)
class Coverage:
    """Number of labels inside intervals that were saved before the labels arrived.

    Attributes:
        n: Number of labels.
        inside: Number of labels inside their intervals.
        level: Nominal probability of the intervals.
    """

    n: int
    inside: int
    level: float

    @property
    def share(self) -> float:
        """Observed coverage; NaN if there are no labels."""
        return self.inside / self.n if self.n else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the coverage (Clopper & Pearson 1934)."""
        if not self.n:
            return 0.0, 1.0
        found = stats.binomtest(self.inside, self.n).proportion_ci(0.95)
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        if not self.n:
            return "no predicted row has a label yet"
        low, high = self.interval
        verdict = "" if low <= self.level <= high else "; NOT the nominal coverage"
        return f"{self.share:.0%} of {self.n} in their {self.level:.0%} interval ({low:.0%} to {high:.0%}){verdict}"


def coverage(state: LabelState, level: float, *, random: bool) -> Coverage:
    """Coverage of the intervals of all batches, on random or on chosen rows."""
    inside, last = [np.empty(0, dtype=bool)], state.last_batch
    for batch in state.batches:
        usable = (state.status[batch.rows] == LABELLED) & (last[batch.rows] == batch.number) & (batch.random == random)
        usable &= np.isfinite(batch.prediction[:, 0]) & (batch.level == level)
        y = state.y[batch.rows][usable]
        inside.append((y >= batch.prediction[usable, 2]) & (y <= batch.prediction[usable, 3]))
    flat = np.concatenate(inside)
    return Coverage(len(flat), int(flat.sum()), level)


def gain_per_doubling(stages: tuple[Stage, ...]) -> tuple[float, float] | None:
    """Relative reduction of the held-out error by doubling the labels, and its standard error.

    It is the slope of a line fitted to log RMSE against log labels, weighted by the stages' errors, over the stages
    with at least half of the present labels. None if there are fewer than 4 such stages, or they span less than a
    factor of 1.5 in labels. Stages share labels, so the standard error is an upper estimate of the scatter about the
    line.
    """
    recent = [s for s in stages if s.is_random and s.n_labels >= 0.5 * stages[-1].n_labels]
    if len(recent) < 4 or recent[-1].n_labels < 1.5 * recent[0].n_labels:
        return None
    t = np.log2([s.n_labels for s in recent])
    value = np.log([s.rmse for s in recent])
    weight = 1.0 / np.maximum([s.rmse_error / s.rmse for s in recent], 1e-3) ** 2
    centre = np.average(t, weights=weight)
    spread = float(np.sum(weight * (t - centre) ** 2))
    slope = float(np.sum(weight * (t - centre) * value)) / spread
    return 1.0 - math.exp(slope), math.exp(slope) / math.sqrt(spread)


def _gain(stages: tuple[Stage, ...]) -> tuple[float, float] | None:
    """The gain measured with the last model, or else the slope of the learning curve."""
    last = stages[-1]
    return (last.gain, last.gain_error) if math.isfinite(last.gain) else gain_per_doubling(stages)


@dataclass(frozen=True)
class LabelEnding:
    """Whether a run is over, and why.

    Attributes:
        over: True if no more rows should be requested.
        reason: A sentence.
    """

    over: bool
    reason: str


def ending(
    state: LabelState, settings: LabelSettings, stage: Stage | None, *, allowed: Flags | None = None
) -> LabelEnding:
    """Whether the run is over: the budget is spent, no row is left, the target is reached, or the curve is flat.

    Args:
        state: Labels and batches.
        settings: Limits.
        stage: Held-out errors of the model of the current labels, if there is one.
        allowed: Whether each row may be requested, with shape (n,); all by default.
    """
    spent = _budget_spent(state, settings) or _rows_spent(state, allowed)
    if spent is not None:
        return spent
    if stage is None:
        return LabelEnding(False, "no model yet")
    found = _target_reached(stage, settings.target_error) or _curve_flat(state, stage, settings.flat)
    return found or LabelEnding(False, f"not over: held-out RMSE {_with_error(stage)} after {stage.n_labels} labels")


def _budget_spent(state: LabelState, settings: LabelSettings) -> LabelEnding | None:
    if settings.budget is None or state.n_spent < settings.budget:
        return None
    counts = ((len(state.rows(OUT)), "still pending"), (len(state.rows(FAILED)), "on rows that failed"))
    parts = "".join(f", {count} of them {words}" for count, words in counts if count)
    return LabelEnding(True, f"the budget of {settings.budget} labels is spent{parts}")


def _rows_spent(state: LabelState, allowed: Flags | None) -> LabelEnding | None:
    free = state.status == FREE
    masked = np.zeros(len(free), dtype=np.bool_) if allowed is None else free & ~allowed
    return None if (free & ~masked).any() else LabelEnding(True, _none_left(state, int(masked.sum())))


def _target_reached(stage: Stage, target: float | None) -> LabelEnding | None:
    if target is None or not (stage.is_random and stage.rmse + stage.rmse_error <= target):
        return None
    return LabelEnding(True, f"the target is reached: held-out RMSE {_with_error(stage)} <= {target:g}")


def _curve_flat(state: LabelState, stage: Stage, flat: float | None) -> LabelEnding | None:
    if flat is None:
        return None
    gain = _gain((*(s for s in state.stages if s.n_labels < stage.n_labels), stage))
    if gain is None or not gain[0] + gain[1] < flat:
        return None
    words = f"twice the labels would lower the error by {gain[0]:.1%} +- {gain[1]:.1%}"
    return LabelEnding(True, f"the curve is flat: {words}, less than {flat:.1%}")


def _none_left(state: LabelState, masked: int) -> str:
    counts = ((len(state.rows(OUT)), "are pending"), (len(state.rows(FAILED)), "failed"), (masked, "are masked"))
    parts = "".join(f", {count} {words}" for count, words in counts if count)
    return f"no row is left to ask for: {state.n_labels} have labels{parts}"


def _with_error(stage: Stage) -> str:
    return plus_minus(stage.rmse, stage.rmse_error)


# Text and reports


def facts(
    state: LabelState, settings: LabelSettings, stages: tuple[Stage, ...], *, copies: int = 0
) -> list[tuple[str, str]]:
    """Names and values shown by ``status``; ``copies`` is the number of labelled rows that repeat others."""
    out, failed = state.rows(OUT), state.rows(FAILED)
    in_table = int((state.in_table & (state.status == LABELLED)).sum())
    notes = [f"{in_table} of them in the table"] if in_table else []
    notes += [f"{copies} are copies of other rows and are counted once"] if copies else []
    found = [
        ("rows", f"{len(state.y)}"),
        ("labels", f"{state.n_labels}" + (f" ({'; '.join(notes)})" if notes else "")),
        ("pending", f"{len(out)} in batches {_some(state.unfinished)}" if len(out) else "none"),
    ]
    if len(failed):
        reasons = list(dict.fromkeys(reason for _, reason in state.reasons))[:3]
        found.append(("failed", f"{len(failed)} ({'; '.join(reasons)})"))
    if settings.budget is not None:
        found.append(("budget", f"{state.n_spent} of {settings.budget} spent"))
    if stages:
        found += _of_stage(stages, state)
        found.append(("coverage", f"random rows: {coverage(state, settings.level, random=True)}"))
        chosen = coverage(state, settings.level, random=False)
        if chosen.n:
            found.append(
                (
                    "",
                    f"chosen rows: {chosen.share:.0%} of {chosen.n}; these are harder to predict, so a lower "
                    "coverage is expected",
                )
            )
    return found


def _of_stage(stages: tuple[Stage, ...], state: LabelState) -> list[tuple[str, str]]:
    last = stages[-1]
    since = f"; {state.n_labels - last.n_labels} arrived since" if state.n_labels > last.n_labels else ""
    over = f"{last.n_held_out} random rows" if last.is_random else f"{last.n_held_out} rows, NOT a random sample"
    found = [
        ("model", f"{last.model}, fitted to {last.n_labels} labels{since}"),
        ("held-out RMSE", f"{_with_error(last)}, MAE {last.mae:.4g}, over {over}"),
    ]
    if beside := compared(last):
        found.append(("compared with", beside))
    n_values = len(np.unique(state.y[state.status == LABELLED]))
    found.append(("prospect", prospect(last, n_values=n_values)))
    if (gain := _gain(stages)) is not None:
        found.append(("curve", f"twice the labels lower the error by about {gain[0]:.0%} +- {gain[1]:.0%}"))
    return found


def compared(stage: Stage) -> str:
    """Errors of a constant and of a ridge regression in the same folds; empty if they were not measured."""
    if not math.isfinite(stage.constant):
        return ""
    found = f"RMSE {stage.constant:.4g} of a constant, {stage.ridge:.4g} of a ridge regression"
    if stage.rmse + stage.rmse_error < stage.constant:
        return found
    return f"{found}: the model is NOT clearly better than a constant, and its columns may not determine the label"


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")


_NOTHING = RowDetails()


def summary(
    state: LabelState,
    settings: LabelSettings,
    stages: tuple[Stage, ...],
    target: str,
    end: LabelEnding | None = None,
    details: RowDetails = _NOTHING,
) -> LabelSummary:
    """The data for a report; by default ``end`` is derived from the other arguments."""
    end = end or ending(state, settings, stages[-1] if stages else None)
    figures = [[s.n_labels, s.rmse, s.rmse_error, s.mae, s.n_held_out, s.is_random] for s in stages]
    found = facts(state, settings, stages)
    short = [pair for pair in found if pair[0] in ("rows", "labels", "pending", "failed", "budget", "model")]
    notes = tuple(f"{name or 'coverage'}: {words}" for name, words in found if (name, words) not in short)
    return LabelSummary(
        target=target,
        verdict=f"{end.reason[0].upper()}{end.reason[1:]}.",
        over=end.over,
        facts=tuple(short),
        notes=notes,
        stages=np.array(figures, dtype=np.float64).reshape(len(stages), 6),
        models=tuple(stage.model for stage in stages),
        batches=_batch_errors(state),
        seen=_predicted_rows(state),
        level=settings.level,
        constant=stages[-1].constant if stages else math.nan,
        ridge=stages[-1].ridge if stages else math.nan,
        details=details,
    )


def _batch_errors(state: LabelState) -> Array:
    scores = [(batch.stage.n_labels, score(state, batch)) for batch in state.batches if batch.stage is not None]
    return np.array([[n, found.chosen, found.random] for n, found in scores], dtype=np.float64).reshape(-1, 3)


def _predicted_rows(state: LabelState) -> Array:
    """Label, mean, interval and kind of each row predicted before its label arrived, with shape (j, 5)."""
    parts, last = [np.empty((0, 5))], state.last_batch
    for batch in state.batches:
        told = (state.status[batch.rows] == LABELLED) & (last[batch.rows] == batch.number)
        told &= np.isfinite(batch.prediction[:, 0])
        columns = (state.y[batch.rows], *batch.prediction[:, [0, 2, 3]].T, batch.random.astype(np.float64))
        parts.append(np.stack(columns, axis=1)[told])
    return np.concatenate(parts)
