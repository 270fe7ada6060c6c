"""The check of everything that has a device runs, at tiny sizes, without one."""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_the_linear_algebra_is_as_wanted_on_the_cpu():
    done = run("--device", "cpu", "--only", "triton,cholesky,million,half,cg,preconditioner,svd,selection,fused")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 not as wanted" in done.stdout
    assert "not run: needs CUDA and Triton" in done.stdout
    assert done.stdout.count("| ok |") >= 12


@pytest.mark.slow
def test_every_part_is_there():
    done = run("--device", "cpu")
    assert "missing" not in done.stdout
    assert "failed" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_names_that_it_does_not_know_are_refused():
    done = run("--device", "cpu", "--only", "nothing")
    assert done.returncode == 2
    assert "--only takes names of" in done.stderr


@pytest.mark.slow
def test_a_check_that_takes_too_long_is_killed_and_the_others_run():
    done = run("--device", "cpu", "--only", "triton,million,svd", "--limit", "0")
    assert "| million | million | killed: longer than its limit or than the budget |" in done.stdout
    assert "| svd |   residual of the first five, relative |" in done.stdout
    assert done.returncode == 1


@pytest.fixture
def script(monkeypatch):
    path = ROOT / "scripts" / "gpu_check.py"
    spec = importlib.util.spec_from_file_location("gpu_check", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_check", module)
    spec.loader.exec_module(module)
    return module


ROW = """{"quantity": "q", "value": "1", "wanted": "", "good": null}"""


@pytest.mark.parametrize(
    ("status", "rest", "bad"),
    [(3, ["b", "c"], 0), (-9, ["c"], 1)],
    ids=["a device that is broken after a check", "a crash in the next check"],
)
def test_a_process_that_ends_is_followed_by_another(script, monkeypatch, tmp_path, capsys, status, rest, bad):
    ending = "os.kill(os.getpid(), 9)" if status == -9 else f"os._exit({status})"
    (tmp_path / "child.py").write_text(f"import os\nprint('''{ROW}''')\nprint(flush=True)\n{ending}\n")
    monkeypatch.setattr(script, "__file__", str(tmp_path / "child.py"))
    report = script.Report()
    assert script.run_in_child("cpu", ["a", "b", "c"], report, 60.0, time.perf_counter() + 60.0) == rest
    assert report.bad == bad
    printed = capsys.readouterr().out
    assert "| a | q | 1 |" in printed
    assert ("| b | b | its process ended with status -9 |" in printed) == bool(bad)
