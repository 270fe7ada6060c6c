"""What the workers share: loading a problem, counting its calls, and one way to hand the answer back.

A worker runs in the environment of its tool: `worker.py SUITE PROBLEM SEED OUTPUT [--max-evaluations N]`. It writes the
samples to OUTPUT (npz) and prints one line of JSON last. Nothing here needs more than numpy.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a tool makes of a problem; `log_evidence` and `hidden_mode` are None where it gives none."""

    samples: np.ndarray
    weights: np.ndarray | None = None
    log_evidence: float | None = None
    log_evidence_error: float | None = None
    converged: bool | None = None
    hidden_mode: float | None = None
    status: str = ""


class Counted:
    """The log-likelihood of a problem, with its calls and its own CPU seconds counted."""

    def __init__(self, problem: Any) -> None:
        self.loglike = problem.loglike
        self.calls = 0
        self.seconds = 0.0

    def __call__(self, x: np.ndarray) -> float:
        """Log-likelihood of one point, with shape (d,)."""
        return float(self.many(np.asarray(x, dtype=float).reshape(1, -1))[0])

    def many(self, x: np.ndarray) -> np.ndarray:
        """Log-likelihood of points with shape (n, d); n calls."""
        start = time.process_time()
        values = self.loglike(x) if getattr(self.loglike, "vec", False) else np.array([self.loglike(row) for row in x])
        self.seconds += time.process_time() - start
        self.calls += len(x)
        return values


@dataclass(frozen=True, eq=False)
class Prior:
    """The prior of a problem: its own, or uniform between its bounds."""

    problem: Any

    @property
    def _parts(self) -> list[Any]:
        """Bounds, or a frozen distribution of scipy, of each parameter."""
        own = getattr(self.problem, "prior", None)
        return [tuple(ends) for ends in self.problem.bounds] if own is None else list(own.values())

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Points at cumulative probabilities u, both with shape (n, d)."""
        columns = zip(self._parts, u.T, strict=True)
        return np.column_stack([p[0] + (p[1] - p[0]) * v if isinstance(p, tuple) else p.ppf(v) for p, v in columns])

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws, with shape (n, d)."""
        return self.quantile(rng.random((n, self.problem.d)))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Normalised log density at points with shape (n, d)."""
        out = np.zeros(len(x))
        for part, column in zip(self._parts, x.T, strict=True):
            if isinstance(part, tuple):
                out += np.where((column >= part[0]) & (column <= part[1]), -np.log(part[1] - part[0]), -np.inf)
            else:
                with np.errstate(all="ignore"):
                    out += part.logpdf(column)
        return out


def load_module(path: Path) -> ModuleType:
    """A module from its file."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        msg = f"expected a Python file, got {path}"
        raise ValueError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def problems_file(suite: Path) -> Path:
    """The file with the problems of a suite: `problems.py` of a folder, or the file itself."""
    return suite / "problems.py" if suite.is_dir() else suite


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("suite", type=Path)
    parser.add_argument("problem")
    parser.add_argument("seed", type=int)
    parser.add_argument("output", type=Path)
    parser.add_argument("--max-evaluations", type=int)
    return parser.parse_args()


def work(run: Callable[[Any, Counted, int, int | None], Outcome]) -> None:
    """Runs `run(problem, log_likelihood, seed, max_evaluations)` on what the command line names, and answers."""
    arguments = _arguments()
    problem = load_module(problems_file(arguments.suite)).get(arguments.problem)
    log_likelihood = Counted(problem)
    cpu, wall = time.process_time(), time.perf_counter()
    outcome = run(problem, log_likelihood, arguments.seed, arguments.max_evaluations)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    weights = np.ones(len(outcome.samples)) if outcome.weights is None else outcome.weights
    np.savez(arguments.output, samples=outcome.samples, weights=weights)
    answer = {
        "evaluations": log_likelihood.calls,
        "cpu": cpu - log_likelihood.seconds,
        "wall": wall,
        "log_evidence": outcome.log_evidence,
        "log_evidence_error": outcome.log_evidence_error,
        "converged": outcome.converged,
        "hidden_mode": outcome.hidden_mode,
        "status": outcome.status,
    }
    print(json.dumps(answer), flush=True)
