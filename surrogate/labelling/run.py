"""The front door for pools: a table of rows, a budget of labels, and somebody or something that labels."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array, Indices
from surrogate.executors.blas import one_thread
from surrogate.executors.choice import make_executor
from surrogate.executors.evaluate import evaluate_batch
from surrogate.executors.interruption import Interrupted, StopRequest
from surrogate.executors.mpi import ranks
from surrogate.labelling.answers import Answers, events_of, read_answers
from surrogate.labelling.folder import LabelFolder, Recipe
from surrogate.labelling.journal import asked, judged, replay
from surrogate.labelling.loop import LabelSettings, choose, first_labels, fit
from surrogate.labelling.models import FoldModel, Prediction
from surrogate.labelling.pool import Pool
from surrogate.labelling.progress import Coverage, Ending, coverage, ending, facts, summary
from surrogate.labelling.schema import Declared
from surrogate.labelling.state import OUT, Batch, LabelState, Stage
from surrogate.labelling.table import Table, digest, original_rows, read_table
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior
from surrogate.problem.target import Posterior
from surrogate.problem.words import nearest
from surrogate.storage.documents import read_document, write_document
from surrogate.storage.versions import software_versions

__all__ = ["LabellingRun", "label", "open_run"]

Rows = Indices


def label(
    pool: Any,
    target: str = "y",
    *,
    oracle: Callable[..., float] | None = None,
    output: str | os.PathLike[str] | None = None,
    columns: Mapping[str, Any] | None = None,
    executor: Any = None,
    batch_size: int = 64,
    progress: bool = True,
    **settings: Any,
) -> LabellingRun:
    """A run that chooses which rows of a table are worth a label.

    With an ``oracle`` it is driven to its end (a budget, a target error or a flat curve is needed); without one,
    whoever labels calls ``ask`` and ``tell``.

    Args:
        pool: Path of a CSV or Parquet table, a mapping of names to columns, a DataFrame, or numbers with shape (n, d).
        target: Column of the labels; those that are there are used.
        oracle: Labels a row: takes an array with shape (d,) if the pool is an array, otherwise the row as a dict. What
            it raises, and an answer that is no finite number, is recorded as a row that has failed.
        output: Folder of the run; one that is there is continued.
        columns: What columns are, where inference would be wrong: "categorical", "id", "ignored", "mask", or a list of
            words, which are the steps of an ordinal scale.
        executor: Where the oracle runs, as in ``surrogate.infer``: None, "threads:N", "processes:N", "mpi", or a
            ``concurrent.futures.Executor``.
        batch_size: Rows of a batch, with an oracle.
        progress: Whether to say on standard error how it goes.
        **settings: Those of `surrogate.labelling.loop.LabelSettings`: seed, budget, target_error, flat, audit, model,
            ...

    Returns:
        The run.

    Raises:
        ValueError: If the table or an argument cannot be used; the message holds row and column.
        TypeError: If an argument has a wrong type.
        RuntimeError: If another process works in the output folder.

    >>> import numpy as np
    >>> import surrogate
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> run = surrogate.label(x, oracle=lambda x: x[0] ** 2 + x[1], budget=40, batch_size=20, progress=False)
    >>> run.state.n_labels
    40
    """
    chosen = _settings(settings)
    if oracle is None:
        return _made(pool, target, output, columns, chosen)
    if chosen.budget is None and chosen.target_error is None and chosen.flat is None:
        msg = "with an oracle a run needs an end: budget=, target_error= or flat="
        raise ValueError(msg)
    posterior = Posterior(_Oracle(oracle, _reader(pool)), Prior.of({"row": (-1.0, 2.0**53)}))
    say = _say if progress else _silent
    return _driven(
        lambda: _made(pool, target, output, columns, chosen),
        lambda state: LabellingRun(_recipe_and_pool(pool, target, columns, chosen), state),
        lambda run, workers, stop: _drive(run, posterior, workers, batch_size, stop, say),
        posterior,
        executor,
    )


def _driven(
    make: Callable[[], LabellingRun],
    copy: Callable[[LabelState], LabellingRun],
    drive: Callable[[LabellingRun, Executor, StopRequest], None],
    posterior: Posterior,
    executor: Any,
) -> LabellingRun:
    """A run that was driven to its end; under MPI by rank 0, the others evaluate and get a copy."""
    stop, world, own = StopRequest(), ranks(executor), []

    def lead(workers: Executor) -> LabelState:
        own.append(make())
        try:
            drive(own[0], workers, stop)
        except BaseException:
            own[0].close()
            raise
        return own[0].state

    with stop:
        if world is not None:
            state = world.run(posterior.evaluate, lead, stop)
            return own[0] if own else copy(state)
        with make_executor(None if executor == "auto" else executor, posterior.evaluate) as workers:
            lead(workers)
    return own[0]


def open_run(path: str | os.PathLike[str], *, writing: bool = True, wait: float = 0.0) -> LabellingRun:
    """The run in a folder, to go on with.

    Args:
        path: The folder.
        writing: Whether events are to be recorded: the folder is locked, and the table checked for changes.
        wait: Seconds to wait for another process that works in the folder.

    Raises:
        ValueError: If there is no run, a file is damaged, or the table has changed.
        RuntimeError: If another process works in the folder.
    """
    folder = LabelFolder.at(path)
    if not folder.holds_run:
        msg = f"{path} holds no labelling run; 'surrogate label init' makes one"
        raise ValueError(msg)
    if writing:
        _lock(folder, wait)
    try:
        return _opened(folder, check=writing)
    except BaseException:
        folder.run.close()
        raise


def _lock(folder: LabelFolder, wait: float) -> None:
    end = time.monotonic() + wait
    while True:
        try:
            folder.run.create()
        except RuntimeError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)
        else:
            return


def _opened(folder: LabelFolder, *, check: bool) -> LabellingRun:
    recipe = Recipe.of_document(read_document(folder.config_path))
    if check:
        recipe.check_source()
    pool = folder.load_pool(recipe)
    start = LabelState.initial(pool.y, random=recipe.settings.table_is_random)
    return LabellingRun((recipe, pool), replay(start, folder.journal.read()), folder)


def _made(
    pool: Any,
    target: str,
    output: str | os.PathLike[str] | None,
    columns: Mapping[str, Any] | None,
    settings: LabelSettings,
) -> LabellingRun:
    """A new run, or the one in the output folder if it is of the same table and settings."""
    if output is None:
        return LabellingRun(_recipe_and_pool(pool, target, columns, settings))
    folder = LabelFolder.at(output)
    folder.run.create()
    try:
        recipe, rows = _recipe_and_pool(pool, target, columns, settings)
        if folder.holds_run:
            run = _opened(folder, check=True)
            _check_same(run.recipe, recipe, folder.path)
            return _limited(run, settings)
        folder.save_pool(rows)
        write_document({**recipe.to_document(), "versions": software_versions()}, folder.config_path)
        return LabellingRun((recipe, rows), None, folder)
    except BaseException:
        folder.run.close()
        raise


def _check_same(before: Recipe, now: Recipe, path: Path) -> None:
    """Raises ValueError if a run is to be continued as another one; limits may change."""
    if before.digest != now.digest:
        msg = f"{path} holds a run of another table: choose another folder, or give it the table that it was made of"
        raise ValueError(msg)
    differing = {name for name in ("target", "columns") if getattr(before.schema, name) != getattr(now.schema, name)}
    differing |= {
        f.name for f in fields(LabelSettings) if getattr(before.settings, f.name) != getattr(now.settings, f.name)
    }
    if fixed := sorted(differing - _LIMITS):
        msg = f"{path} holds a run with another {', '.join(fixed)}: choose another folder, or the same words as before"
        raise ValueError(msg)


_LIMITS = {"budget", "target_error", "flat", "device"}  # may differ when a run is continued


def _limited(run: LabellingRun, settings: LabelSettings) -> LabellingRun:
    """The run with the limits that are given now; those that are not given stay."""
    given = {name: getattr(settings, name) for name in _LIMITS if getattr(settings, name) is not None}
    recipe = replace(run.recipe, settings=replace(run.settings, **given))
    if run.folder is not None and recipe.settings != run.settings:
        write_document({**recipe.to_document(), "versions": software_versions()}, run.folder.config_path)
    return LabellingRun((recipe, run.pool), run.state, run.folder)


class LabellingRun:
    """A run that is under way; each event is on the disk before a method returns.

    Attributes:
        recipe: What was asked for.
        pool: The rows.
        state: Labels and batches.
        folder: Where events are recorded; None if nowhere.
    """

    def __init__(
        self, made: tuple[Recipe, Pool], state: LabelState | None = None, folder: LabelFolder | None = None
    ) -> None:
        self.recipe, self.pool = made
        self.folder = folder
        self.state = state or LabelState.initial(self.pool.y, random=self.settings.table_is_random)
        self._fitted: tuple[bytes, FoldModel | None] | None = None

    @property
    def settings(self) -> LabelSettings:
        """Settings of the run."""
        return self.recipe.settings

    def close(self) -> None:
        """Lets other processes into the folder."""
        if self.folder is not None:
            self.folder.run.close()

    def __enter__(self) -> LabellingRun:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ask

    def ask(self, n: int = 64, *, anyway: bool = False) -> Batch:
        """Rows to be labelled, which are recorded as out; none if the run is over.

        A batch whose delivery was not recorded (the process was killed in between) is given again.

        Args:
            n: Rows wanted.
            anyway: Whether to go on beyond the target and the flat curve; a budget holds.

        Raises:
            ValueError: If no row is left.
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
            end = ending(self.state, self.settings, None) if self.settings.budget is not None else None
            if end is not None and end.over:
                return self._nothing()
            model = self.model()
            if not anyway and model is not None and ending(self.state, self.settings, model.stage()).over:
                self._judge(model.stage())
                return self._nothing()
            if self.settings.budget is not None:
                n = min(n, self.settings.budget - self.state.n_spent)
            batch = choose(self.pool, self.state, self.settings, n, model)
        self._record(asked(batch))
        return self.state.batches[-1]

    def _judge(self, stage: Stage) -> None:
        """Records a model by which the run is over, so that a status knows it too."""
        last = self.state.stages[-1] if self.state.stages else None
        if last is None or (last.n_labels, last.rmse) != (stage.n_labels, stage.rmse):
            self._record(judged(stage))

    def _nothing(self) -> Batch:
        nothing = np.empty(0, dtype=np.int64)
        return Batch(0, nothing, nothing.astype(bool), np.empty((0, 4)), self.settings.level)

    @property
    def undelivered(self) -> Batch | None:
        """The last batch if nobody may have got it."""
        last = self.state.batches[-1] if self.state.batches else None
        if last is None or last.delivered or not len(self.state.out_in(last.number)):
            return None
        return last

    def delivered(self, batch: Batch) -> None:
        """Records that a batch has reached whoever asked; `rows` and the command do this by themselves."""
        if len(batch) and not self.state.batch(batch.number).delivered:
            self._record({"event": "delivered", "batch": batch.number})

    def release(self, rows: ArrayLike | None = None) -> int:
        """Makes rows free that are out, all unless given, and returns how many were."""
        out = self.state.rows(OUT)
        chosen = out if rows is None else np.intersect1d(out, np.asarray(rows, dtype=np.int64))
        if len(chosen):
            self._record({"event": "released", "rows": chosen.tolist()})
        return len(chosen)

    # tell

    def tell(self, rows: ArrayLike, y: ArrayLike, *, correct: bool = False) -> int:
        """Records labels and returns how many were new.

        Args:
            rows: Rows counted from 0, with shape (k,), asked for or not.
            y: Their labels, with shape (k,); NaN for rows without a label yet, which are left out.
            correct: Whether a label may take the place of another one.

        Raises:
            ValueError: If shapes differ, a row is not in the table or stands there twice, a label is infinite, or
                differs from the one that is known.
        """
        index, values = np.asarray(rows), np.asarray(y, dtype=np.float64)
        self._check_told(index, values)
        given = ~np.isnan(values)
        index, values = index[given].astype(np.int64), values[given]
        places = tuple(f"row {row} (counted from 0)" for row in index)
        return self._tell(Answers(index, values, ("",) * len(index), int((~given).sum()), places), correct=correct)

    def tell_table(self, path: str | os.PathLike[str], *, correct: bool = False) -> tuple[int, Answers]:
        """Records the labels in a file and returns how many were new, and what the file says; see `read_answers`."""
        answers = read_answers(path, self.pool)
        return self._tell(answers, correct=correct), answers

    def fail(self, rows: ArrayLike, reason: str = "failed") -> None:
        """Records that rows have no label."""
        index = np.asarray(rows, dtype=np.int64)
        self._check_told(index, np.zeros(index.shape))
        self._record({"event": "failed", "rows": index.tolist(), "reasons": [reason] * len(index)})

    def _tell(self, answers: Answers, *, correct: bool) -> int:
        events = events_of(answers, self.state, correct=correct)
        for event in events:
            self._record(event)
        return sum(len(event["rows"]) for event in events)

    def _check_told(self, index: Any, values: Array) -> None:
        if index.ndim != 1 or index.shape != values.shape:
            msg = f"rows and labels must both have shape (k,), got {index.shape} and {values.shape}"
            raise ValueError(msg)
        if len(index) and not np.issubdtype(index.dtype, np.integer):
            msg = f"rows must be whole numbers, counted from 0, got {index.dtype}"
            raise ValueError(msg)
        if len(index) and (index.min() < 0 or index.max() >= len(self.pool)):
            wrong = index[(index < 0) | (index >= len(self.pool))][0]
            msg = f"there is no row {wrong}: rows are 0 to {len(self.pool) - 1}"
            raise ValueError(msg)
        if len(np.unique(index)) < len(index):
            msg = "a row stands there twice; which label is right?"
            raise ValueError(msg)
        if np.isinf(values).any():
            msg = "labels must be finite, got an infinite one"
            raise ValueError(msg)

    # what is known

    def model(self) -> FoldModel | None:
        """The model of the labels that are there; None before there are enough. Fitted when it is first needed."""
        key = hashlib.sha256(self.state.y.tobytes() + self.state.random.tobytes()).digest()
        if self._fitted is None or self._fitted[0] != key:
            with one_thread():
                self._fitted = key, fit(self.pool, self.state, self.settings)
        return self._fitted[1]

    def predict(self, rows: Any = None) -> Prediction:
        """Mean, sd and interval of the labels of rows.

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
        x = self.pool.x() if rows is None else self._encoded(rows)
        with one_thread():
            return model.predict(x, level=self.settings.level)

    def _encoded(self, rows: Any) -> Array:
        names = [column.name for column in self.pool.schema.columns]
        table = _table(rows, Declared(self.pool.schema.target, self.recipe.declared().categorical), names)
        return self.pool.schema.encode(*self.pool.schema.read(table))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The learning curve: held-out errors after each fit that led to a batch, and of a model that is there now."""
        found = self.state.stages
        model = None if self._fitted is None else self._fitted[1]
        if model is not None and (not found or found[-1].n_labels != model.n_labels):
            return (*found, model.stage())
        return found

    def ending(self) -> Ending:
        """Whether the run is over, and why; by the last model that was fitted."""
        return ending(self.state, self.settings, self.stages[-1] if self.stages else None)

    def coverage(self, *, random: bool = True) -> Coverage:
        """How many labels fell into their intervals, on random or on chosen rows."""
        return coverage(self.state, self.settings.level, random=random)

    def report(self, path: str | os.PathLike[str]) -> None:
        """Writes one self-contained page."""
        from surrogate.output.learning_curve import save_label_report

        save_label_report(summary(self.state, self.settings, self.stages, self.pool.schema.target), path)

    def facts(self) -> list[tuple[str, str]]:
        """Names and figures of a status."""
        return facts(self.state, self.settings, self.stages)

    # rows as the user spells them

    def original(self, rows: Sequence[int]) -> tuple[list[str], dict[int, list[str]]]:
        """Names of the columns, and the cells of rows (counted from 0) as the table spells them.

        Raises:
            ValueError: If the table was not a file.
        """
        if not self.recipe.source:
            msg = "the table of this run was not a file: ask and tell from Python, with rows counted from 0"
            raise ValueError(msg)
        return original_rows(self.recipe.source, rows)

    def _record(self, event: Mapping[str, Any]) -> None:
        """The only way to another state: first the journal, then the memory."""
        if self.folder is not None:
            self.folder.journal.append(event)
        self.state = replay(self.state, [event])
        if self.folder is not None and event["event"] in ("asked", "judged"):
            self.folder.save_trace(self.state.stages)


