"""The front door for posteriors: from an expensive log-likelihood and a prior to weighted samples."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array
from surrogate.executors.blas import one_thread
from surrogate.executors.calls import Limits, guarded
from surrogate.executors.choice import make_executor, workers_of
from surrogate.executors.files import FilesExecutor
from surrogate.executors.interruption import Interrupted, StopRequest
from surrogate.executors.mpi import Ranks, ranks
from surrogate.inference.conclusion import Emulator, conclude
from surrogate.inference.driving.drive import (
    Budget,
    Course,
    Ending,
    Observer,
    UnfinishedError,
    calls,
    drive,
    load_state,
    useful_workers,
    write_trace,
)
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.result import Result
from surrogate.inference.reweighting import reweighted
from surrogate.inference.settings import (
    GivenSettings,
    Settings,
    check_counts,
    check_seconds,
    fast_points,
    initial_data,
    reference_for,
    usable_device,
)
from surrogate.inference.state import State
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior
from surrogate.rng import generator
from surrogate.storage.folder import RunFolder

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["infer"]

Call = Callable[[Array], Evaluation]


def infer(
    log_likelihood: Any,
    prior: Any = None,
    *,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    executor: Any = None,
    max_evaluations: int | None = None,
    max_walltime: float | None = None,
    batch_size: int | None = None,
    initial: Any = None,
    reference: Any = None,
    vectorized: bool = False,
    noise: float | None = None,
    device: str | None = None,
    progress: bool = True,
    resume: bool | str = "auto",
    **settings: Unpack[GivenSettings],
) -> Result:
    """The posterior of an expensive log-likelihood, from tens to hundreds of calls of it.

    A Gaussian process learns the log-likelihood; the prior is added analytically. Points are chosen in batches until
    draws of the surrogate agree about the posterior, and the surrogate is then sampled by MCMC.

    Args:
        log_likelihood: Takes an array with shape (d,), or the parameters by name. Returns a float (natural log;
            -inf is legal), (float, dict of derived values) or (float, sd of its noise). An exception or NaN is a
            recorded failure, not an end. Or a Cobaya model or the path of its yaml file, without ``prior``.
        prior: Dict of name -> (low, high), frozen ``scipy.stats`` distribution or ``Parameter``; or bounds (d, 2).
        output: Folder for the evaluations, the state and the products; a run that is there is continued.
        seed: The same seed gives the same run.
        executor: None or "serial", "threads:N", "processes:N", "mpi", "files:FOLDER", or a
            ``concurrent.futures.Executor``. Under mpirun or srun None is "mpi": all ranks call this function, evaluate,
            and get the result; with "serial" each has a run of its own.
        max_evaluations: Calls of the likelihood allowed; 70 d^1.5 unless given.
        max_walltime: Seconds after which the run ends as on SIGTERM, SIGUSR1 or SIGINT: calls under way are left, the
            state is on disk, the surrogate is sampled as it is, and the result is ``interrupted``.
        batch_size: Points per batch; max(2, d // 2) unless given.
        initial: Earlier evaluations: a pair (x, y) with shapes (n, d) and (n,), or a ``Dataset``.
        reference: Where the posterior is expected: a point (d,), a pair (mean, covariance or sds), or draws (n, d).
        vectorized: Whether the likelihood takes (b, d) arrays and returns (b,).
        noise: Sd of the likelihood's answers, when they are noisy and come without one. Where nobody says so, noise of
            one sd everywhere is found by evidence, which takes some 40 points in four dimensions.
        device: Where the Gaussian process runs: "cpu", "cuda", "cuda:1", or "auto".
        progress: Whether to show progress on standard error.
        resume: "auto" continues a run that is in ``output``, True insists on one, False starts anew.
        settings: What few runs need, by name: ``mode``, ``max_eval_seconds``, ``max_failures``, ``isolate``,
            ``retries``, ``callback``, ``n_samples``, ``reweight``, ``gradient``, ``fast``; see
            `surrogate.inference.settings.Settings`.

    Returns:
        Samples, evidence, verdict, the evaluated points and the emulator.

    Raises:
        ValueError: If an argument has a wrong value, or no surrogate could be made; the message then holds the first
            failures.
        TypeError: If an argument has a wrong type, or there is none of its name.
        UnfinishedError: If the run was interrupted before it had a surrogate; a run with an output folder goes on when
            it is called again.

    >>> import surrogate
    >>> result = surrogate.infer(lambda a, b: -a**2 - (b - a)**2, {"a": (-5, 5), "b": (-5, 5)}, progress=False)
    >>> result.converged
    True
    """
    asked = Settings.of(settings)
    check_counts(max_evaluations=max_evaluations, batch_size=batch_size)
    check_seconds(max_walltime=max_walltime)
    if prior is None:
        problem = _problem(log_likelihood)
        log_likelihood, prior = problem.log_likelihood, problem.prior
        reference = problem.reference if reference is None else reference
    posterior = Posterior(log_likelihood, prior, vectorized=vectorized, noise=noise, gradient=asked.gradient)
    loop = PosteriorLoop(
        posterior.prior,
        reference=reference_for(reference, posterior.prior),
        batch_size=batch_size,
        device=usable_device(device),
        fast=fast_points(asked.fast, posterior.prior.names),
        gradient=asked.gradient,
    )
    run = _Run(
        loop=loop,
        posterior=posterior,
        settings=asked,
        budget=Budget(max_evaluations or int(np.ceil(70 * loop.d**1.5)), asked.max_failures),
        stop=StopRequest(max_walltime),
        seed=seed,
        initial=initial_data(initial, posterior.prior),
        progress=progress,
    )
    return _executed(run, executor, lambda: _folder(output, resume))


@dataclass(frozen=True, eq=False)
class _Run:
    """A run with everything that was asked for, but for the place where it is executed.

    Attributes:
        loop: How to choose points.
        posterior: What to evaluate.
        settings: What few runs need.
        budget: Limits.
        stop: Whether the run is to end early.
        seed: Of all random numbers.
        initial: Earlier evaluations.
        progress: Whether to show progress.
    """

    loop: PosteriorLoop
    posterior: Posterior
    settings: Settings
    budget: Budget
    stop: StopRequest
    seed: int
    initial: Dataset
    progress: bool

    def lead(self, pool: Executor, call: Call, folder: RunFolder | None) -> tuple[Result, State]:
        """The result, and the state that it was drawn from."""
        ending = self._driven(pool, call, folder)
        try:
            result = self._taken_home(ending, pool, call, folder)
        finally:
            ending.harvest()
        pool.shutdown(wait=False, cancel_futures=not ending.interrupted)
        return result, ending.sampled

    def _taken_home(self, ending: Ending, pool: Executor, call: Call, folder: RunFolder | None) -> Result:
        """What is drawn from the last surrogate, re-weighted if it was asked for, and saved."""
        if ending.interrupted and ending.sampled.parameters is None:
            raise UnfinishedError(ending.reason)
        result = self._drawn(ending)
        if self.settings.reweight and not ending.interrupted:
            result = self._reweighted(result, pool, call, folder)
        if folder is not None:
            result.save(folder.chain_root)
        return result

    def _reweighted(self, result: Result, pool: Executor, call: Call, folder: RunFolder | None) -> Result:
        """The result with true evaluations at some of its draws, or without them if the end was asked for."""
        try:
            return reweighted(
                result,
                self.posterior,
                pool,
                self.settings.reweight or 0,
                generator(self.seed, "reweight"),
                journal=None if folder is None else folder.reweighting_journal,
                call=self._special(call),
                stop=self.stop,
            )
        except Interrupted as interruption:
            status = f"{result.status}; {interruption} before the result was re-weighted"
            return replace(result, converged=False, interrupted=True, status=status)

    def _special(self, call: Call) -> Call | None:
        """The call if it differs from a plain one."""
        return call if self.settings.limits.special else None

    def _driven(self, pool: Executor, call: Call, folder: RunFolder | None) -> Ending:
        """The run from where it was to its end, seen by all observers."""
        state = None if folder is None else load_state(folder, self.loop.prior, self.seed)
        if state is None:
            state = self.loop.init(self.seed, self.initial)
        observers = list(self._observers(folder))
        course = Course(self.loop, self.posterior, pool, self.budget, self.stop, self._special(call), folder, observers)
        ending = drive(course, state, asynchronous=_is_asynchronous(self.settings.mode, pool, self.loop))
        for observer in observers:
            getattr(observer, "close", lambda _: None)(ending.reason)
        return ending

    def _drawn(self, ending: Ending) -> Result:
        n = max(self.settings.n_samples, self.settings.reweight or 0)
        result = conclude(self.loop, ending.sampled, ending.reason, n)
        n_evaluations = calls(ending.state) + ending.uncounted
        return replace(result, n_evaluations=n_evaluations, interrupted=ending.interrupted)

    def _observers(self, folder: RunFolder | None) -> Iterator[Observer]:
        if folder is not None:
            yield lambda state: write_trace(folder, state)
            yield _Interim(self.loop, folder)
        callback = self.settings.callback
        if callback is not None:
            yield lambda state: callback(state.rows()[-1]) if len(state.trace) else None
        if self.progress:
            yield _Shown(self.budget)


Folder = Callable[[], contextlib.AbstractContextManager[RunFolder | None]]


def _executed(run: _Run, executor: Any, folder: Folder) -> Result:
    """The result of a run on the executor that is meant, or on all ranks of a job."""
    world = ranks(executor)
    limits = run.settings.limits
    by_files = isinstance(executor, str) and executor.startswith("files:")
    with run.stop, guarded(run.posterior.evaluate, Limits() if by_files else limits) as call, one_thread():
        if world is not None:
            return _on_all_ranks(world, call, run, folder)
        with _executor(executor, run.posterior, limits) as pool, folder() as place:
            return run.lead(pool, call, place)[0]


def _on_all_ranks(world: Ranks, call: Call, run: _Run, folder: Folder) -> Result:
    """The result of rank 0; the others build the emulator again from the state, as it is not made to be sent."""
    own: list[Result] = []

    def packed(pool: Executor) -> tuple[Result, dict[str, NDArray]]:
        with folder() as place:
            result, state = run.lead(pool, call, place)
        own.append(result)
        return replace(result, emulator=None), run.loop.cooled(state).to_arrays()  # type: ignore[arg-type]

    result, arrays = world.run(call, packed, run.stop)
    if own:
        return own[0]
    return replace(result, emulator=Emulator(run.loop.model(State.from_arrays(arrays)), run.loop.scaled))


def _executor(spec: Any, posterior: Posterior, limits: Limits) -> Executor:
    """The executor that is meant; calls that have a child process each are made by threads."""
    if isinstance(spec, str) and spec.startswith("files:"):
        return FilesExecutor(spec.removeprefix("files:"), posterior, seconds=limits.seconds)
    if isinstance(spec, str) and spec.startswith("processes") and limits.child:
        spec = spec.replace("processes", "threads", 1)
    return make_executor(None if isinstance(spec, str) and spec in ("auto", "mpi") else spec, posterior.evaluate)


def _is_asynchronous(mode: str, pool: Executor, loop: PosteriorLoop) -> bool:
    """Whether workers get points one by one; says if some of them will have nothing to do."""
    workers = workers_of(pool) or 1
    asynchronous = mode == "async" or (mode == "auto" and workers > loop.d and loop.fast is None)
    used = useful_workers(pool, loop) if asynchronous else loop.n_batch
    if workers > used and mode != "auto":
        remedy = "more do not make it faster" if asynchronous else "mode='async' or a larger batch_size uses more"
        msg = f"{workers} workers, of which {used} are used at a time: {remedy}"
        warnings.warn(msg, RuntimeWarning, stacklevel=2)
    return asynchronous


_PIPELINES = {"cobaya": "surrogate.interfaces.cobaya"}  # plug-ins, loaded by name when an object of theirs comes


def _problem(target: Any) -> Any:
    """Likelihood, prior and reference of something that brings its own prior."""
    kind = "cobaya" if isinstance(target, (str, os.PathLike)) else type(target).__module__.split(".")[0]
    if kind not in _PIPELINES:
        msg = (
            f"infer needs a prior beside the log-likelihood, unless it gets a Cobaya model or yaml file; got {target!r}"
        )
        raise TypeError(msg)
    return importlib.import_module(_PIPELINES[kind]).problem_of(target)


@contextlib.contextmanager
def _folder(output: str | os.PathLike[str] | None, resume: bool | str) -> Iterator[RunFolder | None]:
    if resume not in (True, False, "auto"):
        msg = f"resume must be 'auto', True or False, got {resume!r}"
        raise ValueError(msg)
    if output is None:
        if resume is True:
            msg = "resume=True needs the output folder of the run to continue"
            raise ValueError(msg)
        yield None
        return
    folder = RunFolder(Path(output))
    if resume is True and not folder.holds_run:
        msg = f"resume=True, but {folder.path} holds no run"
        raise ValueError(msg)
    with folder.create(force=resume is False):
        yield folder


class _Interim:
    """Chains of the surrogate as it is, for a twentieth of the time, so that a long run that is killed leaves one."""

    def __init__(self, loop: PosteriorLoop, folder: RunFolder) -> None:
        self._loop = loop
        self._folder = folder
        self._next = time.monotonic() + _FIRST_CHAIN

    def __call__(self, state: State) -> None:
        start = time.monotonic()
        if state.parameters is None or state.parameters.temperature > 1.0 or state.verdict.stop or start < self._next:
            return
        try:
            conclude(self._loop, state, f"interim: {state.verdict.reason}", 2000).save(self._folder.chain_root)
        except (ValueError, ArithmeticError) as error:
            warnings.warn(f"no interim chain: {error}", RuntimeWarning, stacklevel=2)
        end = time.monotonic()
        self._next = end + max(_FIRST_CHAIN, 20.0 * (end - start))


_FIRST_CHAIN = 60.0  # seconds


class _Shown:
    """Progress on standard error."""

    def __init__(self, budget: Budget) -> None:
        from surrogate.output.progress import Progress

        self._progress = Progress(max_evaluations=budget.max_evaluations)

    def __call__(self, state: State) -> None:
        row: Mapping[str, Any] = state.rows()[-1] if len(state.trace) else {}
        counts = {"n_evaluations": calls(state), "best": state.data.y_max, "step": state.step}
        self._progress.update({**row, **counts, "reason": state.verdict.reason})

    def close(self, reason: str) -> None:
        self._progress.close(reason)
