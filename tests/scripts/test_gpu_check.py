"""The check of everything that has a device runs, at tiny sizes, without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment(), check=False)


def environment():
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_the_linear_algebra_is_as_wanted_on_the_cpu():
    done = run("--device", "cpu", "--only", "cholesky,million,half,cg,preconditioner,svd,selection,fused")
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


def test_names_that_it_does_not_know_are_refused():
    done = run("--device", "cpu", "--only", "nothing")
    assert done.returncode == 2
    assert "--only takes names of" in done.stderr
