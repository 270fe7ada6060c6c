"""CosmoSIS: a sampler to be named in its ini file.

    [runtime]
    sampler = surrogate
    import_samplers = /path/to/surrogate/interfaces/cosmosis.py

    [surrogate]
    max_evaluations = 500

Only this module imports CosmoSIS. The surrogate is learned in the unit cube of the priors, so any prior works.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from cosmosis.samplers import ParallelSampler

from surrogate.arrays import Array
from surrogate.inference.result import Result
from surrogate.inference.run import infer
from surrogate.problem.prior import Parameter, Prior

__all__ = ["SurrogateSampler"]


pipeline: Any = None  # global, because CosmoSIS's pools send functions by name and cannot send pipelines


def evaluate(u: Array) -> tuple[float, ...]:
    """Log-likelihood, log-prior and extra outputs at a point of the unit cube; nan if the pipeline raises."""
    results = pipeline.run_results(pipeline.denormalize_vector_from_prior(u))
    extra = np.concatenate([np.ravel(e) for e in results.extra]) if len(results.extra) else np.empty(0)
    return (float(results.like), float(results.prior), *extra.tolist())


def evaluate_or_nan(u: Array) -> tuple[float, ...]:
    """The result of `evaluate`, or nan after an exception, which would end the pool."""
    try:
        return evaluate(u)
    except Exception as error:  # any exception of a module is a failed evaluation
        print(f"surrogate: evaluation failed, {type(error).__name__}: {error}")
        return (np.nan,)


class SurrogateSampler(ParallelSampler):
    """A CosmoSIS sampler that learns a surrogate of the likelihood and samples it by MCMC."""

    parallel_output = False
    internal_resume = True
    sampler_outputs = [("log_weight", float), ("prior", float), ("post", float)]  # noqa: RUF012

    def config(self) -> None:
        """Reads the section [surrogate] of the ini file; a value of 0 or less means the default."""
        global pipeline
        pipeline = self.pipeline
        self.converged = False
        if not self.is_master():
            return
        self.options = {
            "seed": self.read_ini("seed", int, 0),
            "max_evaluations": _positive(self.read_ini("max_evaluations", int, 0)),
            "max_walltime": _positive(self.read_ini("max_walltime", float, 0.0)),
            "batch_size": _positive(self.read_ini("batch_size", int, 0)),
            "n_samples": self.read_ini("n_samples", int, 10_000),
            "reweight": _positive(self.read_ini("reweight", int, 0)),
        }
        self.folder = self.read_ini("output_folder", str, "") or None
        self.resumes = self.read_ini("resume", bool, False)

    def execute(self) -> None:
        """Learns the posterior and writes the chain to CosmoSIS's output."""
        names = [f"p{j}" for j in range(self.pipeline.nvaried)]
        unit_cube = Prior(tuple(Parameter(name, (0.0, 1.0)) for name in names))
        result = infer(
            self._log_likelihoods,
            unit_cube,
            vectorized=True,
            output=self.folder,
            resume="auto" if self.resumes else False,
            executor="serial",
            progress=False,
            **self.options,
        )
        self._write(result)
        self.converged = True

    def _log_likelihoods(self, u: Array) -> tuple[Array, dict[str, Array]]:
        """Log-likelihoods of points u with shape (b, d), through CosmoSIS's pool, with the extra outputs."""
        answers = list((self.pool.map if self.pool else map)(evaluate_or_nan, list(u)))
        width = max(map(len, answers))
        table = np.array([(*a, *[np.nan] * (width - len(a))) for a in answers])
        like = np.where(table[:, 0] <= -1e29, -np.inf, table[:, 0])  # CosmoSIS's mark of an impossible point
        return like, {f"extra_{j}": table[:, 2 + j] for j in range(width - 2)}

    def _write(self, result: Result) -> None:
        for u, weight, like, extra in zip(
            result.samples, result.weights, result.log_posterior - result.log_prior, result.derived, strict=True
        ):
            x = self.pipeline.denormalize_vector_from_prior(u)
            prior = float(self.pipeline.prior(x))
            self.output.parameters(x, extra, np.log(weight), prior, like + prior)
        mark = "" if result.converged else "unconverged_"  # so that nobody mistakes it for the evidence
        self.output.final(f"{mark}log_z", result.log_evidence)
        self.output.final(f"{mark}log_z_error", result.log_evidence_error)
        self.output.final("nsample", len(result.weights))
        self.output.final("neff", float(1.0 / (result.weights**2).sum()))
        self.output.final("efficiency", len(result.weights) / result.n_evaluations)
        self.output.final("n_evaluations", result.n_evaluations)
        self.output.final("status", result.status)

    def is_converged(self) -> bool:
        """Whether the run is over; otherwise CosmoSIS calls ``execute`` again."""
        return self.converged


def _positive(value: float) -> Any:
    return value if value > 0 else None
