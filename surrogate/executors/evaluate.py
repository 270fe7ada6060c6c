"""Evaluating a batch of points, wherever the executor takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, as_completed

import numpy as np

from surrogate.executors.local import SerialExecutor
from surrogate.problem import Evaluation, Posterior

__all__ = ["evaluate_batch"]


def evaluate_batch(
    posterior: Posterior,
    x: np.ndarray,
    executor: Executor,
    *,
    done: Mapping[int, Evaluation] | None = None,
    record: Callable[[int, Evaluation], None] = lambda index, evaluation: None,  # noqa: ARG005
) -> list[Evaluation]:
    """Evaluations of points with shape (b, d), in their order, whatever the order in which they finish.

    A vectorised likelihood in a serial executor gets all points in one call.

    Args:
        posterior: What to evaluate.
        x: Points, with shape (b, d).
        executor: Where to.
        done: Evaluations by index that exist already and are not repeated.
        record: Called with the index and the evaluation of each point as it comes back, in this process and thread.

    Raises:
        RuntimeError: If the executor stops working: what came back until then was recorded.
        ValueError: If x does not have shape (b, d).
    """
    x = np.asarray(x, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != posterior.prior.d:
        msg = f"points must have shape (b, {posterior.prior.d}), got {x.shape}."
        raise ValueError(msg)
    known = dict(done or {})

    def keep(index: int, evaluation: Evaluation) -> None:
        record(index, evaluation)
        known[index] = evaluation

    missing = [index for index in range(len(x)) if index not in known]
    if posterior.vectorized and isinstance(executor, SerialExecutor):
        for index, evaluation in zip(missing, posterior.evaluate_many(x[missing]), strict=True):
            keep(index, evaluation)
    else:
        _one_by_one(posterior, {index: x[index].copy() for index in missing}, executor, keep)
    return [known[index] for index in range(len(x))]


def _one_by_one(
    posterior: Posterior, points: dict[int, np.ndarray], executor: Executor, keep: Callable[[int, Evaluation], None]
) -> None:
    """Submits each point and keeps what comes back, in the order of coming back; leaving early cancels the rest."""
    pending: dict[Future[Evaluation], int] = {}
    lost: list[Exception] = []
    try:
        for future in _as_they_finish(posterior, points, executor, pending):
            index = pending.pop(future)
            match _answer(future):
                case Evaluation() as evaluation:
                    keep(index, evaluation)
                case error:
                    lost.append(error)
    finally:
        for future in pending:
            future.cancel()
    if lost:
        msg = (
            f"the executor {executor!r} stopped working: {len(lost)} of {len(points)} points have no answer "
            f"({type(lost[0]).__name__}: {lost[0]}). The others are recorded. Start again to go on from there; "
            "executor='processes:N' replaces processes that die."
        )
        raise RuntimeError(msg) from lost[0]


def _as_they_finish(
    posterior: Posterior, points: dict[int, np.ndarray], executor: Executor, pending: dict[Future[Evaluation], int]
) -> Iterator[Future[Evaluation]]:
    """Futures that are done, which the caller takes out of ``pending``.

    A serial executor is done when `submit` returns: what it has goes out before the next point starts.
    """
    for index, point in points.items():
        pending[_submit(posterior, point, executor)] = index
        yield from [future for future in pending if future.done()]
    yield from as_completed(list(pending))


def _submit(posterior: Posterior, point: np.ndarray, executor: Executor) -> Future[Evaluation]:
    try:
        return executor.submit(posterior.evaluate, point)
    except Exception as error:  # what other points gave is to be kept first
        future: Future[Evaluation] = Future()
        future.set_exception(BrokenExecutor(f"{type(error).__name__}: {error}"))
        return future


def _answer(future: Future[Evaluation]) -> Evaluation | Exception:
    """The evaluation; a failed one if the executor failed at this point; or why the point was never evaluated."""
    try:
        return future.result()
    except (BrokenExecutor, CancelledError) as error:
        return error
    except Exception as error:  # `Posterior.evaluate` raises none, so it is the executor's
        if "pickl" in f"{type(error).__name__} {error}".lower():
            return error
        return Evaluation.failure(f"executor: {type(error).__name__}: {error}")
