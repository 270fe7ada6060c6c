"""The front door for pools: runs in a folder, driven by a function, a person or many workers."""

from __future__ import annotations

import json
import os
import signal
import threading

import numpy as np
import pytest

import surrogate
from surrogate.labelling.folder import LabelFolder
from surrogate.labelling.opening import open_run

pytestmark = pytest.mark.usefixtures("linear")
LINEAR = {"model": "linear", "progress": False, "batch_size": 10}


def table(n=120, *, labelled=0):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((n, 2))
    y = np.where(np.arange(n) < labelled, truth(x), np.nan)
    return {"a": x[:, 0], "b": x[:, 1], "y": y}


def truth(x):
    x = np.atleast_2d(x)
    return 2.0 * x[:, 0] - x[:, 1] + 0.3 * np.sin(9 * x[:, 0])


def oracle(x):
    return float(truth(x)[0])


def events(folder):
    return [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]


def batches(folder):
    return [event["rows"] for event in events(folder) if event["event"] == "asked"]


def test_a_function_labels_an_array():
    x = np.random.default_rng(5).standard_normal((120, 2))
    run = surrogate.label(x, oracle=oracle, budget=50, **LINEAR)
    assert run.state.n_labels == 50
    assert run.ending().over
    labelled = np.flatnonzero(np.isfinite(run.state.y))
    np.testing.assert_allclose(run.state.y[labelled], truth(x[labelled]))
    assert np.sqrt(np.mean((run.predict(x).mean - truth(x)) ** 2)) < 0.5
    assert len(run.stages) >= 2


def test_a_function_gets_rows_of_a_table():
    seen = []

    def label(row):
        seen.append(row)
        return row["a"] + len(row["kind"])

    columns = {"a": np.arange(40.0), "kind": ["u", "vv"] * 20, "note": ["-"] * 40}
    run = surrogate.label(columns, oracle=label, columns={"note": "ignored"}, budget=30, **LINEAR)
    assert run.state.n_labels == 30
    assert seen[0] == {"a": seen[0]["a"], "kind": seen[0]["kind"], "note": "-"}


@pytest.mark.parametrize("executor", ["threads:3", None])
def test_workers_make_no_difference(tmp_path, executor):
    pool = table(labelled=20)
    surrogate.label(pool, oracle=rows_oracle, output=tmp_path / "one", budget=35, **LINEAR).close()
    surrogate.label(pool, oracle=rows_oracle, output=tmp_path / "two", budget=35, executor=executor, **LINEAR).close()
    assert batches(tmp_path / "one") == batches(tmp_path / "two")


def rows_oracle(row):
    return float(truth([row["a"], row["b"]])[0])


@pytest.mark.parametrize("stop_at", [12, *(pytest.param(n, marks=pytest.mark.slow) for n in (3, 29))])
def test_a_driven_run_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path, stop_at):
    pool = table(labelled=20)
    surrogate.label(pool, oracle=rows_oracle, output=tmp_path / "whole", budget=35, **LINEAR).close()
    calls = []

    def stopped(row):
        calls.append(row)
        if len(calls) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return rows_oracle(row)

    first = surrogate.label(pool, oracle=stopped, output=tmp_path / "cut", budget=35, **LINEAR)
    assert first.state.n_labels < 55
    first.close()
    with surrogate.label(pool, oracle=rows_oracle, output=tmp_path / "cut", budget=35, **LINEAR) as run:
        assert run.state.n_labels == 55
    assert batches(tmp_path / "cut") == batches(tmp_path / "whole")


@pytest.mark.parametrize("answer", [float("nan"), float("inf"), float("-inf"), "text", None, ValueError("no key")])
def test_answers_that_are_no_labels_are_failures(answer):
    def label(x):
        if x[0] < 0:
            return oracle(x)
        if isinstance(answer, Exception):
            raise answer
        return answer

    x = np.random.default_rng(1).standard_normal((60, 1)) * [1.0, 1.0]
    run = surrogate.label(x, oracle=label, budget=40, **LINEAR)
    assert run.state.n_spent == 40
    assert (x[run.state.rows(3), 0] >= 0).all()
    assert len(run.state.reasons) == len(run.state.rows(3)) > 0