# Arguments


def _settings(given: Mapping[str, Any]) -> LabelSettings:
    known = [field.name for field in fields(LabelSettings)]
    for name in given:
        if name not in known:
            hint = nearest(name, known, otherwise=f"; known: {', '.join(known)}")
            msg = f"unknown setting {name!r}{hint}"
            raise TypeError(msg)
    settings = LabelSettings(**given)
    if "method" in given:  # otherwise a wrong one would be found out at the first fit, after all the first labels
        _check_method(settings)
    return settings


def _check_method(settings: LabelSettings) -> None:
    from surrogate.selection.batch import NEED_FEATURES, method_and_mode

    if method_and_mode(settings.method)[0] in NEED_FEATURES and settings.model in ("auto", "gp"):
        msg = (
            f"method {settings.method!r} needs features, and a Gaussian process, the model of up to 500 labels, has "
            "none: choose model 'network' with it, or a method such as maxdet-p"
        )
        raise ValueError(msg)


_KINDS = {"categorical": "categorical", "id": "ids", "ignored": "ignored"}


def _declared(target: str, columns: Mapping[str, Any] | None) -> Declared:
    found: dict[str, Any] = {"categorical": [], "ids": [], "ignored": [], "ordinal": {}, "mask": None}
    for name, kind in (columns or {}).items():
        if kind == "mask":
            found["mask"] = name
        elif isinstance(kind, str):
            if kind not in _KINDS:
                msg = f"column {name!r} must be 'categorical', 'id', 'ignored', 'mask' or a list of words, got {kind!r}"
                raise ValueError(msg)
            found[_KINDS[kind]].append(name)
        else:
            found["ordinal"][name] = tuple(str(word) for word in kind)
    lists = {name: tuple(found[name]) for name in ("categorical", "ids", "ignored")}
    return Declared(target, ordinal=found["ordinal"], mask=found["mask"], **lists)


