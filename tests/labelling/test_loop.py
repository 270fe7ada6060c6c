"""Batches: a pure function of table, settings and state, that never asks for what is known, out, failed or masked."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.labelling.loop import choose, first_labels, fit
from surrogate.labelling.pool import Pool
from surrogate.labelling.schema import Declared
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.state import FAILED, FREE, LABELLED, OUT, LabelState
from surrogate.labelling.table import Table

pytestmark = pytest.mark.usefixtures("linear")


def settings(**given):
    return LabelSettings(**{"seed": 4, "model": "linear", "audit": 0.25, **given})


def pool_of(n, *, labelled=0, mask=None):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 2))
    y = np.where(np.arange(n) < labelled, x[:, 0] - x[:, 1] + 0.1 * rng.standard_normal(n), np.nan)
    columns = {"a": x[:, 0], "b": x[:, 1], "y": y}
    declared = Declared("y", mask=None if mask is None else "mask")
    return Pool.of(Table.of(columns if mask is None else {**columns, "mask": mask}), declared)


def start(pool):
    return LabelState.initial(pool.y, random=True)


def chosen(pool, state, n, **given):
    how = settings(**given)
    return choose(pool, state, how, n, fit(pool, state, how))


def test_the_same_state_gives_the_same_batch():
    pool = pool_of(300, labelled=40)
    first, again = (chosen(pool, start(pool), 20) for _ in range(2))
    assert first.rows.tolist() == again.rows.tolist()
    assert (first.prediction == again.prediction).all()
    other = chosen(pool, start(pool), 20, seed=5)
    assert other.rows.tolist() != first.rows.tolist()


def test_rows_that_are_out_are_not_asked_again():
    pool, taken = pool_of(100, labelled=30), []
    state = start(pool)
    for _ in range(3):
        batch = chosen(pool, state, 20)
        taken += batch.rows.tolist()
        state = state.asked(batch)
    assert len(set(taken)) == 60
    assert min(taken) >= 30


def test_what_is_not_asked_for():
    pool = pool_of(60, labelled=30, mask=np.arange(60) % 2)
    state = start(pool).failed([31], ["no"]).asked(chosen(pool, start(pool), 5))
    rows = chosen(pool, state, 60).rows
    assert (state.status[rows] == FREE).all()
    assert (rows % 2 == 1).all()
    assert len(rows) == ((state.status == FREE) & (np.arange(60) % 2 == 1)).sum()


def test_rows_that_are_out_count_as_known():
    """Two near copies: when one is out the other is not chosen."""
    pool = pool_of(40, labelled=30)
    numbers = pool.numbers.copy()
    numbers[30:] *= 0.1
    numbers[30], numbers[31] = (50.0, 50.0), (50.0, 50.001)
    pool = Pool(pool.schema, numbers, pool.codes, pool.y, pool.allowed, pool.names)
    first = chosen(pool, start(pool), 1, audit=0.0)
    second = chosen(pool, start(pool).asked(first), 1, audit=0.0)
    assert {int(first.rows[0])} <= {30, 31}
    assert second.rows[0] not in (30, 31)


def test_without_a_model_rows_are_random():
    pool = pool_of(100, labelled=first_labels(pool_of(10)) - 1)
    assert fit(pool, start(pool), settings()) is None
    batch = chosen(pool, start(pool), 30)
    assert batch.random.all()
    assert batch.stage is None
    assert np.isnan(batch.prediction).all()


def test_equal_labels_make_no_model():
    pool = pool_of(50, labelled=40)
    state = start(pool).told(range(40), [1.0] * 40)
    assert fit(pool, state, settings()) is None


@pytest.mark.parametrize(
    ("audit", "share"), [(0.0, 0.0), (0.25, 0.25), pytest.param(0.1, 0.1, marks=pytest.mark.slow), (1.0, 1.0)]
)
def test_audit_share(audit, share):
    """The mean over 40 seeds within 4 standard errors of a rounded count of 7 rows (at most 1/2 each)."""
    pool = pool_of(120, labelled=30)
    model = fit(pool, start(pool), settings())
    batches = [choose(pool, start(pool), settings(seed=s, audit=audit), 7, model) for s in range(40)]
    counts = [batch.random.sum() for batch in batches]
    assert abs(np.mean(counts) - 7 * share) <= 4 * 0.5 / np.sqrt(40) * (share not in (0.0, 1.0))


def test_audit_rows_are_uniform():
    """Each of 20 free rows is drawn with probability 1/4: no count of 300 draws is 5 standard errors off."""
    pool = pool_of(50, labelled=30)
    counts, model = np.zeros(50), fit(pool, start(pool), settings())
    for seed in range(300):
        batch = choose(pool, start(pool), settings(seed=seed, audit=1.0), 5, model)
        counts[batch.rows] += 1
    assert (np.abs(counts[30:] - 75) < 5 * np.sqrt(300 * 0.25 * 0.75)).all()


def test_thinned_tables(monkeypatch):
    monkeypatch.setattr("surrogate.labelling.loop.MOST_CANDIDATES", 50)
    pool = pool_of(400, labelled=30)
    batch = chosen(pool, start(pool), 20)
    assert len(set(batch.rows.tolist())) == 20
    assert batch.note == ""


def test_copies_are_filled_up_at_random_and_this_is_said():
    pool = pool_of(80, labelled=30)
    numbers = pool.numbers.copy()
    numbers[30:] = numbers[0]
    pool = Pool(pool.schema, numbers, pool.codes, pool.y, pool.allowed, pool.names)
    batch = chosen(pool, start(pool), 8, audit=0.0)
    assert len(set(batch.rows.tolist())) == 8
    reason = "0 of 8 points chosen: no distinct points are left"
    assert f"8 of 8 chosen rows were drawn at random instead ({reason})" in batch.note


@pytest.mark.parametrize("method", ["maxdet-p", "bait-f", "maxdiag", "maxdist-p"])
def test_rules_that_start_from_nothing_know_the_labels(method):
    """Of two copies far out, one of them labelled, the other is not worth a label."""
    pool = pool_of(80, labelled=30)
    numbers = pool.numbers.copy()
    numbers[0] = numbers[40] = (9.0, 0.0)
    numbers[41] = (0.0, 8.0)
    pool = Pool(pool.schema, numbers, pool.codes, pool.y, pool.allowed, pool.names)
    assert chosen(pool, start(pool), 1, audit=0.0, method=method).rows.tolist() == [41]


def test_random_rows_are_a_random_sample():
    pool = pool_of(80, labelled=30)
    assert chosen(pool, start(pool), 9, method="random").random.all()


def test_no_row_left():
    pool = pool_of(30, labelled=30)
    with pytest.raises(ValueError, match="no row is left to ask for: 30 have labels, 0 are pending"):
        chosen(pool, start(pool), 1)


def test_regions_of_failures_are_avoided():
    """Labels fail where a > 0: chosen rows are below, audit rows anywhere."""
    pool = pool_of(400, labelled=0)
    a = pool.numbers[:, 0]
    state = start(pool)
    for row in range(120):
        state = state.failed([row], ["no"]) if a[row] > 0 else state.told([row], [a[row]])
    batch = chosen(pool, state, 40)
    assert (state.status[batch.rows] == FREE).all()
    assert (a[batch.rows[~batch.random]] < 0.3).all()
    assert (a[batch.rows[batch.random]] > 0.3).any()


def test_predictions_are_those_of_the_model():
    pool = pool_of(200, labelled=60)
    model = fit(pool, start(pool), settings())
    batch = choose(pool, start(pool), settings(), 10, model)
    found = model.predict(pool.x(batch.rows))
    np.testing.assert_array_equal(batch.prediction, found.table())
    assert batch.stage.n_labels == 60


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"audit": 1.5}, "audit must be a share between 0 and 1, got 1.5"),
        ({"budget": 0}, "budget must be a whole number of at least 1, got 0"),
        ({"target_error": -1.0}, "target_error must be positive"),
        ({"flat": 0.0}, "flat must be a share"),
        ({"level": 1.0}, "level must be a probability"),
        ({"folds": 1}, "folds must be a whole number of at least 2"),
        ({"budget": 2.5}, "budget must be a whole number of at least 1, got 2.5"),
        ({"seed": "one"}, "seed must be a whole number, got 'one'"),
        ({"model": "tree"}, "model must be 'auto' or one of"),
    ],
)
def test_settings_that_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        LabelSettings(**given)


def test_settings_come_back():
    assert LabelSettings.of_document(settings().to_document()) == settings()
    with pytest.raises(ValueError, match="unknown settings 'sed'"):
        LabelSettings.of_document({"sed": 1})


def test_codes_of_status_are_fixed():
    assert (FREE, OUT, LABELLED, FAILED) == (0, 1, 2, 3)
