"""The examples run from beginning to end, warnings being errors, and stay short."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

import surrogate
from surrogate.cli.main import main

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PROGRAMS = sorted(EXAMPLES.glob("*.py"))
LONG = {
    "by_name",
    "classify",
    "desi",
    "export",
    "failing_points",
    "gradients",
    "label_by_hand",
    "observables",
    "which_model",
}  # run with -m slow
SHORTENED = {"quickstart"}  # run with a small budget too
CONVERGING = {"by_name", "desi", "gradients", "quickstart"}  # and say so
TOLD = {
    "label_": "labels; ",
    "longitudinal": "log evidence",
    "": "calls of the likelihood",
}  # by the beginning of a name
FILES = [EXAMPLES / "desi.yaml"]  # the others are for other programs


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a program in a folder of its own and gives what it printed."""
    monkeypatch.chdir(tmp_path)

    def printed(path):
        monkeypatch.setattr(sys, "argv", [str(path)])
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return printed


@pytest.mark.parametrize("path", [p for p in PROGRAMS if p.stem in SHORTENED], ids=lambda path: path.stem)
def test_program_runs_with_a_small_budget(path, run, monkeypatch):
    infer = surrogate.infer
    monkeypatch.setattr(surrogate, "infer", lambda *of, **by: infer(*of, **by, max_evaluations=12, n_samples=300))
    assert "12 calls of the likelihood" in run(path)


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG | SHORTENED), id=p.stem) for p in PROGRAMS]
)
def test_program_runs(path, run):
    printed = run(path)
    assert next(words for stem, words in TOLD.items() if path.stem.startswith(stem)) in printed
    if path.stem in CONVERGING:
        assert re.search(r"^converged|, converged: True$", printed, flags=re.MULTILINE)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_runs(path, tmp_path, monkeypatch, capsys):
    """Only its beginning, which the exit status tells: the programs beside it show whole runs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("surrogate.output.report.report_html", lambda *_, **__: "")  # that of the program beside it
    run = ["run", str(path), "-o", str(tmp_path / "run")]
    assert main([*run, "--max-evaluations", "11"]) == 3
    assert main([*run, "--max-evaluations", "12"]) == 3
    assert "11 evaluations so far" in capsys.readouterr().err
    assert main(["status", str(tmp_path / "run")]) == 0
    assert "12" in capsys.readouterr().out


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_is_short(path):
    assert path.is_dir() or len(path.read_text(encoding="utf-8").splitlines()) < 60