def _table(data: Any, declared: Declared, names: Sequence[str] | None = None) -> Table:
    if isinstance(data, (str, os.PathLike)):
        return read_table(data, text=declared.text)
    return Table.of(data, names=names if isinstance(data, np.ndarray) else None)


def _recipe_and_pool(
    data: Any, target: str, columns: Mapping[str, Any] | None, settings: LabelSettings
) -> tuple[Recipe, Pool]:
    declared = _declared(target, columns)
    table = _table(data, declared)
    is_file = isinstance(data, (str, os.PathLike))
    pool = Pool.of(table, declared)
    found = digest(data) if is_file else _digest_of(pool)
    source = str(Path(data).absolute()) if is_file else ""
    return Recipe(source, found, len(pool), pool.schema, settings), replace(pool, digest=found)


def _digest_of(pool: Pool) -> str:
    parts = (pool.numbers, pool.codes, pool.y, pool.allowed)
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


# Labels from a function


@dataclass(frozen=True)
class _Oracle:
    """Labels the row whose number it gets."""

    function: Callable[..., float]
    as_row: Callable[[int], Any]

    def __call__(self, x: Array) -> float:
        answer = self.function(self.as_row(int(x[0])))
        if np.isneginf(answer):
            msg = "the label is -inf"
            raise ValueError(msg)
        return answer


