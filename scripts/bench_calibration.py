"""Simulation-based calibration of whole runs: parameters from the prior, data from the model, the posterior by a run.

If runs are right, the rank of a true parameter among the draws of its posterior is uniform (Talts et al. 2018,
arXiv:1804.06788). Given the exact probability p below the true value it is binomial, a much sharper test, because the
scatter of the true values drops out. Two models whose posterior and evidence are exact:

    means     five data with unknown means (a, b) and a known covariance, a, b ~ N(0, 2): conjugate
    spread    ten data with unknown mean and log sd, mean ~ N(0, 2), log sd ~ N(0, 0.7): skewed, of very different width

    python scripts/bench_calibration.py --model means --runs 200 --output calibration.jsonl

Each run is a line of the output file; the same command again continues there, and prints the tables of all lines.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from scipy.special import logsumexp

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import surrogate

RANKED = 99  # draws among which a true value has its rank, so that there are 100 ranks
BINS = 10
NODES = 4000  # of the quadrature over the sd


@dataclass(frozen=True, eq=False)
class Means:
    """True means, with shape (2,), and data with a known covariance, with shape (5, 2)."""

    truth: np.ndarray
    data: np.ndarray

    names = ("a", "b")
    prior = {name: stats.norm(0.0, 2.0) for name in names}
    covariance = np.array([[1.0, 0.6], [0.6, 0.5]])
    n_data = 5

    @classmethod
    def of(cls, seed):
        """Parameters from the prior and data from the model."""
        rng = np.random.default_rng([20240607, seed])
        truth = 2.0 * rng.standard_normal(2)
        return cls(truth, rng.multivariate_normal(truth, cls.covariance, size=cls.n_data))

    def log_likelihood(self, x):
        """The log-likelihood at x with shape (..., 2)."""
        x = np.asarray(x)
        residual = self.data - x[..., None, :]
        square = np.einsum("...ni,ij,...nj->...", residual, np.linalg.inv(self.covariance), residual)
        return -0.5 * square - 0.5 * self.n_data * np.linalg.slogdet(2.0 * np.pi * self.covariance)[1]

    def log_evidence(self):
        """The log evidence: the data are jointly normal."""
        covariance = np.kron(np.eye(self.n_data), self.covariance)
        covariance += 4.0 * np.kron(np.ones((self.n_data, self.n_data)), np.eye(2))
        return float(stats.multivariate_normal.logpdf(self.data.ravel(), cov=covariance))

    def probabilities(self):
        """Posterior probability below each true value, with shape (2,)."""
        precision = np.linalg.inv(self.covariance)
        covariance = np.linalg.inv(self.n_data * precision + 0.25 * np.eye(2))
        mean = covariance @ precision @ self.data.sum(0)
        return stats.norm.cdf(self.truth, mean, np.sqrt(np.diag(covariance)))


@dataclass(frozen=True, eq=False)
class Spread:
    """A true mean and log sd, with shape (2,), and data, with shape (10,)."""

    truth: np.ndarray
    data: np.ndarray

    names = ("mean", "log_sd")
    prior = {"mean": stats.norm(0.0, 2.0), "log_sd": stats.norm(0.0, 0.7)}
    n_data = 10

    @classmethod
    def of(cls, seed):
        """Parameters from the prior and data from the model."""
        rng = np.random.default_rng([20240608, seed])
        truth = rng.standard_normal(2) * [2.0, 0.7]
        return cls(truth, truth[0] + np.exp(truth[1]) * rng.standard_normal(cls.n_data))

    def log_likelihood(self, x):
        """The log-likelihood at x with shape (..., 2)."""
        mean, log_sd = np.moveaxis(np.asarray(x), -1, 0)
        square = self.n_data * (self.data.var() + (self.data.mean() - mean) ** 2)
        return -self.n_data * (log_sd + 0.5 * np.log(2.0 * np.pi)) - 0.5 * square * np.exp(-2.0 * log_sd)

    def log_evidence(self):
        """The log evidence: exact over the mean, by quadrature in quantiles over the sd."""
        return float(logsumexp(self._given_sd()[2]) - np.log(NODES))

    def probabilities(self):
        """Posterior probability below each true value, with shape (2,)."""
        log_sd, error, log_weight = self._given_sd()
        weight = np.exp(log_weight - logsumexp(log_weight))
        precision = error**-2 + 0.25
        below = stats.norm.cdf(self.truth[0], self.data.mean() * error**-2 / precision, precision**-0.5)
        return np.array([weight @ below, weight @ (log_sd < self.truth[1])])

    def _given_sd(self):
        """Log sds with equal prior probability, the error of the mean given each, and the log evidence given each."""
        log_sd = self.prior["log_sd"].ppf((np.arange(NODES) + 0.5) / NODES)
        error = np.exp(log_sd) / np.sqrt(self.n_data)
        peak = np.stack([np.full(NODES, self.data.mean()), log_sd], -1)
        given_sd = self.log_likelihood(peak) + 0.5 * np.log(2.0 * np.pi) + np.log(error)
        return log_sd, error, given_sd + stats.norm.logpdf(self.data.mean(), 0.0, np.hypot(error, 2.0))


MODELS = {"means": Means, "spread": Spread}


def measured(model, seed):
    """The ranks of the true parameters in a run, its evidence, and what it took."""
    trial, began = model.of(seed), time.process_time()
    options = {"seed": seed, "n_samples": 400, "max_evaluations": 80, "progress": False}
    result = surrogate.infer(lambda x: float(trial.log_likelihood(x)), model.prior, **options)
    rows = np.linspace(0, len(result.samples) - 1, RANKED).round().astype(int)
    return {
        "seed": seed,
        "ranks": (result.samples[rows] < trial.truth).sum(0).tolist(),
        "error": result.log_evidence - trial.log_evidence(),
        "stated": result.log_evidence_error,
        "converged": bool(result.converged),
        "evaluations": result.n_evaluations,
        "cpu": time.process_time() - began,
    }


def counts_of(ranks):
    """Number of ranks in each tenth."""
    return np.bincount(np.asarray(ranks) * BINS // (RANKED + 1), minlength=BINS)


def uniformity(ranks):
    """Chi-squared of the ranks, with shape (n,), in ten bins, and the probability of a larger one."""
    return stats.chisquare(counts_of(ranks))


def standardised(ranks, probabilities):
    """Ranks minus their expectations given the exact probabilities, in standard deviations."""
    p = np.clip(probabilities, 1e-6, 1.0 - 1e-6)
    return (np.asarray(ranks) - RANKED * p) / np.sqrt(RANKED * p * (1.0 - p))


def tables(model, rows):
    """Uniformity of the ranks, and errors of the evidence."""
    lines = ["| parameter | runs in each tenth of the ranks | chi-squared, 9 degrees | p | rank given p: mean, rms |"]
    lines.append("|---" * 5 + "|")
    exact = np.array([model.of(row["seed"]).probabilities() for row in rows])
    for column, name in enumerate(model.names):
        ranks = [row["ranks"][column] for row in rows]
        words, test, z = " ".join(map(str, counts_of(ranks))), uniformity(ranks), standardised(ranks, exact[:, column])
        cells = (name, words, f"{test.statistic:.1f}", f"{test.pvalue:.2f}")
        lines.append(f"| {' | '.join(cells)} | {z.mean():+.2f}, {np.sqrt(np.mean(z**2)):.2f} |")
    error, stated = (np.array([row[name] for row in rows]) for name in ("error", "stated"))
    z = error / stated
    cells = {
        "runs": len(rows),
        "claims of convergence": sum(row["converged"] for row in rows),
        "evaluations (median)": f"{np.median([row['evaluations'] for row in rows]):.0f}",
        "CPU s (median)": f"{np.median([row['cpu'] for row in rows]):.1f}",
        "log evidence: mean error": f"{error.mean():+.4f}",
        "rms error": f"{np.sqrt(np.mean(error**2)):.4f}",
        "stated (median)": f"{np.median(stated):.4f}",
        "rms of error / stated": f"{np.sqrt(np.mean(z**2)):.2f}",
        "within 3 stated errors": f"{np.mean(np.abs(z) < 3.0):.1%}",
    }
    row = " | ".join(str(value) for value in cells.values())
    return "\n".join([*lines, "", f"| {' | '.join(cells)} |", "|---" * len(cells) + "|", f"| {row} |"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="means")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--output", type=Path, required=True, help="file with a line for each run")
    options = parser.parse_args()
    model = MODELS[options.model]
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    rows = [json.loads(line) for line in lines]
    for seed in sorted(set(range(options.runs)) - {row["seed"] for row in rows}):
        rows.append(measured(model, seed))
        with options.output.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    print(tables(model, rows))


if __name__ == "__main__":
    main()
