"""Whole runs with several workers: the same numbers for any number of them, and every way in which a run may end."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from surrogate.storage.folder import RunFolder
from tests.executors.program import TARGETS

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "executors" / "program.py"
BESIDE = Path(sys.executable).parent / "mpirun"
MPIRUN = str(BESIDE) if BESIDE.exists() else shutil.which("mpirun")
with_mpi = pytest.mark.skipif(
    MPIRUN is None or importlib.util.find_spec("mpi4py") is None, reason="mpi4py or mpirun is not installed"
)
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def command(target, ranks=None, seconds=0.0, bad=0.0, fail_rank=-1, **options):
    words = [sys.executable, str(PROGRAM), target, f"--seconds={seconds}", f"--bad={bad}", f"--fail-rank={fail_rank}"]
    words.append(f"--options={json.dumps(options)}")
    return words if ranks is None else [MPIRUN, "-n", str(ranks), *words]


def start(*args, **kwargs):
    return subprocess.Popen(
        command(*args, **kwargs),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process, timeout=1200):
    """What each rank printed, the exit code and standard error."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"it hung: {out} {err}")
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")], process.returncode, err


def finished(*args, **kwargs):
    rows, code, err = ended(start(*args, **kwargs))
    assert code == 0, err
    return rows


def journalled(path):
    return RunFolder(path).journal.read()


def wait_for_lines(path, n, seconds=600.0):
    """Waits until so many evaluations are on disk."""
    end = time.monotonic() + seconds
    journal = Path(path) / "evaluations.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < n:
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def close(row, target):
    exact = TARGETS[target]()
    return np.all(np.abs(np.array(row["mean"]) - exact.mean) < 0.25 * np.sqrt(np.diag(exact.covariance)))


# The same numbers


@pytest.fixture(scope="module")
def serial_gauss2():
    return finished("gauss2")[0]


@pytest.mark.parametrize("executor", ["threads:3", "processes:3"])
def test_the_same_evaluations_from_local_executors(executor, serial_gauss2):
    assert finished("gauss2", executor=executor, mode="sync")[0]["sha"] == serial_gauss2["sha"]


@with_mpi
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_same_evaluations_from_mpirun_and_the_result_on_all_ranks(ranks, serial_gauss2):
    rows = finished("gauss2", ranks, mode="sync")
    assert sorted(row["rank"] for row in rows) == list(range(ranks))
    assert {row["sha"] for row in rows} == {serial_gauss2["sha"]}
    assert all(row["predicted"] == rows[0]["predicted"] for row in rows)


@pytest.mark.slow
@with_mpi
@pytest.mark.parametrize("target", ["gauss4", "ring", "forbidden4"])
def test_the_same_evaluations_from_everything(target):
    shas = {finished(target)[0]["sha"]}
    shas |= {finished(target, executor=executor, mode="sync")[0]["sha"] for executor in ("threads:3", "processes:3")}
    shas |= {row["sha"] for ranks in (1, 2, 4) for row in finished(target, ranks, mode="sync")}
    assert len(shas) == 1


# Deaths


@with_mpi
def test_an_exception_on_one_rank_ends_the_job_with_its_traceback():
    rows, code, err = ended(start("gauss2", 3, fail_rank=1, seconds=0.1))
    assert code != 0
    assert "Traceback" in err
    assert not rows


@with_mpi
def test_a_signal_ends_a_job_that_can_be_continued(tmp_path, serial_gauss2):
    process = start("gauss2", 4, seconds=2.0, output=str(tmp_path), mode="sync")
    wait_for_lines(tmp_path, 8)
    process.send_signal(signal.SIGUSR1)
    rows, code, err = ended(process)
    if code == 0:
        assert all(row["interrupted"] and not row["converged"] for row in rows)
        assert all("SIGUSR1" in row["status"] for row in rows)
        assert (tmp_path / "chain.txt").exists()
    else:
        assert rows
        assert all("SIGUSR1" in row["unfinished"] for row in rows), err
    assert (tmp_path / "state.npz").exists()
    again = finished("gauss2", 2, output=str(tmp_path), mode="sync")[0]
    assert again["converged"]
    assert again["sha"] == serial_gauss2["sha"]


def test_sigterm_in_the_middle_of_a_call(tmp_path):
    process = start("gauss2", seconds=3600.0, output=str(tmp_path))
    end = time.monotonic() + 600
    while not (tmp_path / "state.npz").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    rows, code, err = ended(process)
    assert code == 4, err
    assert "SIGTERM" in rows[0]["unfinished"]


