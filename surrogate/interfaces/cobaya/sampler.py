"""The Cobaya sampler for `sampler: {surrogate: ...}`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from cobaya import mpi
from cobaya.log import LoggedError
from cobaya.sampler import CovmatSampler

from surrogate._version import __version__
from surrogate.inference.design import Reference
from surrogate.inference.fast import count_slow
from surrogate.interfaces.cobaya.best_fit import checked_objective, write_best_fit
from surrogate.interfaces.cobaya.emulation import CobayaObservables, UnsuitedError, chosen, emulated
from surrogate.interfaces.cobaya.files import OutputFiles, patterns
from surrogate.interfaces.cobaya.model import CobayaLikelihood, Stopped, prior_of, reference_of
from surrogate.interfaces.cobaya.options import Numbers, Speeds
from surrogate.interfaces.cobaya.products import collection_of, columns_of

if TYPE_CHECKING:
    from cobaya.collection import OnePoint, SampleCollection

    from surrogate.inference.result import Result

__all__ = ["SurrogateSampler"]

_ROWS = 10_000  # of the chain
_INTERIM_ROWS = 1000  # of the chain of an unfinished run
_MAY_CHANGE = (
    *("max_evaluations", "max_walltime", "n_samples", "reweight", "recompute", "interim_every", "device", "executor"),
    *("mode", "max_eval_seconds", "max_failures", "isolate", "retries", "covmat", "covmat_params", "best_fit"),
)  # options that may differ when a run is resumed


class SurrogateSampler(CovmatSampler):
    """A Cobaya sampler that learns a surrogate of the likelihood and samples it.

    Its options are documented in ``sampler.yaml``; Cobaya sets them as attributes.
    """

    file_base_name = "sampler"
    sampler_type: str = "nested"
    supports_periodic_params = True
    emulate: Any
    _at_resume_prefer_new = [*CovmatSampler._at_resume_prefer_new, *_MAY_CHANGE]
    _at_resume_prefer_old = [*CovmatSampler._at_resume_prefer_old, "emulate"]

    def initialize(self) -> None:
        """Checks the options."""
        try:
            self._prior = prior_of(self.model, self.integers)
            self._numbers = Numbers.of(self, self.model.prior.d())
            self._speeds = Speeds.of(self.speeds)
            self._objective = checked_objective(self.best_fit, self.model)
            self.emulate = chosen(self.emulate)
        except (ValueError, TypeError) as error:
            raise LoggedError(self.log, str(error)) from error
        self._target = self._emulated()
        self._files = OutputFiles(self.output, self.get_name(), mpi.size())
        self._result: Result | None = None
        self._best_fit: OnePoint | None = None
        self._collection: SampleCollection | None = None

    @classmethod
    def get_class_options(cls, input_options: Any = None) -> dict[str, Any]:  # noqa: ARG003
        """The default of ``sampler_type``, the only option that is not in ``sampler.yaml``."""
        return {"sampler_type": cls.sampler_type}

    @classmethod
    def output_files_regexps(
        cls,
        output: Any,
        info: Any = None,  # noqa: ARG003
        minimal: bool = False,
    ) -> list[tuple[re.Pattern[str], str | None]]:
        """Patterns of the files of a run, or only of those that identify an old run."""
        return patterns(output, minimal=minimal)

    @classmethod
    def get_version(cls) -> str:
        """Version of surrogate."""
        return __version__

    @classmethod
    def get_desc(cls, info: Any = None) -> str:  # noqa: ARG003
        """A sentence that describes the sampler, for papers."""
        return "Gaussian-process surrogate of the likelihood, learned actively and sampled by MCMC"

    # Running

    def run(self) -> None:
        """Learns the posterior and writes the products."""
        from surrogate.inference.run import infer

        likelihood = self._target or CobayaLikelihood(self.model, self._prior.bounds)
        if mpi.is_main_process():
            self._files.write_checkpoint(converged=False, n_evaluations=0)
        numbers, fast = self._numbers, self._fast_params()
        try:
            self._result = infer(
                likelihood,
                self._prior,
                output=self._files.folder,
                seed=_whole_seed(self.seed),
                resume="auto" if self.output and self.output.is_resuming() else False,
                executor=self.executor or (None if mpi.size() > 1 else "serial"),
                reference=self._reference(),
                max_evaluations=numbers.max_evaluations,
                mode=self.mode,
                max_walltime=self.max_walltime,
                max_eval_seconds=self.max_eval_seconds,
                max_failures=self.max_failures,
                isolate=self.isolate,
                retries=self.retries,
                batch_size=numbers.batch_size,
                n_samples=numbers.n_samples or _ROWS,
                reweight=numbers.reweight or numbers.recompute,
                fast=(fast, self._speeds.fast_points),
                device=self.device,
                feasibility=self.feasibility,
                explore=self.explore,
                progress=False,
                callback=self._observe,
            )
        except Stopped as error:
            raise LoggedError(self.log, "stopped because stop_at_error is set: %s", error) from error.__cause__
        except (ValueError, RuntimeError) as error:
            raise LoggedError(self.log, "%s", error) from error
        if mpi.is_main_process():
            self._finish(self._result, fast)

    def _emulated(self) -> CobayaObservables | None:
        """The target with emulated theories; None to learn the log-likelihood itself.

        The choice replaces the option, so that a resumed run makes the same one.
        """
        target, problem = None, ""
        if mpi.is_main_process():  # its choice, which may depend on measured times, is that of all
            try:
                target = self._target_of(self.emulate)
            except UnsuitedError as error:
                problem = f"emulate: {self.emulate} is impossible: {error}"
        names = "none" if target is None else list(target.pipeline.slow_names)
        self.emulate, problem = mpi.share_mpi((names, problem))
        if problem:
            raise LoggedError(self.log, "%s", problem)
        if not mpi.is_main_process():
            target = self._target_of(self.emulate)
        self._updated_info["emulate"] = self.emulate  # what Cobaya writes and reads again
        return target

    def _target_of(self, given: Any) -> CobayaObservables | None:
        """See ``emulated``."""
        rng = np.random.default_rng(_whole_seed(self.seed))
        obstacle = ""
        if self._prior.levels is not None:
            obstacle = "the option integers is for learned log-likelihoods alone"
        if isinstance(self.executor, str) and self.executor.startswith("files:"):
            obstacle = "the executor files:... cannot carry products of theories"
        return emulated(self.model, self._prior.bounds, given, rng, self.log, obstacle=obstacle)

    def _fast_params(self) -> list[str]:
        """Names of fast parameters: those given, or those in Cobaya's fast block."""
        if not self._speeds.fast_points or self._target is not None:
            return []
        if self._speeds.fast_params is not None:
            return list(self._speeds.fast_params)
        if self._speeds.measure:
            self.model.measure_and_set_speeds(n=3, discard=1, random_state=self._rng)
        blocks, factors = self.model.get_param_blocking_for_sampler(split_fast_slow=True)
        return [name for block, factor in zip(blocks, factors, strict=True) if factor > 1 for name in block]

    def _reference(self) -> Reference | None:
        if not self.use_ref or self._prior.levels is not None:  # a reference cannot describe integers
            return None
        covariance = None
        if self.covmat is not None:
            covariance, _ = self._load_covmat(prefer_load_old=False)
        reference = reference_of(self.model, covariance)
        if reference is None and self.covmat is not None:
            self.mpi_warning("'covmat' needs a 'ref' for every sampled parameter and is ignored")
        return reference

    def _observe(self, row: Mapping[str, float]) -> None:
        """Writes an iteration to `.progress` and the checkpoint, and occasionally a chain."""
        self._files.write_progress(row)
        due = self.interim_every and row["step"] % self.interim_every == 0 and row["temperature"] == 1.0
        if self._files and due:
            from surrogate.inference.loading import load_result

            folder, target = str(self._files.folder), self._target
            found = load_result(folder, n_samples=_INTERIM_ROWS, prior=self._prior, target=target)
            self._files.write_chain(columns_of(self.model, found, equal=bool(self._numbers.recompute)))

    def _finish(self, result: Result, fast: list[str]) -> None:
        """Writes the products and logs the summary."""
        rows, equal = self._numbers.n_samples or _ROWS, bool(self._numbers.recompute)
        columns = columns_of(self.model, result, n_rows=rows, equal=equal)
        if warning := self._files.write_result(result, columns):
            self.log.warning(warning)
        self._collection = collection_of(self.model, columns, sample_type=self.sampler_type)
        tell = self.log.info if result.converged else self.log.warning
        if fast:
            slow = count_slow(result.data.x, tuple(result.names.index(name) for name in fast))
            tell("%d slow calls, and %d with only %s changed", slow, len(result.data) - slow, ", ".join(fast))
        for line in result.summary().splitlines():
            tell(line)
        if self._objective is not None:
            best = result.maximum(self._objective)
            self._best_fit = write_best_fit(self.model, self.output, best)
            for line in str(best).splitlines():
                (self.log.info if best.confirmed else self.log.warning)(line)

    # Interface for scripts

    def samples(self, combined: bool = False, skip_samples: float = 0, to_getdist: bool = False) -> Any:
        """The chain as Cobaya's collection or GetDist's samples; None on ranks other than 0 unless combined.

        Args:
            combined: Whether to return it on all processes.
            skip_samples: Ignored, because the rows are independent draws.
            to_getdist: Whether to return ``getdist.MCSamples``, on all processes.
        """
        collection = mpi.share_mpi(self._collection) if combined or to_getdist else self._collection
        if collection is None:
            return None
        if skip_samples:
            self.mpi_warning("Rows of this chain are independent draws: none is skipped")
        return collection.to_getdist(label="surrogate") if to_getdist else collection

    def products(self, combined: bool = False, skip_samples: float = 0, to_getdist: bool = False) -> dict[str, Any]:
        """A dict with the chain, the evidence (None unless the run has converged), the result and the best fit."""
        result = self._result  # available on all processes
        claimed = result is not None and result.converged
        return {
            "sample": self.samples(combined, skip_samples, to_getdist),
            "logZ": result.log_evidence if result is not None and claimed else None,
            "logZstd": result.log_evidence_error if result is not None and claimed else None,
            "result": result,
            "minimum": self._best_fit,
        }


def _whole_seed(seed: Any) -> int:
    """Cobaya's seed, which may be a sequence, as one whole number; 0 for None."""
    if seed is None:
        return 0
    return seed if isinstance(seed, int) else int(np.random.SeedSequence(seed).generate_state(1)[0])
