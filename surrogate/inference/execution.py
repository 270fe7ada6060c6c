"""Execution of a run on an executor or on all ranks of a job."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.executors.blas import one_thread
from surrogate.executors.calls import Limits, guarded
from surrogate.executors.choice import make_executor, workers_of
from surrogate.executors.files import FilesExecutor
from surrogate.executors.interruption import Interrupted, StopRequest, asked_to_end
from surrogate.executors.mpi import Ranks, ranks
from surrogate.inference.conclusion import Emulator, conclude, conclude_at_once
from surrogate.inference.driving.asynchronous import useful_workers
from surrogate.inference.driving.budget import calls
from surrogate.inference.driving.drive import Ending, UnfinishedError, drive
from surrogate.inference.driving.provenance import check_provenance
from surrogate.inference.driving.run import Run
from surrogate.inference.driving.saved import load_origin, load_state
from surrogate.inference.nuisances import with_amplitudes, with_surrogate
from surrogate.inference.observers import observers_of
from surrogate.inference.result import Result
from surrogate.inference.reweighting import reweighted
from surrogate.inference.state import State
from surrogate.output.outcome import save_outcome
from surrogate.output.record import Origin
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior
from surrogate.rng import generator
from surrogate.storage.folder import RunFolder

__all__ = ["GRACE", "execute"]

Call = Callable[[Array], Evaluation]
Folder = Callable[[], contextlib.AbstractContextManager[RunFolder | None]]


def execute(run: Run, executor: Any, folder: Folder) -> Result:
    """The result of a run; under mpirun the same result on all ranks.

    Args:
        run: The run, still without executor, call and folder.
        executor: As ``surrogate.infer`` takes it.
        folder: Context that opens the output folder; used only on rank 0.

    Raises:
        UnfinishedError: If the run was interrupted before it had a surrogate, or a signal ended an earlier run of the
            program.
    """
    world = ranks(executor)
    name = asked_to_end() if world is None else world.broadcast(asked_to_end())  # not every rank may have got it
    if name:
        msg = f"{name} arrived during an earlier run of this program, so no other run is started"
        raise UnfinishedError(msg)
    limits = run.settings.limits
    by_files = isinstance(executor, str) and executor.startswith("files:")
    with run.stop, guarded(run.posterior.evaluate, Limits() if by_files else limits) as call, one_thread():
        if world is not None:
            return _on_all_ranks(world, call, run, folder)
        with _executor(executor, run.posterior, limits) as pool, folder() as place:
            return _lead(run.placed(pool, call, place))[0]


def _on_all_ranks(world: Ranks, call: Call, run: Run, folder: Folder) -> Result:
    """The result of rank 0; other ranks rebuild the emulator from the state, because it cannot be sent."""
    own: list[Result] = []

    def packed(pool: Executor) -> tuple[Result, dict[str, NDArray]]:
        with folder() as place:
            result, state = _lead(run.placed(pool, call, place))
        own.append(result)
        bare: Any = {"emulator": None, "setup": None, "target": None}  # rebuilt or known on each rank
        return replace(result, **bare), run.loop.cool(state).to_arrays()

    result, arrays = world.run(call, packed, run.stop)
    if own:
        return own[0]
    emulator = Emulator.of(run.loop.view(State.from_arrays(arrays)))
    result = replace(result, emulator=emulator, setup=run.loop.setup, target=run.posterior)
    if run.nuisances is None:
        return result
    return replace(with_surrogate(run.nuisances, result), target=run.nuisances.posterior)


def _executor(spec: Any, posterior: Posterior, limits: Limits) -> Executor:
    """Context with the executor of the settings; threads if each call has a child process."""
    if isinstance(spec, str) and spec.startswith("files:"):
        if posterior.observables is not None:
            msg = "executor='files:...' cannot carry the outputs of a simulator: use threads, processes or MPI"
            raise ValueError(msg)
        return FilesExecutor(spec.removeprefix("files:"), posterior, seconds=limits.seconds)
    if isinstance(spec, str) and spec.startswith("processes") and limits.child:
        spec = spec.replace("processes", "threads", 1)
    return make_executor(None if isinstance(spec, str) and spec in ("auto", "mpi") else spec, posterior.evaluate)


def _lead(run: Run) -> tuple[Result, State]:
    """The result, and the state from which it was drawn."""
    run = replace(run, origin=_origin(run))
    observers = list(observers_of(run))
    ending = drive(replace(run, observers=observers), _start(run), asynchronous=_is_asynchronous(run))
    for observer in observers:
        getattr(observer, "close", lambda _: None)(ending.reason)
    try:
        result = _result(run, ending)
    finally:
        ending.harvest()
    run.executor.shutdown(wait=False, cancel_futures=not ending.interrupted)
    return result, ending.sampled


def _origin(run: Run) -> Origin:
    """The origin of the run; for a resumed one with its first start and the time used so far."""
    origin = replace(run.origin, workers=workers_of(run.executor) or 1)
    if run.folder is None:
        return origin
    earlier = load_origin(run.folder)
    return replace(
        origin,
        folder=str(run.folder.path),
        started=earlier.started or origin.started,
        seconds=earlier.seconds,
        likelihood=origin.likelihood,
    )


def _start(run: Run) -> State:
    """The state in the run's folder, or a new one."""
    state = None if run.folder is None else load_state(run.folder, run.prior, run.seed)
    if state is None:
        with _unfinished_if_left(), run.stop.interruptible():  # many earlier evaluations take minutes to learn
            return run.loop.init(run.seed, run.initial)
    if run.folder is not None and state.data.d != run.loop.d:
        msg = (
            f"{run.folder.path} holds a run that learned {state.data.d} of the {run.prior.d} parameters, and this one "
            f"learns {run.loop.d}. Choose another folder, or resume=False (--force) to start a new run"
        )
        raise ValueError(msg)
    with _unfinished_if_left():
        check_provenance(run, state)
    return state


