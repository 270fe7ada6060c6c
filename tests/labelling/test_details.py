"""What a report says about single rows."""

from __future__ import annotations

import numpy as np

import surrogate
from surrogate.labelling.details import row_details


def made(linear):
    rng = np.random.default_rng(0)
    table = {"x": rng.uniform(0, 1, 120), "kind": rng.choice(["a", "b"], 120, p=[0.8, 0.2])}
    truth = 3 * table["x"] + (table["kind"] == "b") + 0.1 * rng.standard_normal(120)
    truth[:3] = 500.0
    run = surrogate.label(table, "y", progress=False, budget=80, model="linear")
    for _ in range(2):
        batch = run.ask(40)
        run.tell(batch.rows, truth[batch.rows])
    return run, table, truth


def test_every_row_has_a_reason(linear):
    run, *_ = made(linear)
    asked = row_details(run.pool, run.state).asked
    assert len(asked) == 60  # the last ones
    reasons = {row[3] for row in asked}
    assert "drawn at random: there was no model yet" in reasons
    assert "drawn at random, to measure errors" in reasons
    assert any(reason.startswith("chosen: unlike the labelled rows") for reason in reasons)


def test_categories_are_counted(linear):
    run, table, _ = made(linear)
    counts = {row[1]: (int(row[2]), int(row[3])) for row in row_details(run.pool, run.state).categories}
    known = np.isfinite(run.state.y)
    for word in ("a", "b"):
        rows = table["kind"] == word
        assert counts[word] == (rows.sum(), (rows & known).sum())


def test_labels_that_stand_out_are_named(linear):
    run, _, truth = made(linear)
    told = [row for row in range(3) if np.isfinite(run.state.y[row])]
    outlying = row_details(run.pool, run.state).outlying
    assert [row[0] for row in outlying if row[1] == "500"] == [f"{row + 1}" for row in told]
    assert row_details(run.pool, run.state).spread == np.std(truth[np.isfinite(run.state.y)])


def test_the_report_has_the_tables(linear, tmp_path):
    run, *_ = made(linear)
    run.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for title in ("Is it better than no model?", "Categories", "Why each row was requested", "Labels that stand out"):
        assert title in page, title
