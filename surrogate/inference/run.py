"""`infer`: from an expensive log-likelihood and a prior to weighted samples of the posterior."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.arrays import default_float_errors
from surrogate.executors.interruption import StopRequest
from surrogate.inference.design import Reference
from surrogate.inference.driving.budget import Budget
from surrogate.inference.driving.provenance import origin_of, provenance_of
from surrogate.inference.driving.run import Run
from surrogate.inference.execution import execute
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.result import Result
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
from surrogate.inference.setup import Setup
from surrogate.problem.dataset import Dataset
from surrogate.problem.nuisances import Nuisances
from surrogate.problem.target import Posterior
from surrogate.storage.folder import RunFolder

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["infer"]


@default_float_errors()
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
    """The posterior of an expensive log-likelihood, learned from tens to hundreds of calls.

    A Gaussian process learns the log-likelihood; the prior is added analytically. Points are chosen in batches until
    paths of the surrogate agree about the posterior; the surrogate is then sampled by MCMC.

    Args:
        log_likelihood: Function of an array with shape (d,), or of the parameters by name. It returns a float (natural
            log; -inf is legal), (float, dict of derived values) or (float, sd of its noise). An exception or NaN is
            recorded as a failure and does not end the run. May also be a Cobaya model or the path of its yaml file;
            ``prior`` is then left out.
        prior: Dict of name -> (low, high), frozen ``scipy.stats`` distribution or ``Parameter``; or bounds (d, 2).
        output: Folder for the evaluations, the state and the products; an existing run is continued.
        seed: The same seed gives the same run.
        executor: None or "serial", "threads:N", "processes:N", "mpi", "files:FOLDER", or a
            ``concurrent.futures.Executor``. Under mpirun or srun, None means "mpi": all ranks call this function,
            evaluate, and get the result; with "serial" each rank makes a separate run.
        max_evaluations: Largest number of likelihood calls; by default 70 d^1.5.
        max_walltime: Seconds after which the run ends as on SIGTERM, by sampling the current surrogate.
        batch_size: Points per batch; by default max(2, d // 2).
        initial: Earlier evaluations: a pair (x, y) with shapes (n, d) and (n,), with the noise sd ``noise`` if that
            is given, or a ``Dataset``.
        reference: Expected location of the posterior: a point, (mean, covariance or sds), draws (n, d), or values by
            name.
        vectorized: Whether the likelihood takes (b, d) arrays and returns (b,).
        noise: Sd of noisy values returned without one; undeclared noise with a common sd is detected by the evidence.
        device: Device of the Gaussian process: "cpu", "cuda", "cuda:1", or "auto".
        progress: Whether to show progress on standard error.
        resume: "auto" resumes a run in ``output`` if there is one, True requires one, False starts a new run. The
            likelihood must be the same, judged by its source and its value at the best point; "trust" skips this check.
        settings: Further options by name, see `surrogate.inference.settings.Settings`.

    Returns:
        The result: samples, evidence, verdict, evaluated points and emulator.

    Raises:
        ValueError: If an argument has a wrong value, or no surrogate could be made; the message names the failures.
        TypeError: If an argument has a wrong type or an unknown name.
        UnfinishedError: If the run was interrupted before it had a surrogate; with an output folder it can be resumed.

    >>> import surrogate
    >>> result = surrogate.infer(lambda a, b: -a**2 - (b - a)**2, {"a": (-5, 5), "b": (-5, 5)}, progress=False)
    >>> result.converged
    True
    """
    asked = Settings.of(settings)
    check_counts(max_evaluations=max_evaluations, batch_size=batch_size)
    check_seconds(max_walltime=max_walltime)
    if prior is None:
        log_likelihood, prior, reference = _problem(log_likelihood, reference)
    posterior = Posterior(log_likelihood, prior, vectorized=vectorized, noise=noise, gradient=asked.gradient)
    known, given = reference_for(reference, posterior.prior), initial_data(initial, posterior.prior, noise)
    nuisances = _nuisances(posterior, given, asked)
    if nuisances is not None:
        known, given = known and known.part(nuisances.kept), nuisances.reduced(given)
        posterior = nuisances.marginal
    loop = PosteriorLoop(_setup(posterior, asked, known, batch_size, device))
    run = Run(
        loop=loop,
        posterior=posterior,
        settings=asked,
        budget=Budget(max_evaluations or int(np.ceil(70 * loop.d**1.5)), asked.max_failures),
        stop=StopRequest(max_walltime),
        seed=seed,
        initial=given,
        nuisances=nuisances,
        progress=progress,
        trust=resume == "trust",
        provenance=provenance_of(posterior),
        origin=origin_of(posterior, seed),
    )
    return execute(run, executor, lambda: _folder(output, resume, into=asked.into))


def _nuisances(posterior: Posterior, given: Dataset, asked: Settings) -> Nuisances | None:
    """Parameters that can be integrated out exactly; None if there are none, or the run needs all of them."""
    nuisances = Nuisances.of(posterior)
    return None if nuisances is None or asked.fast or not nuisances.covers(given) else nuisances


def _setup(
    posterior: Posterior, asked: Settings, reference: Reference | None, batch_size: int | None, device: str | None
) -> Setup:
    """The fixed inputs of the loop."""
    return Setup(
        posterior.prior,
        reference=reference,
        batch_size=batch_size,
        device=usable_device(device),
        fast=fast_points(asked.fast, posterior.prior.names),
        gradient=asked.gradient,
        feasibility=asked.feasibility,
        explore=asked.explore,
        confirm=asked.confirm,
        observables=posterior.observables,
    )


_PIPELINES = {"cobaya": "surrogate.interfaces.cobaya"}  # interfaces, imported when an object of theirs is given


def _problem(target: Any, reference: Any) -> tuple[Any, Any, Any]:
    """Likelihood and prior of an object that has its own prior, and its reference unless one is given."""
    kind = "cobaya" if isinstance(target, (str, os.PathLike)) else type(target).__module__.split(".")[0]
    if kind not in _PIPELINES:
        msg = f"infer needs a prior besides the log-likelihood, except for a Cobaya model or yaml file; got {target!r}"
        raise TypeError(msg)
    problem = importlib.import_module(_PIPELINES[kind]).problem_of(target)
    return problem.log_likelihood, problem.prior, problem.reference if reference is None else reference


@contextlib.contextmanager
def _folder(output: str | os.PathLike[str] | None, resume: bool | str, *, into: bool) -> Iterator[RunFolder | None]:
    if resume not in (True, False, "auto", "trust"):
        msg = f"resume must be 'auto', 'trust', True or False, got {resume!r}"
        raise ValueError(msg)
    if output is None:
        if resume is True:
            msg = "resume=True needs the output folder of the run to continue"
            raise ValueError(msg)
        yield None
        return
    folder = RunFolder(Path(output).absolute())  # because a likelihood may change the working directory
    if resume is True and not folder.holds_run:
        msg = f"resume=True, but {folder.path} holds no run"
        raise ValueError(msg)
    folder.claim(into=into)
    with folder.create(force=resume is False):
        yield folder
