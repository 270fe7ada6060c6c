"""The ``surrogate label`` commands, killed or not, with every mistake that people make."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from surrogate.cli.main import main
from surrogate.labelling.opening import open_run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("linear")


def truth(row):
    return round(3.0 * float(row["size"]) + 10.0 * (row["kind"] == "house") + float(row["size"]) ** 2 / 50, 6)


@pytest.fixture
def pool(tmp_path):
    """80 rows of which 30 have a label."""
    rng = np.random.default_rng(2)
    lines = ["size,kind,note,price"]
    for i in range(80):
        row = {"size": f"{rng.uniform(10, 90):.2f}", "kind": "house" if rng.random() < 0.5 else "flat"}
        lines.append(f'{row["size"]},{row["kind"]},"n, {i}",{truth(row) if i < 30 else ""}')
    path = tmp_path / "pool.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def label(tmp_path, capsys):
    """Runs a command and gives its status, standard output and standard error."""

    def run(*words):
        status = main(["label", *map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def run(pool, label, tmp_path):
    folder = tmp_path / "run"
    status, _, err = label(
        "init", pool, "--target", "price", "-o", folder, "--ignore", "note", "--model", "linear", "--budget", 25
    )
    assert status == 0, err
    assert "80 rows, 30 with a label; models see 3 numbers of size, kind (2 categories)" in err
    assert "assumed to be a random sample" in err
    return folder


def filled(batch, path, *, rows=None):
    """A batch with its labels, all or some, in a file."""
    table = list(csv.DictReader(io.StringIO(batch)))
    for row in table:
        row["price"] = str(truth(row))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table[:rows])
    return path


def journal(folder):
    return (folder / "labels.jsonl").read_bytes() if (folder / "labels.jsonl").exists() else b""


def test_from_beginning_to_end(run, label, pool, tmp_path):
    status, batch, err = label("ask", run, "-n", 10)
    assert status == 0
    assert batch.splitlines()[0] == "row,size,kind,note,price"
    assert all(line.endswith(",") for line in batch.splitlines()[1:])
    assert '"n, ' in batch
    assert "batch 1: 10 rows" in err
    assert "15 left in the budget" in err
    assert "RMSE / MAE" in err
    status, _, err = label("tell", run, filled(batch, tmp_path / "some.csv", rows=4))
    assert (status, "4 recorded; 34 labels in all, 6 rows are pending" in err) == (0, True)
    assert "batch 1 again: 6 of its 10 rows are still pending" in label("ask", run, "--again", 1)[2]
    status, _, err = label("tell", run, filled(batch, tmp_path / "all.csv"))
    assert "6 recorded, 4 known already; 40 labels in all" in err
    status, _, _ = label("ask", run, "-n", 10, "-o", tmp_path / "batch.csv")
    label("tell", run, filled((tmp_path / "batch.csv").read_text(), tmp_path / "all.csv"))
    status, batch, err = label("ask", run, "-n", 10)
    assert len(batch.splitlines()) == 6
    label("tell", run, filled(batch, tmp_path / "all.csv"))
    status, batch, err = label("ask", run)
    assert (status, batch) == (3, "")
    assert "the budget of 25 labels is spent" in err


def test_status_report_and_predictions(run, label, pool, tmp_path):
    label("tell", run, filled(label("ask", run, "-n", 10)[1], tmp_path / "all.csv"))
    status, out, _ = label("status", run)
    assert status == 0
    for words in ("80", "40 (30 of them in the table)", "10 of 25 spent", "held-out RMSE", "coverage", "not over"):
        assert words in out
    status, out, err = label("predict", run, pool)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["row"] for row in rows] == [str(i) for i in range(1, 81)]
    assert all(float(row["low"]) <= float(row["mean"]) <= float(row["high"]) for row in rows)
    assert "the table has labels: RMSE" in err
    assert label("predict", run)[1] == out
    status, _, err = label("report", run)
    assert (run / "report.html").exists()
    assert label("report", run, "-o", tmp_path / "curve.png")[0] == 0
    assert (tmp_path / "curve.png").exists()
    assert "n_labels,model,rmse" in (run / "trace.csv").read_text()


def test_two_people_get_different_rows(run, label):
    first, second = (label("ask", run, "-n", 8)[1] for _ in range(2))
    numbers = [set(row["row"] for row in csv.DictReader(io.StringIO(batch))) for batch in (first, second)]
    assert not numbers[0] & numbers[1]
    assert label("ask", run, "--again", 1)[1] == first
    assert "8 rows are back in the pool" in label("release", run, "--batch", 1)[2]
    assert "no batch 3" in label("release", run, "--batch", 3)[2]


def test_a_program_that_labels_gets_what_is_out_first(run, label, tmp_path):
    first, second = (label("ask", run, "-n", 4)[1] for _ in range(2))
    label("tell", run, filled(second, tmp_path / "some.csv", rows=2))
    both = first + "".join(second.splitlines(keepends=True)[3:])
    status, again, err = label("ask", run, "--unfinished")
    assert (status, again) == (0, both)
    assert "batch 2 again: 2 of its 4 rows are still pending" in err
    label("tell", run, filled(again, tmp_path / "all.csv"))
    assert "batch 3: 17 rows" in label("ask", run, "--unfinished")[2]
    label("release", run)
    label("tell", run, filled(label("ask", run, "-n", 17)[1], tmp_path / "all.csv"))
    assert label("ask", run, "--unfinished")[0] == 3


def test_batches_and_predictions_in_parquet(run, label, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    assert label("ask", run, "-n", 4, "-o", tmp_path / "batch.parquet")[0] == 0
    batch = pandas.read_parquet(tmp_path / "batch.parquet")
    assert batch["price"].isna().all()
    batch["price"] = [truth(row) for row in batch.to_dict("records")]
    batch.to_parquet(tmp_path / "labels.parquet")
    assert "4 recorded; 34 labels in all" in label("tell", run, tmp_path / "labels.parquet")[2]
    assert label("predict", run, "-o", tmp_path / "predicted.parquet")[0] == 0
    predicted = pandas.read_parquet(tmp_path / "predicted.parquet")
    assert list(predicted) == ["row", "mean", "sd", "low", "high"]
    assert (predicted["low"] < predicted["high"]).all()


def test_a_batch_keeps_no_rows_that_went_out_again(run, label):
    label("ask", run, "-n", 50)
    label("release", run)
    second = label("ask", run, "-n", 5)[1]
    assert "pending       5 in batches 2" in label("status", run)[1]
    assert len(label("ask", run, "--again", 1)[1].splitlines()) == 1
    assert "0 rows are back in the pool" in label("release", run, "--batch", 1)[2]
    assert label("ask", run, "--again", 2)[1] == second


def test_a_command_waits_for_that_of_somebody_else(run, label, tmp_path):
    batch = label("ask", run, "-n", 3)[1]
    busy = open_run(run)
    threading.Timer(1.0, busy.close).start()
    status, _, err = label("tell", run, filled(batch, tmp_path / "labels.csv"))
    assert (status, "waiting for it" in err, "3 recorded" in err) == (0, True, True)


def bad(batch, path, change):
    path.write_text(change(batch), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("\n", "\n999,1,flat,x,5\n", 1),
            "row 1, column 'row': there is no row '999' in the pool",
        ),
        (lambda text: text + text.splitlines()[1] + "7\n", "row 9: .* appears in row 1 too"),
        (
            lambda text: text.rstrip("\n") + "12 EUR\n",
            "row 8, column 'price': the label '12 EUR' is not a finite number",
        ),
        (lambda text: text.replace("price", "prize"), "lacks the column 'price'"),
        (
            lambda text: "\n".join([*text.splitlines()[:1], "31,1.0,flat,x,5"]),
            "column 'size': 1.0 here, but .* in the pool",
        ),
    ],
)
def test_bad_labels_are_refused_and_nothing_is_lost(run, label, tmp_path, change, message):
    batch = label("ask", run, "-n", 8)[1]
    before = journal(run)
    status, _, err = label("tell", run, bad(batch, tmp_path / "bad.csv", change))
    assert status == 2
    assert __import__("re").search(message, err)
    assert journal(run) == before
    assert label("tell", run, filled(batch, tmp_path / "good.csv"))[0] == 0


def test_other_labels_need_correct(run, label, tmp_path):
    (tmp_path / "labels.csv").write_text("row,price\n1,7\n2,8\n")
    before = journal(run)
    status, _, err = label("tell", run, tmp_path / "labels.csv")
    assert status == 2
    assert "row 1, column 'price': this row already has the label" in err
    assert "--correct" in err
    assert journal(run) == before
    assert "0 recorded, 2 corrected; 30 labels in all" in label("tell", run, tmp_path / "labels.csv", "--correct")[2]
    assert [json.loads(line)["event"] for line in journal(run).splitlines()] == ["corrected", "judged"]


@pytest.mark.parametrize("words", [["ask"], ["tell", "labels.csv"]])
def test_a_changed_pool_is_noticed(run, label, pool, tmp_path, words):
    original = pool.read_text()
    (tmp_path / "labels.csv").write_text("row,price\n40,7\n")
    rest = [tmp_path / word for word in words[1:]]
    pool.write_text(original.replace("flat", "loft", 1))
    status, _, err = label(words[0], run, *rest)
    assert status == 2
    assert "has changed since the run was made" in err
    assert "the labels of this run are in labels.jsonl" in err
    pool.unlink()
    assert "pool.csv is missing: restore it" in label(words[0], run, *rest)[2]
    pool.write_text(original)
    assert label(words[0], run, *rest)[0] == 0


def test_init_does_not_overwrite(run, label, pool):
    status, _, err = label("init", pool, "--target", "price", "-o", run)
    assert status == 2
    assert "holds a run already" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "prise"], "no column 'prise'; did you mean 'price'"),
        (["--target", "price"], "80 different words"),
        (["--target", "price", "--ignore", "note", "--categorical", "note"], "'note' is declared twice"),
        (
            ["--target", "price", "--ignore", "note", "--ordinal", "kind=low<high"],
            "'house' is not a known category|'flat' is",
        ),
        (["--target", "price", "--ignore", "note", "--model", "tree"], "model must be 'auto' or one of"),
        (["--target", "price", "--ignore", "note", "--audit", "2"], "audit must be a share"),
        (["--target", "cost", "--ignore", "note"], "price.*The target 'cost' is not a column of the table"),
        (["--target", "price", "--ignore", "note", "--method", "bait-f"], "'bait-f' needs features, and a Gaussian"),
    ],
)
def test_init_refuses(label, pool, tmp_path, words, message):
    status, _, err = label("init", pool, *words, "-o", tmp_path / "run")
    assert status == 2
    assert __import__("re").search(message, err)
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize("again", [["--target", "size"], ["-o", "other"], ["--mask", "a", "--mask", "b"]])
def test_init_takes_an_option_once(label, pool, tmp_path, capsys, again):
    with pytest.raises(SystemExit):
        label("init", pool, "--target", "price", "-o", tmp_path / "run", *again)
    assert "is given twice" in capsys.readouterr().err


def test_a_correction_brings_the_held_out_error_up_to_date(run, label, tmp_path):
    """One label was 1000 times too large; the status shows the new error before the next batch is asked for."""
    batch = label("ask", run, "-n", 10)[1]
    label("tell", run, filled(batch, tmp_path / "labels.csv"))
    row, *others = list(csv.DictReader(io.StringIO(batch)))
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(f"row,price\n{row['row']},{1000 * truth(row)}\n", encoding="utf-8")
    label("tell", run, wrong, "--correct")
    before = error_of(label("status", run)[1])
    right = tmp_path / "right.csv"
    right.write_text(f"row,price\n{row['row']},{truth(row)}\n", encoding="utf-8")
    label("tell", run, right, "--correct")
    assert error_of(label("status", run)[1]) < 0.1 * before


def error_of(status):
    line = next(line for line in status.splitlines() if line.startswith("held-out RMSE"))
    return float(line.split()[2].rstrip(","))


def test_ids_in_place_of_row_numbers(label, tmp_path):
    (tmp_path / "pool.csv").write_text("name,a,y\n" + "".join(f"n{i},{i},\n" for i in range(30)))
    label("init", tmp_path / "pool.csv", "--target", "y", "--id", "name", "-o", tmp_path / "run", "--model", "linear")
    batch = label("ask", tmp_path / "run", "-n", 3)[1]
    assert batch.splitlines()[0] == "name,a,y"
    (tmp_path / "labels.csv").write_text(batch.replace(",\n", ",5\n"))
    assert "3 recorded" in label("tell", tmp_path / "run", tmp_path / "labels.csv")[2]


def command(*words, kill_after=None):
    """Status and standard output of a command in a process of its own, killed after so many seconds."""
    words = [sys.executable, "-m", "surrogate", "label", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        if kill_after is not None:
            time.sleep(kill_after)
            process.send_signal(signal.SIGKILL)
        out, _ = process.communicate()
    return process.returncode, out


@pytest.mark.slow
def test_killed_at_any_moment_it_gives_the_same_batches(pool, tmp_path):
    """SIGKILL after several delays, in processes of their own with a Gaussian process; then the command again."""

    def batches(folder, delays):
        assert command("init", pool, "--target", "price", "--ignore", "note", "-o", folder)[0] == 0
        found = []
        for number, delay in enumerate(delays):
            if delay is not None:
                command("ask", folder, "-n", "8", "-o", tmp_path / "lost.csv", kill_after=delay)
            status, out = command("ask", folder, "-n", "8", "--unfinished")  # what is out, if it was not killed in time
            assert status == 0
            labels = filled(out, tmp_path / f"labels{number}.csv")
            if delay is not None:
                command("tell", folder, labels, kill_after=delay / 4)
            assert command("tell", folder, labels)[0] == 0
            found.append(out)
        return found

    assert batches(tmp_path / "killed", [0.5, 2.0, 6.0]) == batches(tmp_path / "whole", [None] * 3)
