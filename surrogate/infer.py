"""The front door for posteriors: from an expensive log-likelihood and a prior to weighted samples."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from surrogate.checkpoint import RunFolder
from surrogate.data import Dataset
from surrogate.driver import (
    Budget,
    Course,
    Observer,
    UnfinishedError,
    calls,
    drive,
    load_prior,
    load_state,
    useful_workers,
    write_trace,
)
from surrogate.executors.calls import Limits, guarded
from surrogate.executors.files import FilesExecutor
from surrogate.executors.interruption import StopRequest
from surrogate.executors.local import make_executor, workers_of
from surrogate.executors.mpi import Ranks, ranks
from surrogate.loop import PosteriorLoop
from surrogate.models.derived import DerivedModel, fit_derived
from surrogate.models.surrogate import LikelihoodModel
from surrogate.problem import Evaluation, Posterior, Prior
from surrogate.proposers.design import Reference
from surrogate.proposers.fast import FastPoints
from surrogate.proposers.posterior import ScaledPrior
from surrogate.result import Result
from surrogate.reweighting import reweighted
from surrogate.rng import generator
from surrogate.samplers.evidence import ImportanceSample
from surrogate.samplers.smc import systematic_resample
from surrogate.state import State

__all__ = ["Emulator", "conclude", "infer", "load_result"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Emulator:
    """The surrogate of a finished run, for later use.

    Attributes:
        model: Surrogate of the log-likelihood in scaled coordinates.
        scaled: Prior in those coordinates.
    """

    model: LikelihoodModel
    scaled: ScaledPrior

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood at x with shape (m, d), each with shape (m,).

        Valid where the likelihood is feasible; ``feasibility`` says how probable that is.
        """
        return self.model.predict(self.scaled.to_unit(np.atleast_2d(np.asarray(x, dtype=np.float64))))

    def log_likelihood(self, x: ArrayLike) -> Array:
        """The log-likelihood that is sampled, -inf where infeasible, with shape (m,); the fast path, without sd."""
        t = self.scaled.to_unit(np.atleast_2d(np.asarray(x, dtype=np.float64)))
        return self.model.y_max + self.model.relative(t) * self.model.parameters.temperature

    def log_prior(self, x: ArrayLike) -> Array:
        """Log prior density at x with shape (m, d), with shape (m,)."""
        return self.scaled.log_density_x(np.atleast_2d(np.asarray(x, dtype=np.float64)))

    def feasibility(self, x: ArrayLike) -> Array:
        """Probability that the likelihood is finite at x with shape (m, d), with shape (m,)."""
        t = self.scaled.to_unit(np.atleast_2d(np.asarray(x, dtype=np.float64)))
        return self.model.gate.probability(self.model.whiten(t))