def test_ask_and_tell_by_hand(tmp_path):
    with surrogate.label(table(labelled=30), output=tmp_path, model="linear") as run:
        first = run.ask(10)
        run.delivered(first)
        second = run.ask(10)
        run.delivered(second)
        assert not set(first.rows) & set(second.rows)
        assert run.tell(second.rows, np.where(np.arange(10) < 4, 1.0, np.nan)) == 4  # partly
        assert run.tell(first.rows[::-1], np.zeros(10)) == 10  # late, in another order
        assert run.tell(first.rows, np.zeros(10)) == 0  # again
        assert run.release() == 6
        assert run.state.n_labels == 44
    with open_run(tmp_path) as run:
        assert run.state.n_labels == 44
        assert len(run.state.rows(1)) == 0


def test_a_batch_that_may_be_lost_is_given_again(tmp_path):
    pool = table(labelled=30)
    with surrogate.label(pool, output=tmp_path, model="linear") as run:
        lost = run.ask(10)
    with open_run(tmp_path) as run:
        again = run.ask(10)
        assert again.rows.tolist() == lost.rows.tolist()
        assert len(run.state.rows(1)) == 10
        run.delivered(again)
        assert not set(run.ask(10).rows) & set(again.rows)


def test_a_lost_batch_of_another_size_is_taken_back(tmp_path):
    with surrogate.label(table(labelled=30), output=tmp_path, model="linear") as run:
        run.ask(10)
        assert len(run.ask(7)) == 7
        assert len(run.state.rows(1)) == 7


def test_a_budget_counts_what_is_out():
    run = surrogate.label(table(labelled=30), budget=12, model="linear")
    run.delivered(run.ask(10))
    second = run.ask(10)
    assert len(second) == 2
    run.delivered(second)
    assert len(run.ask(10)) == 0
    assert run.ending().reason == "the budget of 12 labels is spent, 12 of them still pending"


def test_a_target_ends_a_run_and_anyway_goes_on():
    run = surrogate.label(table(labelled=60), target_error=5.0, model="linear")
    assert len(run.ask(5)) == 0
    assert "the target is reached" in run.ending().reason
    assert len(run.ask(5, anyway=True)) == 5


