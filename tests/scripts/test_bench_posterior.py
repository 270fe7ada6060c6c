"""The benchmark runs on any folder that follows its conventions."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench_posterior.py"

sys.path.insert(0, str(SCRIPT.parent))
from bench_posterior import Run, Suite, calibration, chosen  # noqa: E402

PROBLEMS = """
from dataclasses import dataclass, field
import numpy as np

@dataclass(frozen=True)
class Problem:
    name: str
    logz: float = -np.log(400.0)
    d: int = 2
    bounds: np.ndarray = field(default_factory=lambda: np.array([[-10.0, 10.0], [-10.0, 10.0]]))

    def loglike(self, x):
        if self.name == "broken":
            raise SystemExit("out of order")
        return -0.5 * float(x @ x) - np.log(2 * np.pi)

PUBLIC = ("normal", "broken")
get = Problem
"""

METRICS = """
import numpy as np

def compare(problem, samples, weights, logz):
    mean = np.average(samples, axis=0, weights=weights)
    return {"gskl": float(mean @ mean), "mmtv": 0.0, "dlogz": logz - problem.logz}
"""


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "problems.py").write_text(PROBLEMS)
    (tmp_path / "metrics.py").write_text(METRICS)
    return tmp_path


def bench(suite, *words):
    command = [sys.executable, str(SCRIPT), str(suite), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_one_that_works_and_one_that_does_not(suite):
    done = bench(suite, "--seeds", "1", "--output", str(suite / "runs.csv"))
    assert done.returncode == 0, done.stderr
    normal, broken = csv.DictReader((suite / "runs.csv").read_text().splitlines())
    assert (normal["problem"], normal["solved"], normal["converged"]) == ("normal", "True", "True")
    assert 6 <= int(normal["evaluations"]) < 60
    assert abs(float(normal["dlogz"])) < 0.2
    assert float(normal["cpu"]) > 0
    assert 0.0 < float(normal["hidden_mode"]) < 0.3
    assert broken["status"].endswith("out of order")
    assert "| normal | surrogate |" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("| 0/1 |")


@pytest.mark.slow
def test_own_targets_need_no_folder():
    command = [sys.executable, str(SCRIPT), "--problems", "gaussian2", "--seeds", "2-2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert first.startswith("gaussian2")
    assert first.endswith("claimed, solved")
    assert last.endswith("| 1/1 | 0 | 1/1 |")


@pytest.mark.slow
def test_an_unknown_problem_is_refused(suite):
    done = bench(suite, "--problems", "normal,nowhere")
    assert done.returncode != 0
    assert "got 'nowhere'" in done.stderr


def test_a_folder_without_problems_is_refused(tmp_path):
    done = bench(tmp_path)
    assert done.returncode != 0
    assert "expected a Python file" in done.stderr


def test_peers_and_interpreters_must_match(suite):
    done = bench(suite, "--peer", "emcee", "--peer-python", "a", "--peer-python", "b")
    assert done.returncode == 2
    assert "one for each --peer, got 2" in done.stderr


def test_claims_are_counted_by_what_they_state():
    """A run without a claim, and one of a tool that states no probability, count nowhere."""
    stated = [(0.01, True, True), (0.03, True, False), (0.04, True, True), (0.03, False, False), (None, True, False)]
    runs = [Run("one-1", "surrogate", 1, converged=c, hidden_mode=p, solved=s) for p, c, s in stated]
    rows = calibration(runs).splitlines()[2:]
    assert rows[0] == "| 0% to 2% | 1 | 1.0% | 0/1 (0.0%) |"
    assert rows[1] == "| 2% to 5% | 2 | 3.5% | 1/2 (50.0%) |"
    assert rows[3] == "| 10% to 100% | 0 | - | - |"


def test_a_random_posterior_may_have_any_number():
    suites = [Suite.of(SCRIPT.parent / folder) for folder in ("generated", "targets")]
    found = chosen(suites, ["several-1234", "gaussian2"])
    assert [owner.folder.name for owner, _ in found] == ["generated", "targets"]
    with pytest.raises(ValueError, match="problem must be one of angle"):
        chosen(suites, ["no such problem"])
