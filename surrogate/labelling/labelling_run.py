"""A labelling run and the events that change it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Indices
from surrogate.executors.blas import one_thread
from surrogate.labelling.answers import Answers, check_told, events_of, read_answers
from surrogate.labelling.details import row_details
from surrogate.labelling.folder import LabelFolder
from surrogate.labelling.journal import asked, judged, replay
from surrogate.labelling.loop import choose, distinct_labelled, first_labels, fit
from surrogate.labelling.models import FoldModel, Prediction
from surrogate.labelling.pool import Pool
from surrogate.labelling.progress import Coverage, LabelEnding, coverage, ending, facts, summary
from surrogate.labelling.recipe import Recipe, encoded
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.state import OUT, Batch, LabelState, Stage
from surrogate.labelling.table import original_rows
from surrogate.output.notebook import facts_html

__all__ = ["LabellingRun"]


class LabellingRun:
    """A labelling run; every event is on disk before a method returns.

    Attributes:
        recipe: Table, columns and settings.
        pool: The rows.
        state: Labels and batches.
        folder: Where events are recorded; None to keep them in memory.
        halted: Why nothing more is asked for, although the limits allow it; empty if there is no such reason.
    """

    def __init__(
        self, made: tuple[Recipe, Pool], state: LabelState | None = None, folder: LabelFolder | None = None
    ) -> None:
        self.recipe, self.pool = made
        self.folder = folder
        self.state = state or LabelState.initial(self.pool.y, random=self.settings.table_is_random)
        self.halted = ""
        self._fitted: tuple[bytes, FoldModel | None] | None = None

    @property
    def settings(self) -> LabelSettings:
        """Settings of the run."""
        return self.recipe.settings

    def close(self) -> None:
        """Releases the lock on the folder."""
        if self.folder is not None:
            self.folder.run.close()

    def __enter__(self) -> LabellingRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ask

    def ask(self, n: int = 64, *, anyway: bool = False) -> Batch:
        """The next rows to label, which become pending; none if the run is over or no row is left.

        A batch whose delivery was not recorded, because the process was killed, is returned again.

        Args:
            n: Rows wanted.
            anyway: Whether to go on beyond the target and the flat curve; a budget holds.

        Raises:
            ValueError: If ``n`` is less than 1.
        """
        if n < 1:
            msg = f"n must be at least 1, got {n}"
            raise ValueError(msg)
        batch = self.undelivered
        if batch is None or len(batch) != min(n, len(batch)):
            batch = self._next(n, anyway=anyway)
        return batch

    def _next(self, n: int, *, anyway: bool) -> Batch:
        if (lost := self.undelivered) is not None:
            self._record({"event": "released", "rows": lost.rows.tolist()})
        with one_thread():
            if ending(self.state, self.settings, None, allowed=self.pool.allowed).over:
                return Batch.empty(self.settings.level)
            model = self.model()
            if not anyway and model is not None and ending(self.state, self.settings, model.stage()).over:
                self._judge(model.stage())
                return Batch.empty(self.settings.level)
            if self.settings.budget is not None:
                n = min(n, self.settings.budget - self.state.n_spent)
            batch = choose(self.pool, self.state, self.settings, n, model)
        self._record(asked(batch))
        return self.state.batches[-1]

    def _judge(self, stage: Stage) -> None:
        """Records the held-out errors of a model that chose no batch, for a later status."""
        last = self.state.stages[-1] if self.state.stages else None
        if last is None or (last.n_labels, last.rmse) != (stage.n_labels, stage.rmse):
            self._record(judged(stage))

    @property
    def undelivered(self) -> Batch | None:
        """The last batch if it may never have reached its reader; None otherwise."""
        last = self.state.batches[-1] if self.state.batches else None
        if last is None or last.delivered or not len(self.state.out_in(last.number)):
            return None
        return last

    def delivered(self, batch: Batch) -> None:
        """Records that a batch has reached its reader; the command line calls this by itself."""
        if len(batch) and not self.state.batch(batch.number).delivered:
            self._record({"event": "delivered", "batch": batch.number})

    def release(self, rows: ArrayLike | None = None) -> int:
        """Returns pending rows (by default all) to the pool; the result is how many there were."""
        out = self.state.rows(OUT)
        chosen = out if rows is None else np.intersect1d(out, np.asarray(rows, dtype=np.int64))
        if len(chosen):
            self._record({"event": "released", "rows": chosen.tolist()})
        return len(chosen)

    # tell

    def tell(self, rows: ArrayLike, y: ArrayLike, *, correct: bool = False) -> int:
        """Records labels and returns how many were new.

        Args:
            rows: Rows counted from 0, with shape (k,); they need not have been asked for.
            y: Their labels, with shape (k,); NaN for rows without a label yet, which are left out.
            correct: Whether new labels may replace known ones.

        Raises:
            ValueError: If shapes differ, a row is not in the table or stands there twice, a label is infinite, or
                differs from the one that is known.
        """
        index, values = np.asarray(rows), np.asarray(y, dtype=np.float64)
        check_told(index, values, len(self.pool))
        given = ~np.isnan(values)
        index, values = index[given].astype(np.int64), values[given]
        reasons = ("",) * len(index)
        return self._tell(Answers(index, values, reasons, int((~given).sum()), _places(index)), correct=correct)

    def tell_table(self, path: str | os.PathLike[str], *, correct: bool = False) -> tuple[int, Answers]:
        """Records the labels in a file; returns how many were new, and the content of the file (see `read_answers`)."""
        answers = read_answers(path, self.pool)
        return self._tell(answers, correct=correct), answers

    def fail(self, rows: ArrayLike, reason: str = "failed", *, correct: bool = False) -> int:
        """Records that rows cannot be labelled; returns how many were not known to be so.

        Args:
            rows: Rows counted from 0, with shape (k,).
            reason: Why.
            correct: Whether rows that have a label lose it.

        Raises:
            ValueError: If a row is not in the table or appears twice, or has a label.
        """
        index = np.asarray(rows)
        check_told(index, np.zeros(index.shape), len(self.pool))
        index = index.astype(np.int64)
        answers = Answers(index, np.full(len(index), np.nan), (reason,) * len(index), 0, _places(index))
        return self._tell(answers, correct=correct)

    def _tell(self, answers: Answers, *, correct: bool) -> int:
        events = events_of(answers, self.state, correct=correct)
        for event in events:
            self._record(event)
        if correct and any(event["event"] != "told" for event in events) and (model := self.model()) is not None:
            self._judge(model.stage())  # held-out errors of before the correction are those of wrong labels
        return sum(len(event["rows"]) for event in events)

    # what is known

    def model(self) -> FoldModel | None:
        """The model of the current labels, fitted on first use; None if there are too few labels."""
        key = hashlib.sha256(self.state.y.tobytes() + self.state.random.tobytes()).digest()
        if self._fitted is None or self._fitted[0] != key:
            with one_thread():
                self._fitted = key, fit(self.pool, self.state, self.settings)
        return self._fitted[1]

    def predict(self, rows: Any = None) -> Prediction:
        """Predicted labels of rows, with standard deviations and intervals.

        Args:
            rows: A table with the columns of the pool in any form that `label` takes; None for all rows of the pool.

        Raises:
            ValueError: If there is no model yet, or the table does not fit.
        """
        model = self.model()
        if model is None:
            msg = (
                f"no predictions yet: {self.state.n_labels} labels, and a model needs {first_labels(self.pool)} that "
                "are not all the same"
            )
            raise ValueError(msg)
        x = self.pool.x() if rows is None else encoded(self.recipe, self.pool, rows)
        with one_thread():
            return model.predict(x, level=self.settings.level)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The learning curve: held-out errors of each model that chose a batch, and of the current model."""
        found = self.state.stages
        model = None if self._fitted is None else self._fitted[1]
        if model is not None and (not found or found[-1].n_labels != model.n_labels):
            return (*found, model.stage())
        return found

    def ending(self) -> LabelEnding:
        """Whether the run is over, and why, according to the last fitted model."""
        if self.halted:
            return LabelEnding(True, self.halted)
        return ending(self.state, self.settings, self.stages[-1] if self.stages else None, allowed=self.pool.allowed)

    def coverage(self, *, random: bool = True) -> Coverage:
        """How many labels fell into their intervals, on random or on chosen rows."""
        return coverage(self.state, self.settings.level, random=random)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes a report as one self-contained HTML page."""
        from surrogate.output.learning_curve import save_label_report

        target, details = self.pool.schema.target, row_details(self.pool, self.state)
        save_label_report(summary(self.state, self.settings, self.stages, target, self.ending(), details), path)

    def facts(self) -> list[tuple[str, str]]:
        """Names and values that a status shows."""
        copies = self.state.n_labels - len(distinct_labelled(self.pool, self.state))
        return facts(self.state, self.settings, self.stages, copies=copies)

    def _repr_html_(self) -> str:
        """What a notebook shows: the facts of a status, without a new fit."""
        return facts_html(f"labelling run of {self.pool.schema.target}", self.facts())

    # rows as the user spells them

    def original(self, rows: Sequence[int]) -> tuple[list[str], dict[int, list[str]]]:
        """Column names, and the cells of rows (counted from 0) as they are written in the table.

        Raises:
            ValueError: If the table was not a file.
        """
        if not self.recipe.source:
            msg = "the table of this run was not a file: use ask and tell in Python, with rows counted from 0"
            raise ValueError(msg)
        return original_rows(self.recipe.source, rows)

    def _record(self, event: Mapping[str, Any]) -> None:
        """Records an event, first on disk, then in memory: the only way to change the state."""
        if self.folder is not None:
            self.folder.journal.append(event)
        self.state = replay(self.state, [event])
        if self.folder is not None and event["event"] in ("asked", "judged"):
            self.folder.save_trace(self.state.stages)


def _places(rows: Indices) -> tuple[str, ...]:
    """Names of rows for messages."""
    return tuple(f"row {row} (counted from 0)" for row in rows)
