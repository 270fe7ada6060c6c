"""Hidden modes: hypotheses, what excludes them, and the point that would exclude most."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from surrogate.inference.coverage import farthest
from surrogate.inference.hidden_modes import (
    Hypotheses,
    Known,
    best_point,
    best_points,
    count_modes,
    draw_hypotheses,
    hidden_probability,
    is_refused,
    is_worth,
    tolerance,
)
from surrogate.samplers.mixture import Mixture

D = 2
UNIT = (np.zeros(D), np.ones(D))
KNOWN = Mixture(np.ones(1), np.full((1, D), 0.5), 0.05 * np.eye(D)[None])
LOG_INTEGRAL = np.log(2.0 * np.pi * 0.05**2)


def depth(t):
    """Of the known mode, the only one there is."""
    return 0.5 * ((np.atleast_2d(t) - 0.5) ** 2).sum(1) / 0.05**2


def hypotheses(seed=0):
    return draw_hypotheses(KNOWN, LOG_INTEGRAL, depth, UNIT, np.random.default_rng(seed))


def slow_open(one, t, depths):
    """Whether no point excludes each hypothesis, one pair after the other."""
    out = one.open.copy()
    for h in range(len(one.open)):
        for point, deep in zip(t, depths, strict=True):
            value = one.peaks[h] - 0.5 * (((point - one.centres[h]) / one.widths[h]) ** 2).sum()
            if np.isfinite(deep) and value > -deep + 1.0 + 0.1 * deep:
                out[h] = False
    return out


def test_parity_with_one_pair_after_the_other():
    drawn = draw_hypotheses(KNOWN, LOG_INTEGRAL, depth, UNIT, np.random.default_rng(3), count=300)
    t = np.random.default_rng(4).random((7, D))
    depths = depth(t)
    depths[2] = np.inf
    np.testing.assert_array_equal(drawn.exclude(t, depths).open, slow_open(drawn, t, depths))


def test_beyond_its_reach_a_value_excludes_nothing():
    drawn = draw_hypotheses(KNOWN, LOG_INTEGRAL, depth, UNIT, np.random.default_rng(3), count=300)
    limited = replace(drawn, reach=4.0)
    t = np.random.default_rng(4).random((7, D))
    sds = np.sqrt((((t[None] - drawn.centres[:, None]) / drawn.widths[:, None]) ** 2).sum(2))[drawn.open]
    np.testing.assert_array_equal(limited.excluded(t, depth(t)), drawn.excluded(t, depth(t)) & (sds < 4.0))
    assert drawn.exclude(t, depth(t)).share_open < limited.exclude(t, depth(t)).share_open < drawn.share_open


def bent_depth(t):
    """Of a mode that follows the parabola y = 1/2 + 10 (x - 1/2)^2, which is straight in its middle."""
    x, y = np.atleast_2d(t).T
    return 0.5 * (((x - 0.5) / 0.1) ** 2 + ((y - 0.5 - 10.0 * (x - 0.5) ** 2) / 0.02) ** 2)


def test_a_gaussian_mode_needs_no_more_tolerance():
    t = np.random.default_rng(0).random((100, D))
    assert tolerance(KNOWN, LOG_INTEGRAL, t, depth(t)) == 0.1


def test_a_bent_mode_tolerates_what_would_exclude_itself():
    """The tangent in its middle runs far above the values: bent hypotheses would be excluded like the mode itself."""
    middle = Mixture(np.ones(1), np.full((1, D), 0.5), np.diag([0.1, 0.02])[None])
    log_integral = np.log(2.0 * np.pi * 0.1 * 0.02)
    t = np.column_stack([np.linspace(0.2, 0.8, 31), np.full(31, 0.5)])
    assert tolerance(middle, log_integral, t[15:16], bent_depth(t[15:16])) == 0.1
    slack = tolerance(middle, log_integral, t, bent_depth(t))
    assert slack == 0.5
    drawn = [
        draw_hypotheses(middle, log_integral, bent_depth, UNIT, np.random.default_rng(1), slack=share)
        for share in (0.1, slack)
    ]
    spread = np.random.default_rng(2).random((4, D))
    strict, tolerant = (one.exclude(spread, bent_depth(spread)) for one in drawn)
    assert tolerant.share_open > 1.5 * strict.share_open
    assert (tolerant.open | ~strict.open).all()


def test_a_component_of_hardly_any_mass_does_not_count():
    stray = Mixture(np.array([0.96, 0.04]), np.full((2, D), 0.5), np.stack([0.05 * np.eye(D), 0.5 * np.eye(D)]))
    t = np.random.default_rng(0).random((100, D))
    assert tolerance(stray, LOG_INTEGRAL, t, depth(t)) == 0.1


@pytest.mark.parametrize("width", [0.3, 1e-4, 1e-7, 1e-12])
def test_log_likelihoods_are_right_however_narrow_the_mode(width):
    """To a thousandth of a nat; of a mode narrower than rounding allows, not by the product of matrices."""
    rng = np.random.default_rng(0)
    centres, widths = rng.random((5, D)), width * rng.uniform(0.5, 2.0, (5, D))
    one = Hypotheses(centres, widths, rng.standard_normal(5), np.ones(5, dtype=bool))
    t = np.concatenate([centres + widths * rng.standard_normal((5, D)), rng.random((5, D))])
    slow = one.peaks[:, None] - 0.5 * (((t - centres[:, None]) / widths[:, None]) ** 2).sum(2)
    np.testing.assert_allclose(one.log_likelihood(t), slow, rtol=1e-9, atol=1e-3)


def test_what_the_surrogate_knows_is_no_hypothesis():
    drawn = hypotheses()
    higher = drawn.peaks > -depth(drawn.centres) + 1.0 + 0.1 * depth(drawn.centres)
    np.testing.assert_array_equal(drawn.open, higher)
    at_the_peak = ((drawn.centres - 0.5) ** 2).sum(1) < 0.02**2
    assert (drawn.peaks[at_the_peak & drawn.open] > 0.9).all()


def test_peaks_have_the_mass_that_they_stand_for():
    drawn = hypotheses()
    log_mass = drawn.peaks + 0.5 * D * np.log(2.0 * np.pi) + np.log(drawn.widths).sum(1)
    share = 1.0 / (1.0 + np.exp(LOG_INTEGRAL - log_mass))
    assert share.min() >= 0.05 - 1e-12
    assert share.max() <= 0.95 + 1e-12


def test_more_evaluations_never_open_a_hypothesis():
    drawn, t = hypotheses(), np.random.default_rng(1).random((20, D))
    before = drawn
    for n in range(1, 21):
        after = drawn.exclude(t[:n], depth(t[:n]))
        assert not (after.open & ~before.open).any()
        before = after
    assert before.share_open < 0.5 * drawn.share_open


def test_a_true_second_mode_is_never_excluded():
    """Evaluations of two modes are consistent with the hypothesis that is the second one."""
    centre, width = np.array([0.2, 0.8]), np.full(D, 0.04)
    truth = Hypotheses(centre[None], width[None], np.zeros(1), np.ones(1, dtype=bool))
    t = np.random.default_rng(2).random((200, D))
    second = 0.5 * (((t - centre) / width) ** 2).sum(1)
    assert truth.exclude(t, np.minimum(depth(t), second)).open.all()


def test_the_best_point_excludes_what_it_promises():
    drawn = hypotheses()
    point, share = best_point(drawn, depth, np.random.default_rng(5))
    assert point.shape == (1, D)
    left = drawn.exclude(point, depth(point))
    assert drawn.share_open - left.share_open == pytest.approx(share)
    random = [drawn.exclude(t, depth(t)).share_open for t in np.random.default_rng(6).random((50, 1, D))]
    assert left.share_open <= np.quantile(random, 0.1)


def test_points_predicted_infeasible_are_not_proposed():
    point, share = best_point(hypotheses(), lambda t: np.full(len(t), np.inf), np.random.default_rng(7))
    assert point.shape == (0, D)
    assert share == 0.0


def test_probability_by_bayes():
    assert hidden_probability(0.0, 0.5) == 0.0
    assert hidden_probability(1.0, 0.3) == pytest.approx(0.3)
    assert hidden_probability(0.2, 0.5) == pytest.approx(0.1 / 0.6)


def test_on_a_circle_the_shorter_way_round_counts():
    """A mode across the seam is seen by a point on the other side of it, wherever the seam is."""
    centre, width = np.array([[0.02, 0.5]]), np.full((1, D), 0.05)
    t, deep = np.array([[0.97, 0.5]]), np.array([30.0])
    on_a_line = Hypotheses(centre, width, np.zeros(1), np.ones(1, dtype=bool))
    on_a_circle = replace(on_a_line, period=np.array([1.0, np.inf]))
    assert on_a_line.exclude(t, deep).open.all()
    assert not on_a_circle.exclude(t, deep).open.any()
    turned = on_a_circle.log_likelihood(t + [3.0, 0.0])
    np.testing.assert_allclose(turned, on_a_circle.log_likelihood(t))
    assert turned[0, 0] == pytest.approx(-0.5)


def test_a_forbidden_half_of_the_prior_leaves_no_room():
    """However few evaluations were made there; only modes that reach beyond it from their centre remain."""
    forbidden = lambda t: np.where(t[:, 0] > 0.5, np.inf, depth(t))  # noqa: E731
    drawn = draw_hypotheses(KNOWN, LOG_INTEGRAL, forbidden, UNIT, np.random.default_rng(0))
    assert (drawn.candidates[:, 0] <= 0.5).all()
    assert (drawn.centres[drawn.open, 0] <= 0.5).mean() > 0.8
    assert 0.2 < drawn.share_open < hypotheses().share_open


def test_half_of_the_hypotheses_are_about_the_known_modes():
    """Where modes overlap, which a share of 1 % of a uniform distribution would hardly look at."""
    distance = np.linalg.norm(hypotheses().centres - KNOWN.means[0], axis=1) / 0.05
    anywhere = np.linalg.norm(np.random.default_rng(1).random((4000, D)) - 0.5, axis=1) / 0.05
    assert (distance < 8.0).mean() > 0.5 * (anywhere < 8.0).mean() + 0.4
    assert (distance > 10.0).mean() > 0.4 * (anywhere > 10.0).mean()


def test_best_points_exclude_more_than_the_farthest_ones():
    """What a search may evaluate before a claim, four points here, tells more where hypotheses are open."""
    drawn, seen = hypotheses(), np.array([[0.5, 0.5], [0.1, 0.1], [0.9, 0.1]])
    drawn = drawn.exclude(seen, depth(seen))
    best, left = best_points(drawn, depth, np.random.default_rng(8), 4)
    anywhere = 0.1 + 0.8 * np.random.default_rng(9).random((2000, D))
    far = anywhere[farthest(seen, anywhere, 4)]
    assert best.shape == (4, D)
    assert left.share_open < drawn.exclude(far, depth(far)).share_open < drawn.share_open


def test_nothing_to_exclude_needs_no_points():
    closed = replace(hypotheses(), open=np.zeros(4000, dtype=bool))
    assert len(best_points(closed, depth, np.random.default_rng(0), 3)[0]) == 0


def test_components_of_an_arm_are_one_mode():
    """A chain of Gaussians a width apart has no valley; two that are six widths apart do."""
    line = 0.05 * np.arange(6)[:, None] + np.array([[0.2, 0.5]])
    factors = 0.05 * np.eye(D)[None]
    assert count_modes(Mixture(np.full(6, 1 / 6), line, np.repeat(factors, 6, 0))) == 1
    assert count_modes(Mixture(np.full(2, 0.5), line[[0, 5]] * [[1.0, 1.0], [1.2, 1.0]], np.repeat(factors, 2, 0))) == 2
    assert count_modes(KNOWN) == 1


def test_a_mode_with_an_infeasible_centre_counts_where_a_part_of_it_is_feasible():
    """A border that cuts a mode short of its centre leaves room for the rest of it."""
    forbidden = lambda t: np.where(t[:, 0] > 0.8, np.inf, depth(t))  # noqa: E731
    drawn = draw_hypotheses(KNOWN, LOG_INTEGRAL, forbidden, UNIT, np.random.default_rng(0))
    beyond = drawn.centres[:, 0] > 0.8
    near = beyond & (drawn.centres[:, 0] < 0.85)
    assert 0.1 < drawn.open[near].mean() < 0.5
    assert drawn.open[beyond & (drawn.centres[:, 0] > 0.95)].mean() < 0.05
    assert (drawn.candidates[:, 0] <= 0.8).all()


def test_what_another_evaluation_is_worth():
    """One Gaussian justifies a fixed number of evaluations, other posteriors as many as their limit needs."""
    gaussian, curved, several = Known(3, 1, coefficients=10), Known(3, 1), Known(3, 2)
    assert [is_worth(1e-3, 0.08, gaussian, "normal", n) for n in (17, 18)] == [True, False]
    assert [is_worth(1e-3, p, curved, "normal", 100) for p in (0.02, 0.04, 0.2)] == [False, True, False]
    assert [is_worth(1e-5, p, several, "normal", 100) for p in (0.05, 0.2)] == [False, True]
    assert not is_worth(0.0, 0.2, several, "normal", 100)
    assert not is_worth(0.1, 0.2, Known(3, 1, polynomial=True), "normal", 20)


def test_a_claim_beside_several_modes_needs_an_improbable_further_one():
    assert is_refused(0.12, Known(3, 2), "normal")
    assert not is_refused(0.08, Known(3, 2), "normal")
    assert not is_refused(0.25, Known(8, 1), "normal")
    assert not is_refused(np.nan, Known(3, 2), "normal")
