"""What a run says of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from surrogate.labelling.progress import (
    Coverage,
    compared,
    coverage,
    ending,
    facts,
    gain_per_doubling,
    prospect,
    score,
    summary,
)
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.state import Batch, LabelState, Stage


def stage(n, rmse=1.0, *, ratio=1.25, error=0.05, random=True):
    return Stage(n, "gp", rmse, error * rmse, rmse / ratio, n, random)


def told(errors, *, random, half=1.0, level=0.9):
    """A state after one batch with these errors and intervals of half width ``half``."""
    n = len(errors)
    state = LabelState.initial(np.full(n + 5, np.nan), random=True)
    prediction = np.tile([0.0, 1.0, -half, half], (n, 1))
    batch = Batch(1, np.arange(n), np.broadcast_to(random, n).copy(), prediction, level, stage(20))
    return state.asked(batch).told(range(n), errors)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(1.25, "NOT likely"), (1.4, "may save a little"), (1.7, "some of the labels"), (2.1, "about half of the labels")],
)
def test_prospect(ratio, words):
    assert words in prospect(stage(50, ratio=ratio))
    assert f"{ratio:.2f}" in prospect(stage(50, ratio=ratio))


def test_few_values_have_no_prospect():
    assert "labels have 2 different values" in prospect(stage(80), n_values=2)


def test_models_are_compared_with_a_constant():
    good, poor = (replace(stage(80, rmse), constant=1.0, ridge=0.8) for rmse in (0.5, 1.02))
    assert compared(good) == "RMSE 1 of a constant, 0.8 of a ridge regression"
    assert "NOT clearly better than a constant" in compared(poor)
    assert compared(stage(80)) == ""


def test_a_prospect_is_of_the_last_model():
    """An early one may rest on a label that was wrong and has been corrected."""
    state = told(np.linspace(0.1, 0.9, 7), random=True)
    stages = (stage(20, ratio=1.2), stage(60, ratio=2.0), stage(90, ratio=1.4))
    words = dict(facts(state, LabelSettings(), stages))
    assert "1.40" in words["prospect"]
    assert "no more than an indication" in dict(facts(state, LabelSettings(), stages[:1]))["prospect"]


def test_an_ending_without_a_free_row_counts_them():
    state = told([0.1, 0.2], random=True).failed([2], ["no key"])
    allowed = np.array([True, True, True, False, False, False, False])
    end = ending(state, LabelSettings(), None, allowed=allowed)
    assert end.over
    assert end.reason == "no row is left to ask for: 2 have labels, 1 failed, 4 are masked"


def test_a_budget_that_failures_took_says_so():
    state = told([0.1, 0.2], random=True).failed([2], ["no key"])
    reason = ending(state, LabelSettings(budget=3), None).reason
    assert reason == "the budget of 3 labels is spent, 1 of them on rows that failed"


def test_gaussian_errors_have_the_ratio_that_is_quoted(rng):
    error = rng.standard_normal(400_000)
    ratio = np.sqrt(np.mean(error**2)) / np.mean(np.abs(error))
    assert ratio == pytest.approx(math.sqrt(math.pi / 2), abs=0.005)
    assert abs(1.253 - math.sqrt(math.pi / 2)) < 5e-4


def test_errors_before_the_labels():
    state = told([3.0, 4.0, 1.0, 1.0], random=np.array([False, False, True, True]))
    found = score(state, state.batches[0])
    assert (found.told, found.out) == (4, 0)
    assert (found.chosen, found.random) == (math.sqrt(12.5), 1.0)
    half = state.batches[0]
    later = LabelState.initial(state.y * np.nan, random=True).asked(half)
    assert score(later, half).out == 4
    assert math.isnan(score(later, half).chosen)


def test_coverage_counts_random_and_chosen_rows_apart():
    state = told([0.5, 2.0, 0.9, 1.1], random=np.array([False, False, True, True]))
    for random in (True, False):
        found = coverage(state, 0.9, random=random)
        assert (found.n, found.inside) == (2, 1)
    assert coverage(state, 0.8, random=True).n == 0  # other intervals


def test_coverage_interval_is_that_of_clopper_and_pearson():
    """By the quantiles of the beta distribution."""
    low, high = Coverage(40, 33, 0.9).interval
    assert low == pytest.approx(stats.beta.ppf(0.025, 33, 8))
    assert high == pytest.approx(stats.beta.ppf(0.975, 34, 7))
    assert "NOT" not in str(Coverage(40, 36, 0.9))
    assert "NOT the nominal coverage" in str(Coverage(400, 300, 0.9))
    assert "no predicted row has a label yet" in str(Coverage(0, 0, 0.9))


@pytest.mark.parametrize("slope", [-0.5, -0.1, 0.0])
def test_gain_per_doubling_of_a_power_law(slope):
    """Exact: RMSE = n^slope falls by 1 - 2^slope."""
    found = gain_per_doubling(tuple(stage(n, n**slope) for n in (100, 130, 160, 200)))
    assert found[0] == pytest.approx(1 - 2**slope, abs=1e-12)
    assert found[1] > 0


def test_gain_needs_some_stages():
    assert gain_per_doubling(tuple(stage(n) for n in (100, 130, 160))) is None
    assert gain_per_doubling(tuple(stage(n) for n in (100, 110, 120, 130))) is None
    assert gain_per_doubling(tuple(stage(n, random=False) for n in (100, 130, 160, 200))) is None


def test_old_stages_do_not_count():
    new = tuple(stage(n, 1.0) for n in (100, 130, 160, 200))
    assert gain_per_doubling((stage(50, 100.0), *new)) == gain_per_doubling(new)


def test_endings():
    state = told([1.0, 1.0], random=True)
    free = LabelSettings()
    assert not ending(state, free, stage(20)).over
    assert ending(state, LabelSettings(budget=2), None).reason == "the budget of 2 labels is spent"
    assert not ending(state, LabelSettings(budget=3), None).over
    target = LabelSettings(target_error=1.0)
    assert ending(state, target, stage(20, 0.9)).over
    assert not ending(state, target, stage(20, 0.99)).over  # within one standard error
    assert not ending(state, target, stage(20, 0.5, random=False)).over  # of rows that somebody chose


def three_stages(*, error):
    state = LabelState.initial(np.full(9, np.nan), random=True)
    for number, n in enumerate((100, 130, 160), start=1):
        one = stage(n, error=error)
        state = state.asked(Batch(number, np.array([number]), np.ones(1, bool), np.zeros((1, 4)), 0.9, one))
    return state


def test_a_flat_curve_ends_a_run():
    settings = LabelSettings(flat=0.03)
    state = three_stages(error=1e-3)
    assert ending(state, settings, stage(200, error=1e-3)).reason.startswith("the curve is flat: twice the labels")
    assert not ending(state, settings, stage(200, 0.8, error=1e-3)).over
    assert not ending(three_stages(error=0.1), settings, stage(200, error=0.1)).over  # not known well enough


def test_facts_and_summary():
    state = told([0.5, 2.0, 0.5], random=np.array([True, False, True])).failed([3], ["no key"])
    settings, stages = LabelSettings(budget=9), state.stages
    words = dict(facts(state, settings, stages))
    assert words["labels"] == "3"
    assert words["failed"] == "1 (no key)"
    assert words["budget"] == "4 of 9 spent"
    assert "2 in their 90% interval" in words["coverage"]
    shown = summary(state, settings, stages, "y")
    assert shown.seen[:, 0].tolist() == [0.5, 2.0, 0.5]
    assert shown.batches.tolist() == [[20.0, 2.0, 0.5]]
    assert shown.stages[0, 0] == 20
    assert not shown.over
