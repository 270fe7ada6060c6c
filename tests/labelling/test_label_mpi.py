"""A function that labels under MPI: the same batches and labels as without."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import surrogate
from tests.inference.test_parallel import ENVIRONMENT, MPIRUN, with_mpi

PROGRAM = """
import sys
from tests.labelling.test_label_mpi import learn

run = learn(sys.argv[1], executor="mpi")
sys.stdout.write(f"{run.state.n_labels}\\n")
"""


def table():
    x = np.random.default_rng(5).uniform(-1.0, 1.0, (100, 2))
    return {"a": x[:, 0], "b": x[:, 1]}


def oracle(row):
    if row["a"] > 0.7:
        msg = "it broke"
        raise RuntimeError(msg)
    return row["a"] ** 2 + row["b"]


def learn(folder, **given):
    return surrogate.label(table(), oracle=oracle, output=folder, budget=36, batch_size=12, progress=False, **given)


@pytest.mark.slow
@with_mpi
def test_ranks_make_no_difference(tmp_path):
    learn(tmp_path / "one").close()
    command = [MPIRUN, "-n", "2", sys.executable, "-c", PROGRAM, str(tmp_path / "many")]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert len(said) == 2  # every rank has the run
    assert len(set(said)) == 1
    one, many = (events(tmp_path / name) for name in ("one", "many"))
    assert [e["rows"] for e in one if e["event"] == "asked"] == [e["rows"] for e in many if e["event"] == "asked"]
    assert answers(one) == answers(many)
    assert any("it broke" in str(answer) for answer in answers(many).values())


def events(folder):
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


def answers(journal):
    """Labels and reasons by row; their order in the journal is that of the workers."""
    found = {}
    for event in journal:
        if event["event"] in ("told", "failed"):
            found |= zip(event["rows"], event.get("y") or event["reasons"], strict=True)
    return found