def test_wall_time(tmp_path):
    rows, code, err = ended(start("gauss2", seconds=0.6, output=str(tmp_path), max_walltime=5.0))
    if code == 0:
        assert rows[0]["interrupted"]
        assert not rows[0]["converged"]
        assert "wall time of 5 s" in rows[0]["status"]
    else:  # a busy machine: too little had come back for a surrogate
        assert code == 4, err
        assert "wall time of 5 s" in rows[0]["unfinished"]
    assert finished("gauss2", output=str(tmp_path))[0]["converged"]


def killed_again_and_again(path, ranks, kills, rng, target="gauss4", **options):
    """Runs and kills whole jobs at random times, each after new evaluations; checks the files after each death.

    A run that ends between two kills must have converged, and the next one begins in another folder. The last is let
    through.
    """
    seen, folder = {}, path / "0"
    for kill in range(kills):
        process = start(target, ranks[kill % len(ranks)], output=str(folder), **options)
        wait_for_more(process, folder, len(seen))
        time.sleep(rng.uniform(0.0, 2.0))
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.killpg(process.pid, signal.SIGKILL)
        rows, _, _ = ended(process)
        end_of_ranks(folder)
        records = journalled(folder)
        now = {r.x.tobytes(): r.evaluation.y for r in records}
        assert len(now) == len(records)
        assert seen.items() <= now.items()
        seen = now
        if rows:
            assert rows[0]["converged"]
            seen, folder = {}, path / str(kill + 1)
    return finished(target, ranks[0], output=str(folder), **options)[0], seen


def wait_for_more(process, folder, before, seconds=600.0):
    """Waits until there are more evaluations than before, or the run has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and len(journalled(folder)) <= before:
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


def end_of_ranks(path):
    """Ranks whose mpirun was killed end a little later; the lock says when."""
    end = time.monotonic() + 600
    while True:
        try:
            with RunFolder(path).create():
                return
        except RuntimeError:
            assert time.monotonic() < end
            time.sleep(0.2)


@pytest.mark.slow
@with_mpi
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_kills(tmp_path, mode, rng):
    row, seen = killed_again_and_again(tmp_path, (4, 2, 3), 15, rng, mode=mode, seconds=0.3)
    assert row["converged"]
    assert close(row, "gauss4")
    assert len(seen) <= row["n"]


@with_mpi
def test_a_kill(tmp_path, rng, serial_gauss2):
    row, _ = killed_again_and_again(tmp_path, (3, 2), 2, rng, "gauss2", mode="sync", seconds=0.5)
    assert row["converged"]
    assert row["sha"] == serial_gauss2["sha"]


# Misbehaviour


def test_a_likelihood_that_does_everything_wrong(tmp_path):
    options = {"isolate": True, "max_eval_seconds": 4.0, "output": str(tmp_path), "executor": "threads:2"}
    row = finished("gauss4", bad=0.03, mode="sync", **options)[0]
    assert row["converged"]
    assert close(row, "gauss4")
    reasons = [r.evaluation.reason for r in journalled(tmp_path) if r.evaluation.status == "failed"]
    assert row["failed"] == len(reasons) > 0
    known = ("it failed", "NaN", "time-out", "SIGSEGV", "exit code 7")
    assert all(any(word in reason for word in known) for reason in reasons)


@with_mpi
def test_a_crash_without_isolation_ends_the_job_and_restarts(tmp_path):
    rows, code, _ = ended(start("gauss2", 2, bad=0.04, output=str(tmp_path)))
    assert code != 0
    assert not rows
    end_of_ranks(tmp_path)
    row = finished("gauss2", 2, bad=0.04, output=str(tmp_path), isolate=True, max_eval_seconds=4.0)[0]
    assert row["converged"]


# Asynchronous


@pytest.mark.parametrize("executor", ["threads:6", pytest.param("processes:2", marks=pytest.mark.slow)])
def test_asynchronous(executor, tmp_path):
    row = finished("gauss4", seconds=0.02, executor=executor, mode="async", output=str(tmp_path))[0]
    assert row["converged"]
    assert close(row, "gauss4")
    records = journalled(tmp_path)
    assert len({r.x.tobytes() for r in records}) == len(records) <= row["n"]


@with_mpi
def test_asynchronous_over_ranks(tmp_path):
    rows = finished("gauss4", 3, seconds=0.05, mode="async", output=str(tmp_path))
    assert rows[0]["converged"]
    assert close(rows[0], "gauss4")
    workers = {r.evaluation.worker for r in journalled(tmp_path)}
    assert len(workers) == 3  # rank 0 among them
