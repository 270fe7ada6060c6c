"""The sampler that `sampler: {surrogate: ...}` means in a Cobaya file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from cobaya import mpi
from cobaya.log import LoggedError
from cobaya.sampler import CovmatSampler
from cobaya.yaml import yaml_dump

from surrogate._version import __version__
from surrogate.arrays import Array
from surrogate.inference.design import Reference
from surrogate.inference.fast import count_slow
from surrogate.interfaces.cobaya.model import CobayaLikelihood, Stopped, prior_of, reference_of
from surrogate.interfaces.cobaya.options import merged, number_of
from surrogate.interfaces.cobaya.products import append_progress, collection_of, columns_of
from surrogate.output.cobaya import save_chain, save_covariance, save_log_evidence
from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from cobaya.collection import SampleCollection

    from surrogate.inference.result import Result

__all__ = ["SurrogateSampler"]

_FOLDER = "surrogate"
_ROWS = 10_000  # of the chain
_INTERIM_ROWS = 1000  # of the chain of an unfinished run
_SPEEDS = {"fast_points": 0, "fast_params": None, "measure": False}


class SurrogateSampler(CovmatSampler):
    """A sampler that learns a surrogate of the likelihood and samples that."""

    # Options, with their defaults: `docs/cobaya.md` explains each. `seed` comes from the base class.
    max_evaluations: int | str | None = None
    max_walltime: float | None = None
    batch_size: int | str | None = None
    n_samples: int | str = _ROWS
    reweight: int | str | None = None
    recompute: int | str | None = None
    use_ref: bool = True
    covmat: Any = None
    covmat_params: Any = None
    executor: str | None = None
    mode: str = "auto"
    max_eval_seconds: float | None = None
    max_failures: int | None = None
    isolate: bool = False
    retries: int = 0
    device: str | None = None
    feasibility: str = "process"
    explore: str = "normal"
    interim_every: int = 10
    speeds: dict[str, Any] = dict(_SPEEDS)
    sampler_type: str = "nested"
    supports_periodic_params = True

    _at_resume_prefer_new = ["max_evaluations", "max_walltime", "n_samples", "reweight", "recompute", "interim_every"]
    _at_resume_prefer_new += ["device", "executor", "mode", "max_eval_seconds", "max_failures", "isolate", "retries"]
    _at_resume_prefer_new += ["version", "covmat", "covmat_params"]

    def initialize(self) -> None:
        """Checks the options."""
        d = self.model.prior.d()
        try:
            self._prior = prior_of(self.model)
            names = ("max_evaluations", "batch_size", "n_samples", "reweight", "recompute")
            self._numbers = {name: number_of(getattr(self, name), d, name) for name in names}
            self._speeds = merged(_SPEEDS, self.speeds, "speeds")
        except (ValueError, TypeError) as error:
            raise LoggedError(self.log, str(error)) from error
        if self._numbers["reweight"] and self._numbers["recompute"]:
            raise LoggedError(self.log, "give either 'reweight' or 'recompute': both evaluate draws of the surrogate")
        self._result: Result | None = None
        self._collection: SampleCollection | None = None

    @classmethod
    def get_class_options(cls, input_options: Any = MappingProxyType({})) -> dict[str, Any]:
        """The options above, and nothing that Cobaya alone sets."""
        options = super().get_class_options(input_options)
        return {name: value for name, value in options.items() if name != "supports_periodic_params"}

    @classmethod
    def output_files_regexps(
        cls,
        output: Any,
        info: Any = None,  # noqa: ARG003
        minimal: bool = False,
    ) -> list[tuple[re.Pattern[str], str | None]]:
        """Files that prove an old run, and all files that a run writes."""
        prefix = output.prefix_regexp_str
        found: list[tuple[re.Pattern[str], str | None]] = [
            (output.collection_regexp(name=None), None),
            (re.compile(prefix + r"checkpoint$"), None),
        ]
        if minimal:
            return found
        found += [(re.compile(prefix + ending + "$"), None) for ending in ("covmat", "logZ", "progress")]
        return [*found, (re.compile(".*"), output.add_suffix(_FOLDER, separator="_"))]

    @classmethod
    def get_version(cls) -> str:
        """Version of surrogate."""
        return __version__

    @classmethod
    def get_desc(cls, info: Any = None) -> str:  # noqa: ARG003
        """A sentence for papers."""
        return "Gaussian-process surrogate of the likelihood, learned actively and sampled by MCMC"

    # Running

    def run(self) -> None:
        """Learns the posterior and writes the products."""
        from surrogate.inference.run import infer

        likelihood = CobayaLikelihood(self.model, self._prior.bounds)
        if mpi.is_main_process():
            self._write_checkpoint(converged=False, n_evaluations=0)
        try:
            self._result = infer(
                likelihood,
                self._prior,
                output=self._folder,
                seed=self._seed,
                resume="auto" if self.output and self.output.is_resuming() else False,
                executor=self.executor or (None if mpi.size() > 1 else "serial"),
                reference=self._reference(),
                max_evaluations=self._numbers["max_evaluations"],
                mode=self.mode,
                max_walltime=self.max_walltime,
                max_eval_seconds=self.max_eval_seconds,
                max_failures=self.max_failures,
                isolate=self.isolate,
                retries=self.retries,
                batch_size=self._numbers["batch_size"],
                n_samples=self._numbers["n_samples"] or _ROWS,
                reweight=self._numbers["reweight"] or self._numbers["recompute"],
                fast=(self._fast_params, self._speeds["fast_points"]),
                device=self.device,
                feasibility=self.feasibility,
                explore=self.explore,
                progress=False,
                callback=self._observe,
            )
        except Stopped as error:
            raise LoggedError(self.log, "stopped, as stop_at_error is set: %s", error) from error.__cause__
        except (ValueError, RuntimeError) as error:
            raise LoggedError(self.log, "%s", error) from error
        if mpi.is_main_process():
            self._finish(self._result)

    @property
    def _fast_params(self) -> list[str]:
        """Parameters that are cheap to change: those named, or those in Cobaya's fast block."""
        if not self._speeds["fast_points"]:
            return []
        if self._speeds["fast_params"] is not None:
            return list(self._speeds["fast_params"])
        if self._speeds["measure"]:
            self.model.measure_and_set_speeds(n=3, discard=1, random_state=self._rng)
        blocks, factors = self.model.get_param_blocking_for_sampler(split_fast_slow=True)
        return [name for block, factor in zip(blocks, factors, strict=True) if factor > 1 for name in block]

    @property
    def _folder(self) -> str | None:
        return self.output.add_suffix(_FOLDER, separator="_") if self.output else None

    @property
    def _seed(self) -> int:
        seed = getattr(self, "seed", None)
        if seed is None:
            return 0
        return seed if isinstance(seed, int) else int(np.random.SeedSequence(seed).generate_state(1)[0])

    def _reference(self) -> Reference | None:
        if not self.use_ref:
            return None
        covariance = None
        if self.covmat is not None:
            covariance, _ = self._load_covmat(prefer_load_old=False)
        reference = reference_of(self.model, covariance)
        if reference is None and self.covmat is not None:
            self.mpi_warning("'covmat' is of use only with a 'ref' for every sampled parameter: it is ignored")
        return reference

    def _observe(self, row: Mapping[str, float]) -> None:
        """Reports an iteration: the log, `.progress`, the checkpoint, and now and then a chain."""
        self.log.info(
            "Step %d: %d evaluations, best log-likelihood %.6g, spread %.3g",
            row["step"],
            row["n_evaluations"],
            row["best"],
            row["spread"],
        )
        if not self.output:
            return
        append_progress(Path(self.progress_filename()), row)
        self._write_checkpoint(converged=False, n_evaluations=int(row["n_evaluations"]))
        if self.interim_every and row["step"] % self.interim_every == 0 and row["temperature"] == 1.0:
            from surrogate.inference.conclusion import load_result

            found = load_result(str(self._folder), n_samples=_INTERIM_ROWS, prior=self._prior)
            save_chain(Path(self._chain_path), self._columns(found))

    # Products

    def _finish(self, result: Result) -> None:
        columns = self._columns(result, n_rows=self._numbers["n_samples"] or _ROWS)
        if self.output:
            save_chain(Path(self._chain_path), columns)
            save_covariance(Path(self.covmat_filename()), result.names, result.covariance)
            self._write_evidence(result)
            self._write_checkpoint(converged=result.converged, n_evaluations=result.n_evaluations)
        self._collection = collection_of(self.model, columns, sample_type=self.sampler_type)
        tell = self.log.info if result.converged else self.log.warning
        if fast := self._fast_params:
            slow = count_slow(result.data.x, tuple(result.names.index(name) for name in fast))
            tell("%d slow calls, and %d with only %s changed", slow, len(result.data) - slow, ", ".join(fast))
        for line in result.summary().splitlines():
            tell(line)

    def _write_evidence(self, result: Result) -> None:
        """Writes `.logZ`, unless the run has not converged: scripts read nothing but the numbers."""
        path = Path(self.output.folder) / f"{self.output.prefix}.logZ"
        if result.converged:
            save_log_evidence(path, result.log_evidence, result.log_evidence_error)
        else:
            path.unlink(missing_ok=True)
            self.log.warning("%s is not written, as the run has not converged.", path.name)

    def _columns(self, result: Result, *, n_rows: int | None = None) -> dict[str, Array]:
        return columns_of(self.model, result, n_rows=n_rows, equal=bool(self._numbers["recompute"]))

    @property
    def _chain_path(self) -> str:
        return self.output.prepare_collection(name="1")[0]

    # Files that say how far a run is

    def _write_checkpoint(self, *, converged: bool, n_evaluations: int) -> None:
        if not self.output:
            return
        entry = {"converged": bool(converged), "mpi_size": mpi.size(), "n_evaluations": n_evaluations}
        with replacing(Path(self.checkpoint_filename())) as file:
            file.write(yaml_dump({"sampler": {self.get_name(): entry}}).encode())

    # What scripts ask for

    def samples(self, combined: bool = False, skip_samples: float = 0, to_getdist: bool = False) -> Any:
        """The chain, as Cobaya's collection or GetDist's samples; None on other processes unless combined.

        Args:
            combined: Whether all processes get it.
            skip_samples: Fraction or number of rows to leave out at the beginning: no use here.
            to_getdist: Whether to convert it to ``getdist.MCSamples``, on all processes.
        """
        collection = mpi.share_mpi(self._collection) if combined or to_getdist else self._collection
        if collection is None:
            return None
        if skip_samples:
            self.mpi_warning("Rows of this chain are independent draws: none is skipped")
        return collection.to_getdist(label="surrogate") if to_getdist else collection

    def products(self, combined: bool = False, skip_samples: float = 0, to_getdist: bool = False) -> dict[str, Any]:
        """The chain, the evidence (None unless the run has converged), and the result of `surrogate.infer`."""
        result = self._result  # which all processes have
        claimed = result is not None and result.converged
        return {
            "sample": self.samples(combined, skip_samples, to_getdist),
            "logZ": result.log_evidence if result is not None and claimed else None,
            "logZstd": result.log_evidence_error if result is not None and claimed else None,
            "result": result,
        }
