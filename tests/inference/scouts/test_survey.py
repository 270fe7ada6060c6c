"""Further modes are looked for while the known ones are still being learned, once the posterior hardly moves."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.inference.checks.hidden import hypotheses_of, predicted_depth
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.own_draws import _one_of_each_mode
from surrogate.inference.scouts.survey import Survey
from surrogate.inference.view import View
from surrogate.samplers.mixture import Mixture


def with_moves(view, moved, step):
    """The view of a state at this step whose last batches moved the posterior by so many nats."""
    trace = np.array(view.state.trace)
    trace[-len(moved) :, view.state.columns.index("moved")] = moved
    setup = replace(view.setup, explore="thorough")
    return View(setup, replace(view.state, trace=trace, step=step, probes=None), view.before)


@pytest.mark.parametrize("moved", [(0.5, 0.01), (0.01, 0.5), (np.inf, 0.01), (np.nan, 0.01)])
def test_nothing_is_surveyed_while_the_posterior_moves(views, moved):
    assert len(Survey().points(with_moves(views[Phase.LEARN], moved, 7))) == 0


def test_nothing_is_surveyed_with_noise(views):
    view = with_moves(views[Phase.LEARN], (0.01, 0.01), 7)
    assert len(Survey().points(view)) == 1
    noisy = replace(view.state.data, noise=np.full(len(view.state.data), 0.1))
    assert len(Survey().points(View(view.setup, replace(view.state, data=noisy), view.before))) == 0


def test_the_point_excludes_more_hypotheses_than_any_draw(views):
    view = with_moves(views[Phase.LEARN], (0.01, 0.01), 7)
    point = Survey().points(view)
    assert point.shape == (1, 2)
    hypotheses, depth = hypotheses_of(view)[0], predicted_depth(view)
    left = hypotheses.exclude(point, depth(point)).share_open
    assert left < hypotheses.share_open
    draws = view.draws.warm[:20]
    assert all(left <= hypotheses.exclude(t[None], depth(t[None])).share_open for t in draws)


def test_a_claim_is_confirmed_by_a_draw_of_each_mode_with_few_evaluations(rng):
    means = np.array([[0.0, 0.0], [5.0, 5.0], [5.3, 5.0], [-5.0, 5.0]])
    known = Mixture(np.array([0.6, 0.2, 0.17, 0.03]), means, np.repeat(0.3 * np.eye(2)[None], 4, 0))
    t = known.sample(400, rng)

    def chosen(known, evaluated):
        data = SimpleNamespace(finite=np.ones(len(evaluated), dtype=bool), y=np.zeros(len(evaluated)), y_max=0.0)
        return _one_of_each_mode(
            SimpleNamespace(modes_in_one_order=known, state=SimpleNamespace(data=data), t=evaluated, d=2), t
        )

    rows = chosen(known, means)
    assert len(rows) == 2  # two components are one mode, and a mode with 3 % of the mass does not matter
    assert np.linalg.norm(t[rows[0]]) < 2.0
    assert np.linalg.norm(t[rows[1]] - means[1]) < 2.0
    assert chosen(known, np.repeat(means[:1], 6, 0)) == rows[1:]  # six coefficients are known by six evaluations
    assert chosen(Mixture(np.ones(1), means[:1], np.eye(2)[None]), means[:2]) == []
