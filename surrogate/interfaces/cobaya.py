"""Cobaya: a sampler that takes the place of `mcmc`, and Cobaya models for `surrogate.infer`.

What is learned is the sum of the log-likelihoods and of the external priors; the one-dimensional priors are added
exactly. This is the one module that imports Cobaya. Worker processes import it too, to evaluate points: torch and the
rest of the engine are imported where a run begins.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from cobaya import mpi
from cobaya.collection import SampleCollection
from cobaya.log import LoggedError
from cobaya.model import Model, get_model
from cobaya.sampler import CovmatSampler
from cobaya.yaml import yaml_dump, yaml_load_file

from surrogate._version import __version__
from surrogate.arrays import Array, Indices
from surrogate.inference.design import Reference
from surrogate.inference.fast import count_slow
from surrogate.output.cobaya import chain_columns, save_chain, save_covariance, save_log_evidence, shared_out
from surrogate.problem.prior import Parameter, Prior
from surrogate.problem.words import did_you_mean
from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["CobayaLikelihood", "Problem", "SurrogateSampler", "prior_of", "problem_of", "reference_of"]


# Models for `surrogate.infer`


class _Stopped(BaseException):  # not an Exception: those of a likelihood are recorded, and the run goes on
    """A likelihood raised, and the user wants the run to stop then."""


@dataclass(frozen=True, eq=False)
class CobayaLikelihood:
    """The log-likelihood of a Cobaya model, external priors included, with its derived parameters and chi2s.

    Attributes:
        model: The model.
        bounds: Support of the parameters, with shape (d, 2).
    """

    model: Model
    bounds: Array

    def __call__(self, point: Any, /) -> tuple[float, dict[str, float]]:
        """Log-likelihood and derived values at a point with shape (d,).

        Raises:
            ValueError: If a likelihood answers NaN or +inf.
        """
        x = np.clip(np.atleast_1d(np.asarray(point, dtype=np.float64)), *self.bounds.T)
        try:
            return self._evaluated(x)
        except Exception as error:
            if any(getattr(component, "stop_at_error", False) for component in self.model.components):
                raise _Stopped(str(error)) from error
            self.model.log.warning(
                "Evaluation failed (%s) at %s", error, dict(zip(self._names, x.tolist(), strict=True))
            )
            raise

    @property
    def _names(self) -> list[str]:
        return list(self.model.parameterization.sampled_params())

    def _evaluated(self, x: Array) -> tuple[float, dict[str, float]]:
        found = self.model.logposterior(x)
        external = float(np.sum(found.logpriors[1:]))
        if not len(found.loglikes):
            return -np.inf, {}
        loglikes = dict(zip(self.model.likelihood, map(float, found.loglikes), strict=True))
        wrong = {name: value for name, value in loglikes.items() if not value < np.inf}
        if wrong and -np.inf not in loglikes.values():
            words = ", ".join(f"{name} is {value}" for name, value in wrong.items())
            msg = f"the log-likelihood of {words}"
            raise ValueError(msg)
        total = sum(loglikes.values()) + external
        if not np.isfinite(total):
            return -np.inf, {}
        names = self.model.parameterization.derived_params()
        derived = {name: _as_float(v) for name, v in zip(names, found.derived, strict=True)}
        return total, derived | {f"chi2__{name}": -2.0 * value for name, value in loglikes.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self.model.info(), getattr(self.model, "packages_path", None), self.bounds)


def _as_float(value: Any) -> float:
    return np.nan if value is None else float(value)


def _rebuilt(info: dict[str, Any], packages_path: str | None, bounds: Array) -> CobayaLikelihood:
    """The same likelihood in another process: models do not travel, their description does."""
    return CobayaLikelihood(get_model(info, packages_path=packages_path), bounds)


@dataclass(frozen=True, eq=False)
class Problem:
    """What `surrogate.infer` needs to know of a model.

    Attributes:
        log_likelihood: Its likelihood.
        prior: The one-dimensional priors.
        reference: Where the posterior is expected, if the model says so.
    """

    log_likelihood: CobayaLikelihood
    prior: Prior
    reference: Reference | None


def problem_of(target: Any) -> Problem:
    """The problem that a Cobaya model, its description or the path of its yaml file poses.

    Raises:
        ValueError: If Cobaya cannot make a model of it.
    """
    try:
        model = target if isinstance(target, Model) else get_model(_description(target))
    except LoggedError as error:
        msg = f"Cobaya can make no model of {target if isinstance(target, str | os.PathLike) else 'this'}: {error}"
        raise ValueError(msg) from error
    prior = prior_of(model)
    return Problem(CobayaLikelihood(model, prior.bounds), prior, reference_of(model))


def _description(target: Any) -> dict[str, Any]:
    info = dict(target) if isinstance(target, Mapping) else yaml_load_file(os.fspath(target))
    if not isinstance(info, dict) or "likelihood" not in info or "params" not in info:
        msg = f"a Cobaya model has the blocks 'likelihood' and 'params', got {sorted(info or {})}"
        raise ValueError(msg)
    return {key: value for key, value in info.items() if key not in ("sampler", "output", "force", "resume", "test")}


def prior_of(model: Model) -> Prior:
    """The one-dimensional priors of a Cobaya model."""
    labels, infos = model.parameterization.labels(), model.parameterization.sampled_params_info()
    return Prior(
        tuple(
            Parameter(
                name,
                tuple(pdf.interval(1)) if pdf.dist.name == "uniform" else pdf,
                label=labels.get(name),
                periodic=bool(infos[name].get("periodic", False)),
            )
            for name, pdf in zip(model.prior.params, model.prior.pdf, strict=True)
        )
    )


def reference_of(model: Model, covariance: Array | None = None) -> Reference | None:
    """Where the posterior is expected, by the `ref` of all parameters; None if one has none.

    Args:
        model: The model.
        covariance: Of the posterior as far as known, with shape (d, d). Without it the widths of `ref`, or twice the
            `proposal` if that is wider, take its place; with points for `ref` nothing does.
    """
    mean, width = np.array([_moments(pdf) for pdf in model.prior.ref_pdf]).T
    if np.isnan(mean).any():
        return None
    if covariance is not None:
        return Reference(mean, covariance)
    infos = model.parameterization.sampled_params_info().values()
    width = np.maximum(width, [2.0 * float(info.get("proposal") or 0.0) for info in infos])
    return Reference(mean, np.diag(width**2) if (width > 0).all() else None)


def _moments(pdf: Any) -> tuple[float, float]:
    """Mean and sd of a reference: a distribution, or a number, nan where there is none."""
    return (float(pdf.mean()), float(pdf.std())) if hasattr(pdf, "mean") and hasattr(pdf, "rvs") else (float(pdf), 0.0)


# The sampler

_DIMENSIONAL = re.compile(r"\s*(\d*\.?\d*)\s*d\s*\^?\s*(\d*\.?\d*)\s*", flags=re.IGNORECASE)
_FOLDER = "surrogate"
_SPEEDS = {"fast_points": 0, "fast_params": None, "measure": False}


def number_of(value: Any, d: int, name: str) -> int | None:
    """An option in d-notation: 100, "10d" or "30d1.5", which is 30 times d to the 1.5.

    Raises:
        ValueError: If it is something else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    match = _DIMENSIONAL.fullmatch(value) if isinstance(value, str) else None
    if match:
        return int(np.ceil(float(match[1] or 1) * d ** float(match[2] or 1)))
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if isinstance(value, bool) or number != (int(number) if np.isfinite(number) else 0):
        msg = (
            f"{name} must be a whole number, or one in units of the dimension such as '10d' or '30d1.5', got {value!r}"
        )
        raise ValueError(msg)
    return int(number)


