"""A finished run made by hand: a correlated normal in two parameters, one of them cut by the prior."""

from dataclasses import dataclass, fields

import numpy as np

from surrogate.inference.result import Result
from surrogate.output.record import Evidence, Record
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.samplers.samples import Samples

MEAN = np.array([0.3, 67.4])
COVARIANCE = np.array([[0.01, 0.03], [0.03, 0.25]])
BOUNDS = np.array([[0.0, 1.0], [-np.inf, np.inf]])


def log_likelihood(x):
    residual = np.atleast_2d(x) - MEAN
    return -0.5 * np.einsum("ni,ij,nj->n", residual, np.linalg.inv(COVARIANCE), residual)


@dataclass(frozen=True)
class Emulator:
    """Exact, with the prior 1 on the box of the first parameter times exp(-|b| / 100) / 200 in the second."""

    def predict(self, x):
        return log_likelihood(x), 0.1 * np.ones(len(x))

    def log_prior(self, x):
        inside = (x[:, 0] >= 0) & (x[:, 0] <= 1)
        return np.where(inside, -np.abs(x[:, 1]) / 100 - np.log(200), -np.inf)


def dataset(n=30, seed=0):
    """n evaluations of which some are infeasible and one failed, in an initial design of 10 and batches of 5."""
    rng = np.random.default_rng(seed)
    data = Dataset.empty(2)
    for step, first in enumerate(range(0, n, 5), start=-1):
        x = MEAN + rng.standard_normal((min(5, n - first), 2)) * [0.3, 1.5] * (0.8 ** max(step, 0))
        data = data.append(x, [evaluation(point, first + i) for i, point in enumerate(x)], max(step, 0))
    return data


def evaluation(x, index):
    if index == 7:
        return Evaluation.failure("RuntimeError: no convergence after 1000 iterations <solver.py>", seconds=2.5)
    if x[0] < 0:
        return Evaluation(-np.inf, "infeasible", {}, 0.0, "", 0.01, "worker")
    return Evaluation(float(log_likelihood(x)[0]), "ok", {}, 0.0, "", 1.25 + 0.01 * index, "worker")


def trace(data, rows=5):
    return tuple(
        {
            "step": float(step),
            "n_evaluations": float(5 + 5 * step),
            "n_finite": float(data.head(5 + 5 * step).finite.sum()),
            "best": data.head(5 + 5 * step).y_max,
            "log_evidence": -6.2 + 0.5 / step,
            "log_evidence_error": 0.3 / step,
            "spread": np.inf if step == 1 else 2.0 / step**2,
            "warm_spread": np.inf if step == 1 else 4.0 / step**2,
            "evidence_spread": np.inf if step == 1 else 0.4 / step,
            "batch_error": 3.0 / step,
            "moved": np.nan if step == 1 else 1.0 / step**3,
            "infeasible": 0.0,
            "ess": 1000.0,
        }
        for step in range(1, rows + 1)
    )


def result(n=4000, **changes):
    rng = np.random.default_rng(1)
    samples = rng.multivariate_normal(MEAN, COVARIANCE, size=2 * n)
    samples = samples[samples[:, 0] > 0][:n]
    weights = np.exp(0.3 * rng.standard_normal(n))
    data = dataset()
    log_prior = Emulator().log_prior(samples)
    values = {
        "names": ("omega", "H0"),
        "labels": (r"\Omega_m", "H_0"),
        "bounds": BOUNDS,
        "samples": samples,
        "weights": weights / weights.sum(),
        "log_posterior": log_likelihood(samples) + log_prior,
        "log_prior": log_prior,
        "derived": samples[:, :1] * (samples[:, 1:] / 100) ** 2,
        "derived_names": ("omega h2",),
        "log_evidence": -6.1234,
        "log_evidence_error": 0.0712,
        "converged": True,
        "status": "draws of the surrogate agree and the last batch moved nothing",
        "n_evaluations": len(data),
        "data": data,
        "trace": trace(data),
        "emulator": Emulator(),
        "surrogate_error": {"mean": np.array([0.002, 0.01]), "sd": np.array([0.02, 0.03])},
        "sampler": {"autocorrelation_time": 4.0, "ess": 1000.0, "acceptance": 0.6},
    }
    values |= changes
    values["x"] = values.pop("samples")
    emulator, data = values.pop("emulator"), values["data"]
    evidence = Evidence(values.pop("log_evidence"), values.pop("log_evidence_error"), values.pop("evidence", None))
    names = [field.name for field in fields(Samples)]
    draws = Samples(**{name: values.pop(name) for name in names if name in values})
    record = Record(log_prior=Emulator().log_prior(data.x), **values)
    return Result(draws, evidence, record, emulator)


def parts(result):
    """What the functions of `surrogate.output` take."""
    return result.draws, result.evidence, result.record
