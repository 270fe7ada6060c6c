"""The state of a labelling run, and the pure functions by which events change it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array, Flags, Indices

__all__ = ["FAILED", "FREE", "LABELLED", "OUT", "Batch", "LabelState", "Stage"]

Rows = Indices

FREE, OUT, LABELLED, FAILED = 0, 1, 2, 3  # in the pool; pending; has a label; cannot be labelled


@dataclass(frozen=True, eq=False)
class Stage:
    """Held-out errors of one model: one point of the learning curve.

    Attributes:
        n_labels: Number of labels in the fit.
        model: Name of the model.
        rmse: Held-out root mean squared error, by cross-validation.
        rmse_error: Its standard error.
        mae: Held-out mean absolute error.
        n_held_out: Number of rows over which these errors are taken.
        is_random: Whether these rows are a random sample of the table.
        sd_scale: Factor by which the model's sd was multiplied.
        seconds: Time of the fit.
        gain: Relative reduction of the RMSE by doubling the labels; NaN if not measured.
        gain_error: Its standard error.
        constant: Held-out RMSE of predicting the mean label, on the same rows; NaN if not measured.
        ridge: Held-out RMSE of a ridge regression, likewise.
    """

    n_labels: int
    model: str
    rmse: float
    rmse_error: float
    mae: float
    n_held_out: int
    is_random: bool
    sd_scale: float = 1.0
    seconds: float = 0.0
    gain: float = float("nan")
    gain_error: float = float("nan")
    constant: float = float("nan")
    ridge: float = float("nan")

    @property
    def ratio(self) -> float:
        """RMSE / MAE: 1.253 for Gaussian errors, larger for heavier tails."""
        return self.rmse / self.mae if self.mae > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows that were chosen together, with the predictions made before their labels arrived.

    Attributes:
        number: Number of the batch, counted from 1.
        rows: Row numbers, counted from 0, with shape (b,).
        random: Whether each row was drawn at random, with shape (b,).
        prediction: Predicted mean, sd and ends of the interval of each row, with shape (b, 4); NaN if there was no
            model.
        level: Probability of the intervals.
        stage: Held-out errors of the model; None if there was none.
        delivered: Whether delivery of the rows was recorded.
        note: A remark for the user; usually empty.
    """

    number: int
    rows: Rows
    random: Flags
    prediction: Array
    level: float
    stage: Stage | None = None
    delivered: bool = False
    note: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def empty(cls, level: float) -> Batch:
        """A batch without rows."""
        rows = np.empty(0, dtype=np.int64)
        return cls(0, rows, rows.astype(bool), np.empty((0, 4)), level)


@dataclass(frozen=True, eq=False)
class LabelState:
    """The complete state of a labelling run.

    Attributes:
        y: Labels, with shape (n,); NaN where there are none.
        status: FREE, OUT, LABELLED or FAILED, with shape (n,).
        random: Whether each row belongs to a random sample of the table, with shape (n,).
        in_table: Whether each label was in the table from the start, with shape (n,).
        batches: All batches, in order.
        reasons: Why rows failed, by row.
        stages: The learning curve: errors of the last model fitted at each number of labels.
    """

    y: Array
    status: NDArray[np.int8]
    random: Flags
    in_table: Flags
    batches: tuple[Batch, ...] = ()
    reasons: tuple[tuple[int, str], ...] = ()
    stages: tuple[Stage, ...] = ()

    @classmethod
    def initial(cls, y: Array, *, random: bool) -> LabelState:
        """The initial state, with the labels of the table; ``random`` says whether these rows are a random sample."""
        labelled = np.isfinite(y)
        status = np.where(labelled, LABELLED, FREE).astype(np.int8)
        return cls(y.copy(), status, labelled & random, labelled)

    @property
    def n_labels(self) -> int:
        """Number of labels, including those in the table."""
        return int((self.status == LABELLED).sum())

    @property
    def n_spent(self) -> int:
        """Number of rows charged to the budget: labels not from the table, pending rows and failed rows."""
        return int(((self.status != FREE) & ~self.in_table).sum())

    def rows(self, *status: int) -> Rows:
        """Rows with one of these statuses, in order."""
        return np.flatnonzero(np.isin(self.status, status))

    def batch(self, number: int) -> Batch:
        """The batch with this number.

        Raises:
            ValueError: If there is no such batch.
        """
        if not 1 <= number <= len(self.batches):
            msg = f"there is no batch {number}: there are {len(self.batches)} batches"
            raise ValueError(msg)
        return self.batches[number - 1]

    @property
    def last_batch(self) -> Rows:
        """Number of the last batch that contains each row, with shape (n,); 0 for none."""
        found = np.zeros(len(self.y), dtype=np.int64)
        for batch in self.batches:
            found[batch.rows] = batch.number
        return found

    def out_in(self, number: int) -> Rows:
        """Pending rows of a batch, in its order, except those that a later batch requested again.

        Raises:
            ValueError: If there is no such batch.
        """
        rows = self.batch(number).rows
        return rows[(self.status[rows] == OUT) & (self.last_batch[rows] == number)]

    @property
    def unfinished(self) -> list[int]:
        """Numbers of the batches with pending rows."""
        return [int(number) for number in np.unique(self.last_batch[self.status == OUT])]

    # events

    def asked(self, batch: Batch) -> LabelState:
        """The state after a batch was chosen; its rows become pending."""
        status, random = self.status.copy(), self.random.copy()
        status[batch.rows] = OUT
        random[batch.rows] = batch.random
        after = replace(self, status=status, random=random, batches=(*self.batches, batch))
        return after if batch.stage is None else after.judged(batch.stage)

    def judged(self, stage: Stage) -> LabelState:
        """The state after a model was fitted."""
        others = tuple(before for before in self.stages if before.n_labels != stage.n_labels)
        return replace(self, stages=(*others, stage))

    def delivered(self, number: int) -> LabelState:
        """The state after delivery of a batch was recorded."""
        batches = tuple(replace(b, delivered=True) if b.number == number else b for b in self.batches)
        return replace(self, batches=batches)

    def released(self, rows: Iterable[int]) -> LabelState:
        """The state after pending rows were returned to the pool; other rows keep their status."""
        chosen = np.array(list(rows), dtype=np.int64)
        status, random = self.status.copy(), self.random.copy()
        chosen = chosen[status[chosen] == OUT]
        status[chosen] = FREE
        random[chosen] = False
        return replace(self, status=status, random=random)

    def told(self, rows: Iterable[int], y: Iterable[float]) -> LabelState:
        """The state with new or corrected labels."""
        values, status = self.y.copy(), self.status.copy()
        chosen = np.array(list(rows), dtype=np.int64)
        values[chosen] = list(y)
        status[chosen] = LABELLED
        reasons = tuple(pair for pair in self.reasons if pair[0] not in set(chosen.tolist()))
        return replace(self, y=values, status=status, reasons=reasons)

    def failed(self, rows: Iterable[int], reasons: Iterable[str]) -> LabelState:
        """The state after labelling of rows failed."""
        chosen = np.array(list(rows), dtype=np.int64)
        values, status = self.y.copy(), self.status.copy()
        values[chosen] = np.nan
        status[chosen] = FAILED
        pairs = tuple(zip(chosen.tolist(), reasons, strict=True))
        return replace(self, y=values, status=status, reasons=(*self.reasons, *pairs))
