"""An executor that writes points as files into a folder, to be answered with files by another program or a person.

    FOLDER/ask/KEY.json    {"key": "...", "parameters": {"a": 0.1, "b": 2.0}} FOLDER/tell/KEY.json   {"log_likelihood":
    -1.2, "derived": {"c": 3.0}}    "noise": 0.1 instead of "derived"
                           {"log_likelihood": -1.2, "gradient": [0.1, -2.0]}      if gradients were requested
                           {"failed": "reason"}                               -inf is "-inf" or -Infinity

The key identifies the point, so a repeated request for the same point finds its answer. A question is removed when its
answer has been read. Answers must appear complete: write them under another name and then rename them.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior

__all__ = ["FilesExecutor"]


class FilesExecutor(Executor):
    """Evaluations by files in a folder; submitted functions are not called.

    Args:
        folder: Folder of the files; created if needed.
        posterior: Target whose points are evaluated.
        seconds: Time after which an unanswered question counts as failed; None for no limit.
        pause: Seconds between checks of the folder.
    """

    def __init__(
        self, folder: str | os.PathLike[str], posterior: Posterior, *, seconds: float | None = None, pause: float = 0.2
    ) -> None:
        self._posterior = posterior
        self._seconds = seconds
        self._pause = pause
        self._questions, self._answers = Path(folder).absolute() / "ask", Path(folder).absolute() / "tell"
        for path in (self._questions, self._answers):
            path.mkdir(parents=True, exist_ok=True)
        self._open: dict[Future[Evaluation], tuple[str, np.ndarray, float]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="surrogate-files")
        self._watcher.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ARG002
        """A future with the evaluation of the point ``args[0]``, with shape (d,)."""
        x = np.asarray(args[0], dtype=np.float64)
        key = hashlib.sha256(x.tobytes()).hexdigest()[:16]
        parameters = dict(zip(self._posterior.prior.names, x.tolist(), strict=True))
        future: Future[Evaluation] = Future()
        future.set_running_or_notify_cancel()  # somebody may have started as soon as the question is visible
        with self._lock:
            if self._ended.is_set():
                msg = "cannot schedule new futures after shutdown"
                raise RuntimeError(msg)
            self._open[future] = (key, x, time.monotonic())
            temporary = self._questions / f".{key}.tmp"
            temporary.write_text(json.dumps({"key": key, "parameters": parameters}) + "\n", encoding="utf-8")
            temporary.replace(self._questions / f"{key}.json")
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Stops looking for answers; unanswered questions stay for a later continuation, or are removed.

        Args:
            wait: Ignored.
            cancel_futures: Whether to remove unanswered questions.
        """
        self._ended.set()
        self._watcher.join()
        if cancel_futures:
            for key, _, _ in self._open.values():
                (self._questions / f"{key}.json").unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._ended.wait(self._pause):
            with self._lock:
                waiting = dict(self._open)
            for future, (key, x, start) in waiting.items():
                self._look(future, key, x, time.monotonic() - start)

    def _look(self, future: Future[Evaluation], key: str, x: np.ndarray, seconds: float) -> None:
        answer = self._answers / f"{key}.json"
        if answer.exists():
            self._close(future, key, replace(self._read(answer, x), seconds=seconds, worker="files"))
        elif self._seconds is not None and seconds > self._seconds:
            reason = f"time-out: no answer within {self._seconds:g} s"
            self._close(future, key, Evaluation.failure(reason, seconds=seconds, worker="files"))

    def _close(self, future: Future[Evaluation], key: str, evaluation: Evaluation) -> None:
        """Removes a future, and its question if no other future waits for the answer, and sets its result."""
        with self._lock:
            del self._open[future]
            if all(key != other for other, _, _ in self._open.values()):
                (self._questions / f"{key}.json").unlink(missing_ok=True)
        future.set_result(evaluation)

    def _read(self, path: Path, x: np.ndarray) -> Evaluation:
        """The evaluation in a file, checked like the return value of a likelihood."""
        try:
            value = _value(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError) as error:
            return Evaluation.failure(f"{path.name}: {type(error).__name__}: {error}")
        if isinstance(value, str):
            return Evaluation.failure(value)
        asked = self._posterior
        return Posterior(lambda _: value, asked.prior, noise=asked.noise, gradient=asked.gradient).evaluate(x)


def _value(answer: Any) -> Any:
    """The answer in the form of a likelihood's return value; text if it failed."""
    if not isinstance(answer, dict):
        msg = f"an answer must be an object with 'log_likelihood' or 'failed', got {type(answer).__name__}"
        raise TypeError(msg)
    if "failed" in answer:
        return f"failed: {answer['failed']}"
    y = answer["log_likelihood"]
    y = float(y) if isinstance(y, str) else y
    extra = answer.get("derived", answer.get("noise"))
    if "gradient" in answer:
        if "noise" in answer:
            msg = "an answer may have 'noise' or 'gradient', not both"
            raise ValueError(msg)
        extra = {**(extra if isinstance(extra, dict) else {}), "gradient": answer["gradient"]}
    return y if extra is None else (y, extra)
