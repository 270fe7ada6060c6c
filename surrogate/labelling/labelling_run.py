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
    """A labelling run. Events are on disk before a method returns.

    Attributes:
        recipe: Table, columns and settings.
        pool: The rows.
        state: Labels and batches.
        folder: Where events are recorded; None to keep them in memory.
        halted: Why the run stopped before reaching its limits, such as repeated failures; otherwise empty.
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
        """The next rows to label, which become pending; empty if the run is over or no row is left.

        If the process was killed before delivery of a batch was recorded, that batch is returned again.

        Args:
            n: Number of rows.
            anyway: Whether to continue although the target is reached or the curve is flat; a budget still applies.

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
        """Records the held-out errors of a model that chose no batch, so that later statuses can show them."""
        last = self.state.stages[-1] if self.state.stages else None
        if last is None or (last.n_labels, last.rmse) != (stage.n_labels, stage.rmse):
            self._record(judged(stage))

    @property
    def undelivered(self) -> Batch | None:
        """The last batch if its delivery was not recorded; otherwise None."""
        last = self.state.batches[-1] if self.state.batches else None
        if last is None or last.delivered or not len(self.state.out_in(last.number)):
            return None
        return last

    def delivered(self, batch: Batch) -> None:
        """Records that a batch was delivered; the command line does this automatically."""
        if len(batch) and not self.state.batch(batch.number).delivered:
            self._record({"event": "delivered", "batch": batch.number})

    def release(self, rows: ArrayLike | None = None) -> int:
        """Returns pending rows (by default all) to the pool; the result is their number."""
        out = self.state.rows(OUT)
        chosen = out if rows is None else np.intersect1d(out, np.asarray(rows, dtype=np.int64))
        if len(chosen):
            self._record({"event": "released", "rows": chosen.tolist()})
        return len(chosen)

    # tell

    def tell(self, rows: ArrayLike, y: ArrayLike, *, correct: bool = False) -> int:
        """Records labels and returns how many were new.

        Args:
            rows: Row numbers, counted from 0, with shape (k,); they need not have been requested.
            y: Their labels, with shape (k,); NaN for rows without a label yet, which are left out.
            correct: Whether new labels may replace known ones.

        Raises:
            ValueError: If shapes differ, a row is not in the table or is repeated, or a label is infinite or differs
                from the known one.
        """
        index, values = np.asarray(rows), np.asarray(y, dtype=np.float64)
        check_told(index, values, len(self.pool))
        given = ~np.isnan(values)
        index, values = index[given].astype(np.int64), values[given]
        reasons = ("",) * len(index)
        return self._tell(Answers(index, values, reasons, int((~given).sum()), _places(index)), correct=correct)

    def tell_table(self, path: str | os.PathLike[str], *, correct: bool = False) -> tuple[int, Answers]:
        """Records the labels in a file; returns the number of new ones and the file's content, see `read_answers`."""
        answers = read_answers(path, self.pool)
        return self._tell(answers, correct=correct), answers

    def fail(self, rows: ArrayLike, reason: str = "failed", *, correct: bool = False) -> int:
        """Records that rows cannot be labelled; returns how many of these failures are new.

        Args:
            rows: Rows counted from 0, with shape (k,).
            reason: Why.
            correct: Whether rows that have a label may lose it.

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
            self._judge(model.stage())  # held-out errors from before the correction were computed with wrong labels
        return sum(len(event["rows"]) for event in events)

    # results

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
            rows: A table with the columns of the pool, in any form that `label` accepts; None for all rows of the pool.

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
        """The learning curve: held-out errors of each model that chose a batch, and of the current one."""
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
        """The number of labels inside their predicted intervals, for random or for chosen rows."""
        return coverage(self.state, self.settings.level, random=random)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes a report as one self-contained HTML page."""
        from surrogate.output.learning_curve import save_label_report

        target, details = self.pool.schema.target, row_details(self.pool, self.state)
        save_label_report(summary(self.state, self.settings, self.stages, target, self.ending(), details), path)

    def facts(self) -> list[tuple[str, str]]:
        """Names and values shown by ``status``."""
        copies = self.state.n_labels - len(distinct_labelled(self.pool, self.state))
        return facts(self.state, self.settings, self.stages, copies=copies)

    def _repr_html_(self) -> str:
        """HTML for notebooks: the facts of ``status``, without a new fit."""
        return facts_html(f"labelling run of {self.pool.schema.target}", self.facts())

    # rows as written in the user's table

    def original(self, rows: Sequence[int]) -> tuple[list[str], dict[int, list[str]]]:
        """Column names, and the cells of rows (counted from 0) as written in the table.

        Raises:
            ValueError: If the table was not a file.
        """
        if not self.recipe.source:
            msg = "the table of this run was not read from a file: use ask and tell in Python, with rows counted from 0"
            raise ValueError(msg)
        return original_rows(self.recipe.source, rows)

    def _record(self, event: Mapping[str, Any]) -> None:
        """Records an event on disk and then in memory; all changes of the state go through here."""
        if self.folder is not None:
            self.folder.journal.append(event)
        self.state = replay(self.state, [event])
        if self.folder is not None and event["event"] in ("asked", "judged"):
            self.folder.save_trace(self.state.stages)


def _places(rows: Indices) -> tuple[str, ...]:
    """Names of rows for messages."""
    return tuple(f"row {row} (counted from 0)" for row in rows)
