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
from tests import processes
from tests.executors import program

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "executors" / "program.py"
EVALUATIONS = ROOT / "tests" / "executors" / "ranks_program.py"
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


class Job:
    """One or several runs on the ranks of mpirun: the arguments of `program.run` for each."""

    def __init__(self, ranks, *runs, program=PROGRAM):
        self._process = subprocess.Popen(
            [MPIRUN, "-n", str(ranks), sys.executable, str(program), *map(json.dumps, runs)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid, self.send_signal = self._process.pid, self._process.send_signal

    def runs_on(self):
        return self._process.poll() is None

    def ended(self, timeout=1200):
        """What each rank printed of each run, the exit code and standard error."""
        try:
            out, err = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            out, err = self._process.communicate()
            pytest.fail(f"it hung: {out} {err}")
        return [json.loads(line) for line in out.splitlines() if line.startswith("{")], self._process.returncode, err


class Alone:
    """A run in a process of its own, without mpirun."""

    def __init__(self, file, target, **options):
        self._file, self._process = file, processes.begin(program.run_to_file, file, target, **options)
        self.pid = self._process.pid

    def send_signal(self, number):
        os.kill(self.pid, number)

    def ended(self):
        """What it made of the run, if anything, and its exit code."""
        code = processes.exit_code(self._process)
        return json.loads(self._file.read_text(encoding="utf-8")) if self._file.exists() else None, code


def on_ranks(ranks, *runs):
    rows, code, err = Job(ranks, *runs).ended()
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
    exact = program.TARGETS[target]()
    return np.all(np.abs(np.array(row["mean"]) - exact.mean) < 0.25 * np.sqrt(np.diag(exact.covariance)))


# The same numbers


@pytest.fixture(scope="module")
def serial_gauss2():
    return program.run("gauss2")


@pytest.mark.parametrize("executor", ["threads:2", pytest.param("processes:2", marks=pytest.mark.slow)])
def test_the_same_evaluations_from_local_executors(executor, serial_gauss2):
    assert program.run("gauss2", executor=executor, mode="sync")["sha"] == serial_gauss2["sha"]


@with_mpi
def test_evaluations_on_ranks_and_their_outcome_on_all_of_them():
    rows, code, err = Job(2, program=EVALUATIONS).ended()
    assert code == 0, err
    assert sorted(row["rank"] for row in rows) == [0, 1]
    assert all(row["values"] == [-(float(i) ** 2) for i in range(8)] for row in rows)
    assert all((row["error"], row["told"]) == ("2", "rank 0") for row in rows)


@pytest.mark.slow
@with_mpi
def test_the_same_evaluations_from_mpirun_and_the_result_on_all_ranks(serial_gauss2):
    rows = on_ranks(2, {"target": "gauss2", "mode": "sync"})
    assert sorted(row["rank"] for row in rows) == [0, 1]
    assert {row["sha"] for row in rows} == {serial_gauss2["sha"]}
    assert all(row["predicted"] == rows[0]["predicted"] for row in rows)


@pytest.mark.slow
@with_mpi
def test_the_same_evaluations_from_mpirun_with_one_rank(serial_gauss2):
    (row,) = on_ranks(1, {"target": "gauss2", "mode": "sync"})
    assert row["rank"] == 0
    assert row["sha"] == serial_gauss2["sha"]


@pytest.mark.slow
@with_mpi
@pytest.mark.parametrize("target", ["gauss2", "gauss4", "ring", "forbidden4"])
def test_the_same_evaluations_from_everything(target):
    shas = {program.run(target)["sha"]}
    shas |= {program.run(target, executor=executor, mode="sync")["sha"] for executor in ("threads:2", "processes:2")}
    for ranks in (1, 2, 4):
        rows = on_ranks(ranks, {"target": target, "mode": "sync"})
        assert sorted(row["rank"] for row in rows) == list(range(ranks))
        assert all(row["predicted"] == rows[0]["predicted"] for row in rows)
        shas |= {row["sha"] for row in rows}
    assert len(shas) == 1


# Deaths


@pytest.mark.slow
@with_mpi
def test_an_exception_on_one_rank_ends_the_job_with_its_traceback():
    rows, code, err = Job(2, {"target": "gauss2", "fail_rank": 1, "seconds": 0.1}).ended()
    assert code != 0
    assert "Traceback" in err
    assert not rows


@pytest.mark.slow
@with_mpi
def test_a_signal_ends_a_job_that_can_be_continued(tmp_path, serial_gauss2):
    job = Job(3, {"target": "gauss2", "seconds": 2.0, "output": str(tmp_path), "mode": "sync"})
    wait_for_lines(tmp_path, 8)
    job.send_signal(signal.SIGUSR1)
    rows, code, err = job.ended()
    if code == 0:
        assert all(row["interrupted"] and not row["converged"] for row in rows)
        assert all("SIGUSR1" in row["status"] for row in rows)
        assert (tmp_path / "chain.txt").exists()
    else:
        assert rows
        assert all("SIGUSR1" in row["unfinished"] for row in rows), err
    assert (tmp_path / "state.npz").exists()
    again = program.run("gauss2", output=str(tmp_path))
    assert again["converged"]
    assert again["sha"] == serial_gauss2["sha"]


def test_sigterm_in_the_middle_of_a_call(tmp_path):
    alone = Alone(tmp_path / "facts", "gauss2", seconds=3600.0, output=str(tmp_path / "run"))
    end = time.monotonic() + 600
    while not (tmp_path / "run" / "state.npz").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.3)
    alone.send_signal(signal.SIGTERM)
    row, code = alone.ended()
    assert code == 4
    assert "SIGTERM" in row["unfinished"]


@pytest.mark.slow
def test_wall_time(tmp_path):
    row = program.run("gauss2", seconds=0.6, output=str(tmp_path), max_walltime=5.0)
    if "unfinished" not in row:
        assert row["interrupted"]
        assert not row["converged"]
        assert "wall time of 5 s" in row["status"]
    else:  # a busy machine: too little had come back for a surrogate
        assert "wall time of 5 s" in row["unfinished"]
    assert program.run("gauss2", output=str(tmp_path))["converged"]


def killed_again_and_again(path, ranks, kills, rng, target="gauss4", **options):
    """Runs and kills whole jobs at random times, each after new evaluations; checks the files after each death.

    A run that ends between two kills must have converged, and the next one begins in another folder. Gives the folder
    of the last run, and what is on disk of it.
    """
    seen, folder = {}, path / "0"
    for kill in range(kills):
        job = Job(ranks[kill % len(ranks)], {"target": target, "output": str(folder), **options})
        wait_for_more(job, folder, len(seen))
        time.sleep(rng.uniform(0.0, 2.0))
        with contextlib.suppress(ProcessLookupError):  # it may have ended
            os.killpg(job.pid, signal.SIGKILL)
        rows, _, _ = job.ended()
        end_of_ranks(folder)
        records = journalled(folder)
        now = {r.x.tobytes(): r.evaluation.y for r in records}
        assert len(now) == len(records)
        assert seen.items() <= now.items()
        seen = now
        if rows:
            assert rows[0]["converged"]
            seen, folder = {}, path / str(kill + 1)
    return folder, seen


def wait_for_more(job, folder, before, seconds=600.0):
    """Waits until there are more evaluations than before, or the run has ended."""
    end = time.monotonic() + seconds
    while job.runs_on() and len(journalled(folder)) <= before:
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
    folder, seen = killed_again_and_again(tmp_path, (4, 2, 3), 15, rng, mode=mode, seconds=0.3)
    row = on_ranks(4, {"target": "gauss4", "output": str(folder), "mode": mode, "seconds": 0.3})[0]
    assert row["converged"]
    assert close(row, "gauss4")
    assert len(seen) <= row["n"]


@pytest.mark.slow
@with_mpi
def test_a_kill(tmp_path, rng, serial_gauss2):
    folder, _ = killed_again_and_again(tmp_path, (3,), 1, rng, "gauss2", mode="sync", seconds=0.5)
    row = program.run("gauss2", output=str(folder))
    assert row["converged"]
    assert row["sha"] == serial_gauss2["sha"]


# Misbehaviour

ISOLATED = {"isolate": True, "max_eval_seconds": 2.0}


def test_a_likelihood_that_does_everything_wrong(tmp_path):
    options = ISOLATED | {"output": str(tmp_path / "run"), "executor": "threads:2", "mode": "sync", "bad": 0.03}
    row, code = Alone(tmp_path / "facts", "gauss4", **options).ended()
    assert code == 0
    assert row["converged"]
    assert close(row, "gauss4")
    reasons = [r.evaluation.reason for r in journalled(tmp_path / "run") if r.evaluation.status == "failed"]
    assert row["failed"] == len(reasons) > 0
    known = ("it failed", "NaN", "time-out", "SIGSEGV", "exit code 7")
    assert all(any(word in reason for word in known) for reason in reasons)


@pytest.mark.slow
@with_mpi
def test_a_crash_without_isolation_ends_the_job_and_restarts(tmp_path):
    folder = tmp_path / "run"
    rows, code, _ = Job(2, {"target": "gauss2", "bad": 0.04, "output": str(folder)}).ended()
    assert code != 0
    assert not rows
    end_of_ranks(folder)
    row, code = Alone(tmp_path / "facts", "gauss2", bad=0.04, output=str(folder), **ISOLATED).ended()
    assert code == 0
    assert row["converged"]


# Asynchronous


@pytest.mark.parametrize(
    ("executor", "target"), [("threads:6", "gauss2"), pytest.param("processes:2", "gauss4", marks=pytest.mark.slow)]
)
def test_asynchronous(executor, target, tmp_path):
    row = program.run(target, seconds=0.02, executor=executor, mode="async", output=str(tmp_path))
    assert row["converged"]
    assert close(row, target)
    records = journalled(tmp_path)
    assert len({r.x.tobytes() for r in records}) == len(records) <= row["n"]


@pytest.mark.slow
@with_mpi
def test_asynchronous_over_ranks(tmp_path):
    rows = on_ranks(3, {"target": "gauss4", "seconds": 0.05, "mode": "async", "output": str(tmp_path)})
    assert rows[0]["converged"]
    assert close(rows[0], "gauss4")
    workers = {r.evaluation.worker for r in journalled(tmp_path)}
    assert len(workers) == 3  # rank 0 among them