def noisy_run(folder, flat):
    """Half of 200 labels in the table, half in a batch: a plane and noise, which 100 labels are enough for."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((400, 2))
    y = x[:, 0] + rng.standard_normal(400)
    pool = {"a": x[:, 0], "b": x[:, 1], "y": np.where(np.arange(400) < 100, y, np.nan)}
    run = surrogate.label(pool, output=folder, flat=flat, model="linear")
    batch = run.ask(100)
    run.tell(batch.rows, y[batch.rows])
    return run


def test_a_flat_curve_ends_a_run_and_is_recorded(tmp_path):
    with noisy_run(tmp_path, 0.05) as run:
        assert not len(run.ask(5))
        assert not len(run.ask(5))
        assert "the curve is flat: twice the labels would lower the error by" in run.ending().reason
    assert [event["event"] for event in events(tmp_path)] == ["asked", "told", "judged"]
    with open_run(tmp_path, writing=False) as again:
        assert again.ending().reason == run.ending().reason  # without a fit
        assert again.stages[-1].n_labels == 200
        assert abs(again.stages[-1].gain) < 4 * again.stages[-1].gain_error < 0.1


def test_gains_are_measured_for_those_who_ask(tmp_path):
    run = noisy_run(None, None)
    assert np.isnan(run.model().stage().gain)


@pytest.mark.parametrize(
    ("rows", "y", "message"),
    [
        ([40, 40], [1.0, 2.0], "appears twice"),
        ([120], [1.0], "no row 120: rows are 0 to 119"),
        ([-1], [1.0], "no row -1"),
        ([40], [np.inf], "must be finite"),
        ([40], [1.0, 2.0], "must both have shape"),
        ([4.5], [1.0], "must be whole numbers"),
        ([0], [99.0], "already has the label .*, got 99"),
    ],
)
def test_labels_that_are_refused(tmp_path, rows, y, message):
    with surrogate.label(table(labelled=30), output=tmp_path, model="linear") as run:
        with pytest.raises(ValueError, match=message):
            run.tell(rows, y)
        assert not (tmp_path / "labels.jsonl").exists()


def test_corrections():
    run = surrogate.label(table(labelled=30), model="linear")
    before = run.model()
    run.tell([0], [99.0], correct=True)
    assert run.state.y[0] == 99.0
    assert run.model() is not before
    with pytest.raises(
        ValueError, match=r"row 1 \(counted from 0\): this row already has the label .* Correct labels with"
    ):
        run.fail([1], "lost")
    assert run.state.n_labels == 30
    assert run.fail([1], "lost", correct=True) == 1
    assert run.state.n_labels == 29
    assert run.fail([1], "lost again") == 0


def test_a_pool_that_is_used_up_ends_a_run():
    pool = np.random.default_rng(0).random((60, 2))
    run = surrogate.label(pool, oracle=oracle, budget=100, **LINEAR | {"batch_size": 20})
    assert run.state.n_labels == 60
    assert run.ending().over
    assert run.ending().reason == "no row is left to ask for: 60 have labels"
    assert len(run.ask(5)) == 0
    assert np.isfinite(run.predict().mean).all()


def test_true_and_false_are_labels():
    pool = np.random.default_rng(0).random((100, 2))
    run = surrogate.label(pool, oracle=lambda x: bool(x[0] > 0.5), budget=40, **LINEAR)
    np.testing.assert_array_equal(run.state.y[run.state.rows(2)], pool[run.state.rows(2), 0] > 0.5)
    assert run.state.n_labels == 40


def test_a_function_that_always_fails_halts_the_run(tmp_path):
    pool = np.random.default_rng(0).random((100, 2))
    run = surrogate.label(pool, oracle=lambda x: float("nan"), budget=60, output=tmp_path, **LINEAR)
    assert run.state.n_spent - len(run.state.rows(1)) == 20
    assert run.ending().over
    assert run.ending().reason == "the function failed for 20 rows in a row: the label is NaN, not a finite number"
    run.close()
    again = surrogate.label(pool, oracle=oracle, budget=60, output=tmp_path, **LINEAR)
    assert again.state.n_labels == 40
    again.close()


def test_copies_of_rows_change_nothing():
    """Labelled rows that stand in the table twice or three times count once, and are not held out for each other."""
    once = table(labelled=40)
    twice = {name: np.r_[column[:40], column, column[:20]] for name, column in once.items()}
    plain, copied = (surrogate.label(pool, model="ridge") for pool in (once, twice))
    assert copied.state.n_labels == 100
    new = table(10)
    np.testing.assert_allclose(copied.predict(new).mean, plain.predict(new).mean, rtol=1e-12)
    np.testing.assert_allclose(copied.model().stage().rmse, plain.model().stage().rmse, rtol=1e-12)
    words = dict(copied.facts())["labels"]
    assert words == "100 (100 of them in the table; 60 are copies of other rows and are counted once)"


def test_a_code_in_a_cell_is_named_and_does_not_set_the_scale():
    pool = np.r_[[[99999.0, 0.0]], np.random.default_rng(0).random((200, 2))]
    with pytest.warns(UserWarning, match="column 'x0': 99999 in row 1 is very far from the rest: a code"):
        run = surrogate.label(pool)
    assert run.pool.x()[:, 0].max() < 100.0
    assert run.pool.x()[1:].tolist() == pool[1:].tolist()


def test_two_processes_are_kept_apart(tmp_path):
    run = surrogate.label(table(labelled=30), output=tmp_path, model="linear")
    with pytest.raises(RuntimeError, match="is in use by process"):
        open_run(tmp_path)
    assert open_run(tmp_path, writing=False).state.n_labels == 30  # reading needs no lock
    run.close()
    open_run(tmp_path).close()


def test_the_same_folder_takes_no_other_table_or_seed(tmp_path):
    pool = table(labelled=30)
    surrogate.label(pool, output=tmp_path, model="linear").close()
    with pytest.raises(ValueError, match="a run on another table"):
        surrogate.label({**pool, "a": pool["a"] + 1}, output=tmp_path, model="linear")
    with pytest.raises(ValueError, match="a run with another seed"):
        surrogate.label(pool, output=tmp_path, model="linear", seed=1)
    with surrogate.label(pool, output=tmp_path, model="linear", budget=99) as run:
        assert run.settings.budget == 99  # limits may change


def test_numbers_of_the_table_are_made_again(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_text("a,k,y\n" + "".join(f"{i},{'uv'[i % 2]},{i if i < 30 else ''}\n" for i in range(60)))
    with surrogate.label(path, output=tmp_path / "run", model="linear") as run:
        first = run.ask(5)
    (tmp_path / "run" / "state.npz").unlink()
    with open_run(tmp_path / "run") as run:
        assert run.ask(5).rows.tolist() == first.rows.tolist()
        np.testing.assert_array_equal(run.pool.x()[:2], [[0, 1, 0], [1, 0, 1]])


def test_predictions_need_a_model_and_columns():
    run = surrogate.label(table(labelled=10), model="linear")
    with pytest.raises(ValueError, match="no predictions yet: 10 labels, and a model needs 20"):
        run.predict()
    run = surrogate.label(table(labelled=40), model="linear")
    assert len(run.predict().mean) == 120
    assert len(run.predict({"a": [1.0], "b": [2.0]}).mean) == 1
    with pytest.raises(ValueError, match="lacks the columns 'b'"):
        run.predict({"a": [1.0]})


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"buget": 3}, TypeError, "unknown setting 'buget'; did you mean 'budget'"),
        ({"oracle": oracle}, ValueError, "needs a stopping rule: give budget="),
        ({"columns": {"a": "word"}}, ValueError, "column 'a' must be 'categorical', 'id'"),
        ({"columns": {"c": "id"}}, ValueError, "no column 'c'"),
        ({"method": "lcdm"}, ValueError, "method must be one of .* got 'lcdm'"),
    ],
)
def test_arguments_that_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        surrogate.label(table(), **given)


def test_no_run_there(tmp_path):
    with pytest.raises(ValueError, match="holds no labelling run"):
        open_run(tmp_path)


def test_a_damaged_recipe_is_named(tmp_path):
    surrogate.label(table(labelled=30), output=tmp_path, model="linear").close()
    LabelFolder.at(tmp_path).config_path.write_text("pool: {path: x}\n")
    with pytest.raises(ValueError, match=r"config.yaml is incomplete or invalid: 'sha256'"):
        open_run(tmp_path)


def test_runs_in_other_threads():
    """Signals are the main thread's; a run elsewhere works all the same."""
    found = []
    x = np.random.default_rng(5).standard_normal((60, 2))
    work = threading.Thread(target=lambda: found.append(surrogate.label(x, oracle=oracle, budget=30, **LINEAR)))
    work.start()
    work.join()
    assert found[0].state.n_labels == 30


def test_report(tmp_path):
    run = surrogate.label(table(), oracle=rows_oracle, budget=60, **LINEAR)
    run.report(tmp_path / "report.html")
    run.report(tmp_path / "curve.png")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The budget of 60 labels is spent" in page
    assert page.count("data:image/png;base64,") == 4  # two pictures, each for light and for dark pages
    assert "<script" not in page
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="a .html or a .png file"):
        run.report(tmp_path / "report.pdf")
