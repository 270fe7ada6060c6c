"""The journal of a running run: returned evaluations, on disk if there is a folder."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from surrogate.inference.driving.budget import calls
from surrogate.inference.state import State
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry

__all__ = ["RunJournal", "evaluated"]


class RunJournal:
    """Evaluations in the order in which they returned; safe to use from several threads.

    Args:
        folder: Folder of the file; None to keep them only in memory.
        prior: Prior of the run, in whose support all entries must lie.
        state: State from which the run starts.
        landed: Called with each new evaluation as soon as it returns, and the number of evaluations so far.
    """

    def __init__(
        self,
        folder: RunFolder | None,
        prior: Prior,
        state: State,
        landed: Callable[[int, Evaluation], None] = lambda count, evaluation: None,  # noqa: ARG005
    ) -> None:
        self._folder = folder
        self._entries = [] if folder is None else _checked_entries(folder, prior)
        self._lock = threading.Lock()
        self._open = True
        self._step = state.step
        self._count = 0
        self._landed = landed
        self._before = max(calls(state) - len(self._entries), 0)  # a folder that has a state but lost its journal

    def append(self, step: int, index: int | None, x: NDArray, evaluation: Evaluation) -> None:
        """Adds an evaluation, unless the journal is closed; by default with the next index of its step."""
        with self._lock:
            if not self._open:
                return
            if index is None:
                self._count = 0 if step != self._step else self._count
                used = {r.index for r in self._entries if r.step == step}
                index = next(i for i in itertools.count(self._count) if i not in used)
                self._step, self._count = step, index + 1
            entry = Entry(step, index, np.array(x), evaluation)
            if self._folder is not None:
                self._folder.journal.append(entry)
            self._entries.append(entry)
            count = self._before + len(self._entries)
        self._landed(count, evaluation)

    def close(self) -> None:
        """Closes the journal; later evaluations are dropped, since the folder may then belong to another run."""
        with self._lock:
            self._open = False

    def untold(self, state: State) -> list[Entry]:
        """Entries that are not in the state, in the order of steps and indices."""
        told = evaluated(state)
        with self._lock:
            return sorted((r for r in self._entries if r.x.tobytes() not in told), key=lambda r: (r.step, r.index))


def _checked_entries(folder: RunFolder, prior: Prior) -> list[Entry]:
    """The entries in a folder, after checking that they belong to the prior.

    Raises:
        ValueError: If a line is damaged, or belongs to a run with other parameters.
    """
    entries = folder.journal.read()
    for number, entry in enumerate(entries, start=1):
        if entry.x.shape != (prior.d,) or np.isneginf(prior.log_density(entry.x[None])[0]):
            msg = (
                f"line {number} of {folder.journal.path} has the point {entry.x.tolist()[:20]}, which "
                "does not belong to this "
                "prior. Restore the file from a copy, or delete this line"
            )
            raise ValueError(msg)
    return entries


def evaluated(state: State) -> set[bytes]:
    """The points evaluated in a state, as bytes."""
    return {point.tobytes() for point in state.data.x}
