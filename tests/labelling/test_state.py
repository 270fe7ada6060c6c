"""The state of a run is what its events make of the table, in the journal as in memory."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest

from surrogate.labelling.journal import LabelJournal, asked, judged, replay
from surrogate.labelling.state import FAILED, FREE, LABELLED, OUT, Batch, LabelState, Stage

STAGE = Stage(40, "gp", 1.5, 0.1, 1.0, 40, True, 1.2, 3.0)


def batch(number, rows, *, stage=STAGE):
    prediction = np.arange(4.0 * len(rows)).reshape(-1, 4) if stage else np.full((len(rows), 4), np.nan)
    random = np.arange(len(rows)) < 1
    return Batch(number, np.array(rows), random, prediction, 0.9, stage, note="a note")


def start():
    return LabelState.initial(np.array([1.0, np.nan, np.nan, np.nan, np.nan, 2.0]), random=False)


EVENTS = [
    asked(batch(1, [1, 2])),
    {"event": "delivered", "batch": 1},
    {"event": "told", "rows": [2], "y": [0.1 + 0.2]},
    asked(batch(2, [4, 3], stage=None)),
    {"event": "failed", "rows": [3], "reasons": ["broken"]},
    {"event": "corrected", "rows": [0], "y": [-5.0], "before": [1.0]},
    {"event": "released", "rows": [1, 2, 4]},
    judged(Stage(41, "gp", 1.4, 0.1, 1.0, 40, True, gain=0.01, gain_error=0.02)),
]


def same(a, b):
    for field in fields(LabelState):
        if field.name == "batches":
            assert [asked(one) for one in a.batches] == [asked(one) for one in b.batches]
            assert [one.delivered for one in a.batches] == [one.delivered for one in b.batches]
        elif field.name in ("reasons", "stages"):
            assert repr(getattr(a, field.name)) == repr(getattr(b, field.name))
        else:
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def test_events_in_order():
    state = replay(start(), EVENTS[:4])
    assert state.status.tolist() == [LABELLED, OUT, LABELLED, OUT, OUT, LABELLED]
    assert state.random.tolist() == [False, True, False, False, True, False]
    assert (state.n_labels, state.n_spent) == (3, 4)
    state = replay(state, EVENTS[4:])
    assert state.status.tolist() == [LABELLED, FREE, LABELLED, FAILED, FREE, LABELLED]
    np.testing.assert_array_equal(state.y, [-5.0, np.nan, 0.1 + 0.2, np.nan, np.nan, 2.0])
    assert state.reasons == ((3, "broken"),)
    assert state.n_spent == 2
    assert [one.delivered for one in state.batches] == [True, False]
    assert [stage.n_labels for stage in state.stages] == [40, 41]
    assert state.stages[1].gain == 0.01


def test_rows_that_went_out_again_belong_to_the_later_batch():
    events = [asked(batch(1, [1, 2])), {"event": "released", "rows": [1, 2]}, asked(batch(2, [2, 4]))]
    state = replay(start(), events)
    assert state.out_in(1).tolist() == []
    assert state.out_in(2).tolist() == [2, 4]
    assert state.last_batch.tolist() == [0, 1, 2, 0, 2, 0]
    assert len(state.stages) == 1  # two batches by the same labels are one point of the curve


def test_the_former_state_stays():
    state = start()
    for event in EVENTS:
        replay(state, [event])
    same(state, start())


@pytest.mark.parametrize("cut", range(len(EVENTS) + 1))
def test_journal_gives_the_same_state(tmp_path, cut):
    """Written in two processes, and with half a line at the end of the first."""
    journal = LabelJournal(tmp_path / "labels.jsonl")
    for event in EVENTS[:cut]:
        journal.append(event)
    with open(journal.path, "ab") as file:
        file.write(b'{"event": "to')
    same(replay(start(), journal.read()), replay(start(), EVENTS[:cut]))
    for event in EVENTS[cut:]:
        journal.append(event)
    same(replay(start(), journal.read()), replay(start(), EVENTS))
    assert all("time" in event for event in journal.read())


def test_numbers_that_json_lacks():
    stage = Stage(2, "gp", math.nan, math.inf, 0.0, 2, True)
    (again,) = replay(start(), [asked(batch(1, [1], stage=stage))]).batches
    assert math.isnan(again.stage.rmse)
    assert math.isnan(again.stage.ratio)


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"rows": []}'])
def test_damaged_lines_are_named(tmp_path, line):
    journal = LabelJournal(tmp_path / "labels.jsonl")
    journal.append(EVENTS[1])
    journal.path.write_bytes(line + b"\n" + journal.path.read_bytes())
    with pytest.raises(ValueError, match="line 1 of .* is damaged"):
        journal.read()


@pytest.mark.parametrize("event", [{"event": "sung"}, {"event": "told", "rows": [99], "y": [1.0]}])
def test_events_that_do_not_fit(event):
    with pytest.raises(ValueError, match="event 1 of the journal"):
        replay(start(), [event])


def test_batches_by_number():
    state = replay(start(), EVENTS)
    assert state.batch(2).rows.tolist() == [4, 3]
    with pytest.raises(ValueError, match="no batch 3: there are 2 batches"):
        state.batch(3)