@contextlib.contextmanager
def _unfinished_if_left() -> Iterator[None]:
    """Context in which a request to end raises `UnfinishedError`."""
    try:
        yield
    except Interrupted as interruption:
        raise UnfinishedError(str(interruption)) from interruption


def _is_asynchronous(run: Run) -> bool:
    """Whether to evaluate asynchronously; warns if some workers will be idle."""
    mode, workers = run.settings.mode, workers_of(run.executor) or 1
    asynchronous = mode == "async" or (mode == "auto" and workers > run.loop.d and run.loop.setup.fast is None)
    used = useful_workers(run.executor, run.loop) if asynchronous else run.loop.setup.n_batch
    if workers > used and mode != "auto":
        remedy = "more do not make it faster" if asynchronous else "mode='async' or a larger batch_size uses more"
        msg = f"{workers} workers, of which only {used} are used at a time: {remedy}"
        warnings.warn(msg, RuntimeWarning, stacklevel=2)
    return asynchronous


def _result(run: Run, ending: Ending) -> Result:
    """The result of a run: draws from the last surrogate, re-weighted if requested, and saved."""
    if ending.interrupted and ending.sampled.parameters is None:
        raise UnfinishedError(ending.reason)
    result, interrupted = _sampled_result(run, ending)
    made = calls(ending.state) + ending.uncounted
    result = replace(
        result, record=replace(result.record, n_evaluations=made, interrupted=interrupted, origin=run.origin_now)
    )
    result = replace(result, target=run.posterior)
    if run.settings.reweight and not interrupted:
        result = _reweight(run, result, run.settings.reweight)
    result = with_amplitudes(run.nuisances, result, run.seed)
    if run.folder is not None:
        result.save(run.folder.chain_root)
        save_outcome(result.evidence, result.record, run.folder.outcome_path)
    return result


def _sampled_result(run: Run, ending: Ending) -> tuple[Result, bool]:
    """The result from the last surrogate, and whether the run was interrupted before or during the sampling."""
    n = max(run.settings.n_samples, run.settings.reweight or 0)
    reason = ending.reason
    if not ending.interrupted:
        try:
            with run.stop.interruptible():
                return conclude(run.loop, ending.sampled, reason, n), False
        except Interrupted as interruption:
            reason = f"{interruption}; {reason}"
    with StopRequest(GRACE) as grace:
        try:
            with grace.interruptible():
                return conclude(run.loop, ending.sampled, reason, n, max_seconds=0.5 * GRACE), True
        except Interrupted:
            return conclude_at_once(run.loop, ending.sampled, reason), True


GRACE = 10.0
"""Seconds for sampling the surrogate after a request to end; batch systems kill after about 30."""


def _reweight(run: Run, result: Result, n: int) -> Result:
    """The result re-weighted with true evaluations at n draws, or unchanged if the run should end."""
    try:
        return reweighted(
            result,
            run.posterior,
            run.executor,
            n,
            generator(run.seed, "reweight"),
            journal=None if run.folder is None else run.folder.reweighting_journal,
            call=run.call,
            stop=run.stop,
        )
    except Interrupted as interruption:
        status = f"{result.status}; {interruption} before the result was re-weighted"
        return replace(result, record=replace(result.record, converged=False, interrupted=True, status=status))
