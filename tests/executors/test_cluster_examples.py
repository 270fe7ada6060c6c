"""The examples for clusters, as far as they run on one machine."""

import importlib.util
import shutil
import subprocess
import sys

import pytest

from tests.inference.test_parallel import ENVIRONMENT, MPIRUN, ROOT, with_mpi

EXAMPLES = ROOT / "examples" / "cluster"


def output_of(words, folder):
    done = subprocess.run(words, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@with_mpi
def test_mpi(tmp_path):
    assert "calls of the likelihood" in output_of(
        [MPIRUN, "-n", "2", sys.executable, str(EXAMPLES / "mpi.py")], tmp_path
    )


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="distributed is not installed")
def test_dask(tmp_path):
    assert "calls of the likelihood" in output_of([sys.executable, str(EXAMPLES / "with_dask.py")], tmp_path)


@pytest.mark.slow
def test_files(tmp_path):
    words = [sys.executable, str(EXAMPLES / "by_files.py")]
    asking = subprocess.Popen(words, cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    try:
        answering = subprocess.Popen([*words, "answer"], cwd=tmp_path, env=ENVIRONMENT)
        out, _ = asking.communicate(timeout=1200)
        assert answering.wait(600) == 0
    finally:
        for process in (asking, answering):
            process.kill()
            process.wait()
    assert asking.returncode == 0
    assert "calls of the likelihood" in out
    assert not list((tmp_path / "runs" / "questions" / "ask").iterdir())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_the_job_file_is_correct_bash():
    done = subprocess.run(["bash", "-n", str(EXAMPLES / "slurm.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_all_are_short():
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 60 for path in EXAMPLES.iterdir() if path.is_file())
