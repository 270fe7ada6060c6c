"""The page of public collections says of its runs what their records say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "report_third_party.py"

PROBLEMS = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Problem:
    name: str
    d: int = 2
    hard: str = "a | b"

ALL = {"normal": None, "ring": None, "spike": None}
get = Problem
"""

RUN = {
    "problem": "normal",
    "tool": "surrogate",
    "seed": 1,
    "evaluations": 20,
    "gskl": 0.01,
    "pull": -0.5,
    "cpu": 3.0,
    "converged": True,
    "solved": True,
    "status": "converged",
    "commit": "abc",
    "day": "2026-01-02",
    "max_evaluations": 250,
    "timeout": None,
}
CUT = {"evaluations": None, "gskl": None, "pull": None, "cpu": None, "converged": None, "solved": False}


@pytest.fixture
def page(tmp_path):
    def written(*runs):
        (tmp_path / "problems.py").write_text(PROBLEMS, encoding="utf-8")
        (tmp_path / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs), encoding="utf-8")
        places = [tmp_path / name for name in ("problems.py", "runs.jsonl", "page.md")]
        subprocess.run([sys.executable, str(SCRIPT), *map(str, places)], check=True)
        return places[-1].read_text(encoding="utf-8")

    return written


def test_counts_and_conditions(page):
    text = page(
        RUN,
        RUN | {"seed": 2, "evaluations": 24, "day": "2026-01-03"},
        RUN | {"problem": "ring", "solved": False, "gskl": 0.2},
        RUN | {"problem": "ring", "seed": 2, **CUT, "status": "cut off after 9 s"},
    )
    assert "**Solved 2 of 4 runs; 1 of 3 claims false; 1 of 2\nproblems solved with every seed.**" in text
    assert "between 2026-01-02 and 2026-01-03 with commit abc, with at most 250 calls each" in text
    assert "1 of 4 were cut off" in text
    assert "Not run: spike." in text
    assert "| normal | 2 | a \\| b | 1, 2 | 22 (20-24) | 0.01 | 0.5 | 3 | 2/2 | solved 2/2 |" in text
    assert "solved 0/2, **1 false**, cut off after 9 s" in text
    assert "Other tools" not in text


def test_the_last_record_of_a_run_counts(page):
    text = page(RUN | {"solved": False}, RUN | {"evaluations": 30})
    assert "**Solved 1 of 1 runs; 0 of 1 claims false; 1 of 1\n" in text
    assert "| 30 |" in text


def test_peers_have_a_table_of_their_own(page):
    text = page(RUN, RUN | {"tool": "emcee", "evaluations": 16000, "converged": None})
    assert "**Solved 1 of 1 runs" in text
    assert "| normal | emcee | 16000 | 0.01 | 3 | solved 1/1 |" in text
