"""Tables about rows in the report of a labelling run: reasons for requests, categories, outlying labels."""

from __future__ import annotations

import math

import numpy as np

from surrogate.arrays import Array
from surrogate.labelling.pool import Pool
from surrogate.labelling.state import FAILED, LABELLED, Batch, LabelState
from surrogate.output.learning_curve import RowDetails

__all__ = ["row_details"]

_LISTED = 60  # latest requested rows that are listed
_OUTLYING = 20  # outlying labels that are listed
_FAR = 4.0  # sds, or robust sds, beyond which a label is outlying: 6 in 100,000 of a normal distribution
_ROBUST = 1.4826  # times the median distance from the median: the sd of a normal distribution
_MOST_WORDS = 12  # categories of a column


def row_details(pool: Pool, state: LabelState) -> RowDetails:
    """The data for a report's tables about individual rows.

    Args:
        pool: The rows.
        state: Their labels and batches.
    """
    labels = state.y[state.status == LABELLED]
    return RowDetails(
        spread=float(labels.std()) if len(labels) > 1 else math.nan,
        asked=_latest_requests(pool, state),
        categories=_categories(pool, state),
        outlying=_outlying(pool, state),
    )


def _latest_requests(pool: Pool, state: LabelState) -> tuple[tuple[str, ...], ...]:
    """Batch, row, prediction, reason and label of the latest requested rows."""
    rows = []
    for batch in state.batches:
        for place, row in enumerate(batch.rows.tolist()):
            mean, sd, *_ = batch.prediction[place].tolist()
            predicted = "-" if math.isnan(mean) else f"{mean:.4g} ± {sd:.2g}"
            rows.append((f"{batch.number}", str(pool.names[row]), predicted, _reason(batch, place), _label(state, row)))
    return tuple(rows[-_LISTED:])


def _reason(batch: Batch, place: int) -> str:
    """The reason for requesting a row of a batch."""
    if batch.stage is None:
        return "drawn at random: there was no model yet"
    if batch.random[place]:
        return "drawn at random, to measure errors"
    sd = batch.prediction[:, 1]
    if not math.isfinite(sd[place]):
        return "chosen: unlike the labelled rows"
    share = float(np.mean(sd[np.isfinite(sd)] <= sd[place]))
    return f"chosen: unlike the labelled rows; as uncertain as {share:.0%} of its batch"


def _label(state: LabelState, row: int) -> str:
    if state.status[row] == FAILED:
        return f"failed: {dict(state.reasons).get(row, '')}"
    return f"{state.y[row]:.6g}" if state.status[row] == LABELLED else "pending"


def _categories(pool: Pool, state: LabelState) -> tuple[tuple[str, ...], ...]:
    """Column, category, rows and labelled rows of each category, most frequent first."""
    known = state.status == LABELLED
    found: list[tuple[str, ...]] = []
    columns = pool.schema.category_columns
    for column, codes in zip(columns, pool.codes.T, strict=True):
        size = len(column.categories)
        rows, labelled = np.bincount(codes, minlength=size), np.bincount(codes[known], minlength=size)
        order = np.argsort(-rows, kind="stable")[:_MOST_WORDS]
        found += [(column.name, column.categories[i], f"{rows[i]}", f"{labelled[i]}") for i in order]
        if size > _MOST_WORDS:
            found.append((column.name, f"{size - _MOST_WORDS} more", "", ""))
    return tuple(found)


def _outlying(pool: Pool, state: LabelState) -> tuple[tuple[str, ...], ...]:
    """Row, label and reason, for labels far from the others or from their predictions."""
    rows = np.flatnonzero(state.status == LABELLED)
    if len(rows) < 3:
        return ()
    y = state.y[rows]
    middle = float(np.median(y))
    width = _ROBUST * float(np.median(np.abs(y - middle)))
    far = np.abs(y - middle) / width if width > 0 else np.zeros(len(rows))
    pulls = _pulls(state)[rows]
    worst = np.fmax(far, np.nan_to_num(np.abs(pulls)))
    order = [i for i in np.argsort(-worst, kind="stable")[:_OUTLYING] if worst[i] > _FAR]
    words = []
    for i in order:
        reasons = [f"{far[i]:.1f} robust sds from the median label {middle:.4g}"] * bool(far[i] > _FAR)
        reasons += [f"{abs(pulls[i]):.1f} sds from its prediction"] * bool(abs(pulls[i]) > _FAR)
        words.append((str(pool.names[rows[i]]), f"{y[i]:.6g}", ", ".join(reasons)))
    return tuple(words)


def _pulls(state: LabelState) -> Array:
    """Error of each row's last prediction divided by its sd, with shape (n,); NaN where there was none."""
    pulls = np.full(len(state.y), np.nan)
    for batch in state.batches:
        mean, sd = batch.prediction[:, 0], batch.prediction[:, 1]
        with np.errstate(divide="ignore", invalid="ignore"):
            pulls[batch.rows] = (state.y[batch.rows] - mean) / sd
    return pulls