class SurrogateSampler(CovmatSampler):
    """A surrogate of the likelihood instead of a chain on the likelihood itself."""

    # Options, with their defaults: `docs/cobaya.md` explains each. `seed` comes from the base class.
    max_evaluations: int | str | None = None
    max_walltime: float | None = None
    batch_size: int | str | None = None
    n_samples: int | str = 10_000
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
            self._speeds = _merged(_SPEEDS, self.speeds, "speeds")
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
                n_samples=self._numbers["n_samples"] or 10_000,
                reweight=self._numbers["reweight"] or self._numbers["recompute"],
                fast=(self._fast_params, self._speeds["fast_points"]),
                device=self.device,
                progress=False,
                callback=self._observe,
            )
        except _Stopped as error:
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
            self.mpi_warning("'covmat' is of use only with a 'ref' for every sampled parameter: it is left aside.")
        return reference

    def _observe(self, row: Mapping[str, float]) -> None:
        """Tells of an iteration: a line in the log, one in `.progress`, the checkpoint, now and then a chain."""
        self.log.info(
            "Step %d: %d evaluations, best log-likelihood %.6g, spread %.3g",
            row["step"],
            row["n_evaluations"],
            row["best"],
            row["spread"],
        )
        if not self.output:
            return
        self._write_progress(row)
        self._write_checkpoint(converged=False, n_evaluations=int(row["n_evaluations"]))
        if self.interim_every and row["step"] % self.interim_every == 0 and row["temperature"] == 1.0:
            from surrogate.inference.conclusion import load_result

            self._write_chain(load_result(str(self._folder), n_samples=1000, prior=self._prior))

    # Products

    def _finish(self, result: Result) -> None:
        columns = self._columns(result, thin=True)
        if self.output:
            save_chain(Path(self._chain_path), columns)
            save_covariance(Path(self.covmat_filename()), result.names, result.covariance)
            save_log_evidence(Path(self._path("logZ")), result.log_evidence, result.log_evidence_error)
            self._write_checkpoint(converged=result.converged, n_evaluations=result.n_evaluations)
        self._collection = self._collected(columns)
        tell = self.log.info if result.converged else self.log.warning
        if fast := self._fast_params:
            slow = count_slow(result.data.x, tuple(result.names.index(name) for name in fast))
            tell("%d slow calls, and %d with only %s changed", slow, len(result.data) - slow, ", ".join(fast))
        for line in result.summary().splitlines():
            tell(line)

    def _write_chain(self, result: Result) -> None:
        save_chain(Path(self._chain_path), self._columns(result))

    @property
    def _chain_path(self) -> str:
        return self.output.prepare_collection(name="1")[0]

    def _path(self, ending: str) -> str:
        return os.path.join(self.output.folder, f"{self.output.prefix}.{ending}")

    def _columns(self, result: Result, *, thin: bool = False) -> dict[str, Array]:
        """The chain of a result, i.i.d. rows, in Cobaya's columns."""
        weights = result.weights / result.weights.max()
        if self._numbers["recompute"] and result.reweighting is not None:
            weights = np.ones_like(weights)
        size = self._numbers["n_samples"] or 10_000
        rows = np.arange(len(weights))[: size if thin and result.reweighting is None else None]
        log_priors = self._log_priors(result, rows)
        possible = np.isfinite(np.sum(list(log_priors.values()), axis=0))
        rows, log_priors = rows[possible], {name: v[possible] for name, v in log_priors.items()}
        external = sum((v for name, v in log_priors.items() if name != "0"), np.zeros(len(rows)))
        total = result.log_posterior[rows] - result.log_prior[rows] - external
        emulated = dict(zip(result.derived_names, result.derived[rows].T, strict=True))
        error = dict(zip(result.derived_names, result.derived_error, strict=True)) if len(result.derived_error) else {}
        likelihoods = self._log_likelihoods(total, emulated, error)
        return chain_columns(
            weights[rows],
            dict(zip(result.names, result.samples[rows].T, strict=True)),
            self._derived(emulated, likelihoods, len(rows)),
            log_priors,
            likelihoods,
        )

    def _log_priors(self, result: Result, rows: Indices) -> dict[str, Array]:
        """Exact log densities of the parts of the prior, each with shape (rows,)."""
        names = list(self.model.prior)
        if len(names) == 1:
            return {names[0]: result.log_prior[rows]}
        values = np.array([self.model.logpriors(x) for x in result.samples[rows]])
        return dict(zip(names, values.T, strict=True))

    def _log_likelihoods(self, total: Array, emulated: dict[str, Array], error: dict[str, float]) -> dict[str, Array]:
        """Log-likelihoods by name, whose sum is the total."""
        names = list(self.model.likelihood)
        missing = np.full(len(total), np.nan)
        parts = np.stack([-0.5 * emulated.get(f"chi2__{name}", missing) for name in names], axis=1)
        shared = shared_out(parts, total, np.array([error.get(f"chi2__{name}", 0.0) for name in names]))
        return dict(zip(names, shared.T, strict=True))

    def _derived(self, emulated: dict[str, Array], likelihoods: dict[str, Array], n: int) -> dict[str, Array]:
        """Derived parameters; chi2s of types of likelihoods are the sums of theirs."""
        out: dict[str, Array] = {}
        for name in self.model.parameterization.derived_params():
            kind = name.removeprefix("chi2__")
            if name.startswith("chi2__") and kind in likelihoods:
                continue  # a column of its own
            of_kind = [key for key, like in self.model.likelihood.items() if kind in getattr(like, "type_list", ())]
            if name.startswith("chi2__") and of_kind:
                out[name] = -2.0 * np.sum([likelihoods[key] for key in of_kind], axis=0)
            else:
                out[name] = emulated.get(name, np.full(n, np.nan))
        return out

    def _collected(self, columns: dict[str, Array]) -> SampleCollection:
        """The chain as Cobaya's collection."""
        collection = SampleCollection(self.model, None, name="1", sample_type=self.sampler_type)
        d = self.model.prior.d()
        table = np.stack([columns[name] for name in collection.columns], axis=1)
        first = 2 + d + len([p for p in collection.derived_params if p not in collection.chi2_names])
        n_priors, by_name = len(collection.minuslogprior_names), collection.derived_params
        for row, derived in zip(table, np.stack([columns[p] for p in by_name], 1) if by_name else table, strict=True):
            collection.add(
                row[2 : 2 + d],
                logpriors=-row[first + 1 : first + 1 + n_priors],
                loglikes=-0.5 * row[first + 2 + n_priors :],
                derived=derived if by_name else None,
                weight=row[0],
            )
        return collection

    # Files that say how far a run is

    def _write_checkpoint(self, *, converged: bool, n_evaluations: int) -> None:
        if not self.output:
            return
        entry = {"converged": bool(converged), "mpi_size": mpi.size(), "n_evaluations": n_evaluations}
        with replacing(Path(self.checkpoint_filename())) as file:
            file.write(yaml_dump({"sampler": {self.get_name(): entry}}).encode())

    def _write_progress(self, row: Mapping[str, float]) -> None:
        path = Path(self.progress_filename())
        cells = {
            "N": f"{row['n_evaluations']:d}"
            if isinstance(row["n_evaluations"], int)
            else f"{row['n_evaluations']:.0f}",
            "timestamp": datetime.datetime.now().isoformat(),
            "acceptance_rate": f"{row['n_finite'] / row['n_evaluations']:.6g}",
            "Rminus1": f"{row['spread']:.6g}",
            "Rminus1_cl": f"{row['moved']:.6g}",
            "log_evidence": f"{row['log_evidence']:.8g}",
        }
        with open(path, "a", encoding="utf-8") as file:
            if not file.tell():
                file.write("# " + " ".join(f"{name:>15s}" for name in cells)[2:] + "\n")
            file.write(" ".join(f"{cell:>15s}" for cell in cells.values()) + "\n")

    # What scripts ask for

    def samples(self, combined: bool = False, skip_samples: float = 0, to_getdist: bool = False) -> Any:
        """The chain, as Cobaya's collection or GetDist's samples; None on other processes unless combined.

        Args:
            combined: Whether all processes get it.
            skip_samples: Fraction or number of rows to leave out at the beginning: of use to none here.
            to_getdist: Whether to convert it to ``getdist.MCSamples``, on all processes.
        """
        collection = mpi.share_mpi(self._collection) if combined or to_getdist else self._collection
        if collection is None:
            return None
        if skip_samples:
            self.mpi_warning("Rows of this chain are independent draws: none is skipped.")
        return collection.to_getdist(label="surrogate") if to_getdist else collection

    def products(self, combined: bool = False, skip_samples: float = 0, to_getdist: bool = False) -> dict[str, Any]:
        """The chain, the evidence, and the result of `surrogate.infer`."""
        result = self._result  # which all processes have
        return {
            "sample": self.samples(combined, skip_samples, to_getdist),
            "logZ": None if result is None else result.log_evidence,
            "logZstd": None if result is None else result.log_evidence_error,
            "result": result,
        }


def _merged(default: Mapping[str, Any], given: Any, where: str) -> dict[str, Any]:
    """Defaults with what is given in their place.

    Raises:
        ValueError: If something unknown is given.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        msg = f"{where} must be a block of options ({', '.join(default)}), got {given!r}"
        raise ValueError(msg)
    for name in given:
        if name not in default:
            msg = f"unknown option '{name}' in {where}{did_you_mean(str(name), default)} (known: {', '.join(default)})"
            raise ValueError(msg)
    return {**default, **given}