@dataclass(frozen=True)
class _ArrayRows:
    """Rows of an array."""

    array: Array

    def __call__(self, row: int) -> Array:
        return self.array[row].copy()


@dataclass(frozen=True)
class _TableRows:
    """Rows of a table as dicts of numbers and words."""

    table: Table

    def __call__(self, row: int) -> dict[str, float | str]:
        return {
            name: column[row] if isinstance(column, list) else float(column[row])
            for name, column in self.table.columns.items()
        }


def _reader(pool: Any) -> Callable[[int], Any]:
    if isinstance(pool, (str, os.PathLike)):
        return _TableRows(read_table(pool))
    if isinstance(pool, np.ndarray):
        return _ArrayRows(np.asarray(pool, dtype=np.float64))
    return _TableRows(Table.of(pool))


def _drive(
    run: LabellingRun,
    posterior: Posterior,
    workers: Executor,
    batch_size: int,
    stop: StopRequest,
    say: Callable[[str], None],
) -> None:
    """Asks and labels until the run is over or interrupted; rows that are out come first."""
    with contextlib.suppress(Interrupted):
        while True:
            rows = run.state.rows(OUT)
            if not len(rows):
                rows = run.ask(batch_size).rows
            if not len(rows):
                say(run.ending().reason)
                return
            _evaluate(run, posterior, workers, rows, stop)
            if not (end := run.ending()).over:
                say(end.reason)


def _evaluate(run: LabellingRun, posterior: Posterior, workers: Executor, rows: Rows, stop: StopRequest) -> None:
    def record(index: int, evaluation: Evaluation) -> None:
        if evaluation.status == "ok":
            run.tell(rows[index : index + 1], [evaluation.y])
        else:
            run.fail(rows[index : index + 1], evaluation.reason or "no label")

    evaluate_batch(posterior, rows[:, None].astype(np.float64), workers, record=record, stop=stop)


def _say(words: str) -> None:
    print(f"surrogate: {words}", file=sys.stderr)


def _silent(words: str) -> None:
    """Says nothing."""
    del words