def infer(
    log_likelihood: Any,
    prior: Any = None,
    *,
    output: str | os.PathLike[str] | None = None,
    seed: int = 0,
    executor: Any = None,
    mode: str = "auto",
    max_evaluations: int | None = None,
    max_walltime: float | None = None,
    max_eval_seconds: float | None = None,
    max_failures: int | None = None,
    isolate: bool = False,
    retries: int = 0,
    batch_size: int | None = None,
    initial: Any = None,
    reference: Any = None,
    vectorized: bool = False,
    noise: float | None = None,
    device: str | None = None,
    progress: bool = True,
    resume: bool | str = "auto",
    callback: Callable[[dict[str, float]], None] | None = None,
    n_samples: int = 10_000,
    reweight: int | None = None,
    fast: tuple[Sequence[str], int] | None = None,
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
        mode: "sync": batches, the same numbers for any number of workers. "async": a new point for each worker as soon
            as it is free. "auto": the first for up to d workers, otherwise the second.
        max_evaluations: Calls of the likelihood allowed; 70 d^1.5 unless given.
        max_walltime: Seconds after which the run ends as on SIGTERM, SIGUSR1 or SIGINT: calls under way are left, the
            state is on disk, the surrogate is sampled as it is, and the result is ``interrupted``.
        max_eval_seconds: Seconds that one call may take; implies ``isolate``.
        max_failures: Failed evaluations after which the run ends; None for any number.
        isolate: Whether each call runs in a child process: a crash is then a failed evaluation. The likelihood must be
            importable.
        retries: How often a failed call is repeated at the same point; a time-out is not. All trials count as one.
        batch_size: Points per batch; max(2, d // 2) unless given.
        initial: Earlier evaluations: a pair (x, y) with shapes (n, d) and (n,), or a ``Dataset``.
        reference: Where the posterior is expected: a point (d,), a pair (mean, covariance or sds), or draws (n, d).
        vectorized: Whether the likelihood takes (b, d) arrays and returns (b,).
        noise: Sd of the likelihood's answers, when they are noisy and come without one.
        device: Where the Gaussian process runs: "cpu", "cuda", "cuda:1", or "auto".
        progress: Whether to show progress on standard error.
        resume: "auto" continues a run that is in ``output``, True insists on one, False starts anew.
        callback: Called with each new row of the trace.
        n_samples: Effective number of independent posterior draws to produce.
        reweight: Number of draws at which the likelihood is called once more, for exact importance weights; these calls
            come on top of ``max_evaluations``, and the result has these draws only.
        fast: Names of parameters that cost little to change, and how many further values of them to evaluate wherever
            the others change; points that share the others follow each other.

    Returns:
        Samples, evidence, verdict, the evaluated points and the emulator.

    Raises:
        ValueError: If an argument has a wrong value, or no surrogate could be made; the message then holds the first
            failures.
        TypeError: If an argument has a wrong type.
        UnfinishedError: If the run was interrupted before it had a surrogate; a run with an output folder goes on when
            it is called again.

    >>> import surrogate
    >>> result = surrogate.infer(lambda a, b: -a**2 - (b - a)**2, {"a": (-5, 5), "b": (-5, 5)}, progress=False)
    >>> result.converged
    True
    """
    if prior is None:
        problem = _problem(log_likelihood)
        log_likelihood, prior = problem.log_likelihood, problem.prior
        reference = problem.reference if reference is None else reference
    posterior = Posterior(log_likelihood, prior, vectorized=vectorized, noise=noise)
    _check_counts(max_evaluations=max_evaluations, batch_size=batch_size, n_samples=n_samples, reweight=reweight)
    if max_walltime is not None and not (isinstance(max_walltime, (int, float)) and max_walltime > 0):
        msg = f"max_walltime must be a positive number of seconds, got {max_walltime!r}"
        raise ValueError(msg)
    d = posterior.prior.d
    loop = PosteriorLoop(
        posterior.prior,
        reference=_reference(reference, posterior.prior),
        batch_size=batch_size,
        device=_device(device),
        fast=_fast(fast, posterior.prior.names),
    )
    limits = Limits(max_eval_seconds, isolate, retries)
    budget = Budget(max_evaluations or int(np.ceil(70 * d**1.5)), max_failures)
    stop = StopRequest(max_walltime)
    _check_mode(mode)

    def run(pool: Executor) -> tuple[Result, State]:
        with _folder(output, resume) as folder:
            return lead(pool, folder)

    def lead(pool: Executor, folder: RunFolder | None) -> tuple[Result, State]:
        state = None if folder is None else load_state(folder, posterior.prior, seed)
        if state is None:
            state = loop.init(seed, _initial(initial, posterior.prior))
        observers = list(_observers(loop, folder, callback, budget, progress=progress))
        special = call if limits.special else None
        course = Course(loop, posterior, pool, budget, stop, special, folder, observers)
        ending = drive(course, state, asynchronous=_is_asynchronous(mode, pool, loop))
        for observer in observers:
            getattr(observer, "close", lambda _: None)(ending.reason)
        if ending.interrupted and ending.sampled.parameters is None:
            raise UnfinishedError(ending.reason)
        result = conclude(loop, ending.sampled, ending.reason, max(n_samples, reweight or 0))
        n_evaluations = calls(ending.state) + ending.uncounted
        result = replace(result, n_evaluations=n_evaluations, interrupted=ending.interrupted)
        if reweight and not ending.interrupted:
            rng, journal = generator(seed, "reweight"), None if folder is None else folder.reweighting_journal
            result = reweighted(result, posterior, pool, reweight, rng, journal=journal)
        if folder is not None:
            result.save(folder.chain_root)
        ending.harvest()
        pool.shutdown(wait=False, cancel_futures=True)
        return result, ending.sampled

    world = ranks(executor)
    by_files = isinstance(executor, str) and executor.startswith("files:")
    with stop, guarded(posterior.evaluate, Limits() if by_files else limits) as call, _one_thread():
        if world is not None:
            return _on_all_ranks(world, call, run, stop, loop)
        with _executor(executor, posterior, limits) as pool:
            return run(pool)[0]


def _on_all_ranks(
    world: Ranks,
    call: Callable[[Array], Evaluation],
    run: Callable[[Executor], tuple[Result, State]],
    stop: StopRequest,
    loop: PosteriorLoop,
) -> Result:
    """The result of rank 0; the others build the emulator again from the state, as it is not made to be sent."""
    own: list[Result] = []

    def packed(pool: Executor) -> tuple[Result, dict[str, NDArray]]:
        result, state = run(pool)
        own.append(result)
        return replace(result, emulator=None), loop.cooled(state).to_arrays()  # type: ignore[arg-type]

    result, arrays = world.run(call, packed, stop)
    if own:
        return own[0]
    return replace(result, emulator=Emulator(loop.model(State.from_arrays(arrays)), loop.scaled))


def _executor(spec: Any, posterior: Posterior, limits: Limits) -> Executor:
    """The executor that is meant; calls that have a child process each are made by threads."""
    if isinstance(spec, str) and spec.startswith("files:"):
        return FilesExecutor(spec.removeprefix("files:"), posterior, seconds=limits.seconds)
    if isinstance(spec, str) and spec.startswith("processes") and limits.child:
        spec = spec.replace("processes", "threads", 1)
    return make_executor(None if isinstance(spec, str) and spec in ("auto", "mpi") else spec, posterior.evaluate)


def _check_mode(mode: str) -> None:
    if mode not in ("auto", "sync", "async"):
        msg = f"mode must be 'auto', 'sync' or 'async', got {mode!r}"
        raise ValueError(msg)


def _is_asynchronous(mode: str, pool: Executor, loop: PosteriorLoop) -> bool:
    """Whether workers get points one by one; says if some of them will have nothing to do."""
    workers = workers_of(pool) or 1
    asynchronous = mode == "async" or (mode == "auto" and workers > loop.d)
    used = useful_workers(pool, loop) if asynchronous else loop.n_batch
    if workers > used and mode != "auto":
        remedy = "more do not make it faster" if asynchronous else "mode='async' or a larger batch_size uses more"
        msg = f"{workers} workers, of which {used} are used at a time: {remedy}"
        warnings.warn(msg, RuntimeWarning, stacklevel=4)
    return asynchronous


def _fast(spec: tuple[Sequence[str], int] | None, names: tuple[str, ...]) -> FastPoints | None:
    """Fast parameters by position; None if there are none.

    Raises:
        ValueError: If they are not some of the names, or are all of them.
    """
    if spec is None or not spec[1] or not len(spec[0]):
        return None
    fast, count = spec
    _check_counts(fast=count)
    if unknown := [name for name in fast if name not in names]:
        msg = f"fast parameters must be some of {', '.join(names)}, got {', '.join(map(repr, unknown))}"
        raise ValueError(msg)
    if len(set(fast)) == len(names):
        msg = "not all parameters can be fast: leave out fast= and call the likelihood as often as you like"
        raise ValueError(msg)
    return FastPoints(tuple(names.index(name) for name in fast), count)


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


def _check_counts(**counts: int | None) -> None:
    for name, value in counts.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
            msg = f"{name} must be a positive integer, got {value!r}"
            raise TypeError(msg)
        if value is not None and value < 1:
            msg = f"{name} must be a positive integer, got {value}"
            raise ValueError(msg)


def _device(spec: str | None) -> str:
    import torch

    if spec == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    name = spec or "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        what = str(error).splitlines()[0]
        msg = f"device {name!r} cannot be used ({what}); 'cpu' always can, 'auto' takes what is there"
        raise ValueError(msg) from error
    return name


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One BLAS and torch thread while the run lasts, unless the environment asks for more: matrices are small."""
    import torch
    from threadpoolctl import threadpool_limits

    wanted = int(os.environ.get("OMP_NUM_THREADS") or os.environ.get("SLURM_CPUS_PER_TASK") or 1)
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        with threadpool_limits(wanted):
            yield
    finally:
        torch.set_num_threads(before)


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


def _reference(spec: Any, prior: Prior) -> Reference | None:
    if spec is None:
        return None
    reference = Reference.of(spec, prior.d)
    reference.check_inside(prior)
    return reference


def _initial(initial: Any, prior: Prior) -> Dataset:
    """Earlier evaluations as a dataset of step -1."""
    d = prior.d
    if initial is None:
        return Dataset.empty(d)
    if isinstance(initial, Dataset):
        _check_inside(initial.x, prior)
        return replace(initial, step=np.full(len(initial), -1, dtype=np.int64))
    expected = f"initial must be a pair (x, y) with shapes (n, {d}) and (n,), or a Dataset"
    try:
        x, y = (np.asarray(part, dtype=np.float64) for part in initial)
    except (TypeError, ValueError) as error:
        msg = f"{expected}, got {type(initial).__name__}"
        raise ValueError(msg) from error
    if x.ndim != 2 or x.shape[1] != d or y.shape != (len(x),):
        msg = f"{expected}, got shapes {x.shape} and {y.shape}"
        raise ValueError(msg)
    if np.isnan(y).any() or np.isposinf(y).any() or not np.isfinite(x).all():
        msg = "initial must hold finite points, and log-likelihoods that are finite or -inf"
        raise ValueError(msg)
    _check_inside(x, prior)
    evaluations = [
        Evaluation(float(v), "ok" if np.isfinite(v) else "infeasible", {}, 0.0, "", 0.0, "initial") for v in y
    ]
    return Dataset.empty(d).append(x, evaluations, -1)


def _check_inside(x: Array, prior: Prior) -> None:
    outside = ~np.isfinite(prior.log_density(x))
    if outside.any():
        row = int(np.argmax(outside))
        msg = (
            f"initial must lie inside the prior, but {int(outside.sum())} of {len(x)} points do not, the first in row "
            f"{row}: {x[row].tolist()}. Drop them or widen the prior"
        )
        raise ValueError(msg)


def _observers(
    loop: PosteriorLoop,
    folder: RunFolder | None,
    callback: Callable[[dict[str, float]], None] | None,
    budget: Budget,
    *,
    progress: bool,
) -> Iterator[Observer]:
    if folder is not None:
        yield lambda state: write_trace(folder, state)
        yield _Interim(loop, folder)
    if callback is not None:
        yield lambda state: callback(state.rows()[-1]) if len(state.trace) else None
    if progress:
        yield _Shown(budget)


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


def conclude(loop: PosteriorLoop, state: State, reason: str, n_samples: int) -> Result:
    """Samples the surrogate of a run as it stands.

    Args:
        loop: The loop of the run.
        state: Its last state.
        reason: Why it is the last.
        n_samples: Effective number of independent draws.

    Raises:
        ValueError: If the run has no surrogate.
    """
    from surrogate.samplers.ensemble import WALKERS, sample_ensemble

    if state.parameters is None:
        shortage = loop.shortage(state)
        raise ValueError(reason if shortage in reason else f"{reason}. {shortage}")
    state = loop.cooled(state)
    model = loop.model(state)
    scaled, prior = loop.scaled, loop.prior
    sample = loop.importance_sample(state, model, max(20_000, 2 * n_samples), "final")
    rng = generator(state.seed, state.step, "final")
    start = _walkers(sample, max(WALKERS, 4 * loop.d), rng) if sample.ess > 100 else loop.draws(state).posterior
    chain = sample_ensemble(
        lambda t: loop.log_posterior(model, t),
        start,
        rng=rng,
        ess=n_samples,
        bounds=(prior.bounds - scaled.location[:, None]) / scaled.scale[:, None],
    )
    mean_error, sd_error, evidence_spread = loop.surrogate_error(state, model, sample)
    x = scaled.from_unit(chain.samples)
    x = np.clip(x, prior.bounds[:, 0], prior.bounds[:, 1])
    offset = model.y_max - np.log(scaled.scale).sum()
    derived = _derived(loop, state, chain.samples)
    return Result(
        names=prior.names,
        labels=prior.labels,
        bounds=prior.bounds,
        samples=x,
        weights=np.full(len(x), 1.0 / len(x)),
        log_posterior=chain.log_density + offset,
        log_prior=prior.log_density(x),
        derived=np.empty((len(x), 0)) if derived is None else derived.predict(chain.samples),
        derived_names=() if derived is None else derived.names,
        log_evidence=model.y_max + sample.log_integral,
        log_evidence_error=float(np.hypot(sample.log_integral_error, evidence_spread)),
        converged=state.verdict.stop and state.verdict.converged,
        status=reason,
        n_evaluations=calls(state),
        data=state.data,
        trace=tuple(dict(row) for row in state.rows()),
        emulator=Emulator(model, scaled),
        surrogate_error={"mean": mean_error * scaled.scale, "sd": sd_error},
        sampler={
            "autocorrelation_time": float(np.max(chain.autocorrelation_time)),
            "ess": float(chain.ess),
            "acceptance": float(chain.acceptance),
            "importance_ess": float(sample.ess),
        },
        derived_error=np.empty(0) if derived is None else derived.error,
    )


def _derived(loop: PosteriorLoop, state: State, samples: Array) -> DerivedModel | None:
    """Regressions of the derived values on the evaluated points, in scaled coordinates; None if there are none."""
    data = state.data
    if not data.derived_names:
        return None
    t = loop.scaled.to_unit(data.x[data.finite])
    height = data.y[data.finite] + loop.scaled.log_density(t)
    return fit_derived(t, height, data.derived[data.finite], data.derived_names, samples)


def _walkers(sample: ImportanceSample, n: int, rng: np.random.Generator) -> Array:
    """Equally weighted draws in the proportions of the modes."""
    with np.errstate(divide="ignore"):
        return sample.x[systematic_resample(np.log(sample.weights), n, rng)]


def load_result(folder: str | os.PathLike[str], *, n_samples: int = 10_000, prior: Any = None) -> Result:
    """Samples the surrogate of a run in a folder, finished or not, without calling the likelihood.

    Args:
        folder: Output folder of the run.
        n_samples: Effective number of independent draws.
        prior: The prior again, needed only if it holds distributions that are not scipy's.

    Raises:
        ValueError: If the folder holds no run, or one without a surrogate yet.
    """
    place = RunFolder(Path(folder))
    if not place.state_path.exists():
        msg = f"{place.path} holds no run"
        raise ValueError(msg)
    loop = PosteriorLoop(load_prior(place) if prior is None else Prior.of(prior))
    state = load_state(place, loop.prior)
    if state is None:
        msg = f"{place.path} holds no run"
        raise ValueError(msg)
    with _one_thread():
        return conclude(loop, state, state.verdict.reason, n_samples)
