"""Evaluating a batch of points, wherever the executor takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

    def take(future: Future[Evaluation]) -> None:
        index = pending.pop(future)
        try:
            evaluation = _evaluation(future)
        except _LostError as error:
            lost.append(error)
        else:
            keep(index, evaluation)

    try:
        for index, point in points.items():
            try:
                pending[executor.submit(posterior.evaluate, point)] = index
            except Exception as error:  # of any executor; raised below, once what is under way has come back
                lost.append(error)
                break
            # A serial executor is done with this point by now: keep it before the next one starts.
            for future in [future for future in pending if future.done()]:
                take(future)
        for future in as_completed(list(pending)):
            take(future)
    finally:
        for future in pending:
            future.cancel()
    if lost:
        cause = lost[0].__cause__ or lost[0]
        msg = (
            f"the executor {executor!r} stopped working ({type(cause).__name__}: {cause}). What came back is "
            "recorded. Start again to go on from there; executor='processes:N' replaces processes that die."
        )
        raise RuntimeError(msg) from cause


class _LostError(Exception):
    """The executor never evaluated a point."""


def _evaluation(future: Future[Evaluation]) -> Evaluation:
    """The evaluation; a failed one if the executor failed at this point.

    Raises:
        _LostError: If the point is not to blame.
    """
    try:
        return future.result()
    except (BrokenExecutor, CancelledError) as error:
        raise _LostError from error
    except Exception as error:  # `Posterior.evaluate` raises none, so it is the executor's
        if "pickle" in f"{type(error).__name__} {error}".lower():
            raise _LostError from error
        return Evaluation.failure(f"executor: {type(error).__name__}: {error}")
