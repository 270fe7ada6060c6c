from dataclasses import replace

import numpy as np
import pytest

from surrogate.inference.depths import bulk_depth, near_depth, relevant_depth, seen_depth
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.setup import Setup
from surrogate.inference.view import View
from surrogate.problem.prior import Prior


def test_the_surrogate_is_built_once_and_when_first_asked_for(armed, monkeypatch):
    built, real = [], View.build
    monkeypatch.setattr(View, "build", lambda *given: built.append(1) or real(*given))
    view = View(replace(armed.setup), armed.state)  # a set-up that has built nothing
    assert not built
    assert view.model is view.replace(batch=view.nowhere).model
    assert len(built) == 1


def test_what_was_computed_stays_and_what_is_given_changes(armed):
    view = View(armed.setup, armed.state)
    sample = view.sample
    other = view.replace(batch=view.t[:2])
    assert other.sample is sample
    assert len(other.batch) == 2
    assert len(view.batch) == 0


def test_a_stream_depends_on_its_purpose_alone(armed):
    assert armed.rng("a").random() == armed.rng("a").random()
    assert armed.rng("a").random() != armed.rng("b").random()


def test_a_view_of_the_same_state_computes_the_same(armed):
    one, two = (View(armed.setup, armed.state, armed.before) for _ in range(2))
    np.testing.assert_array_equal(one.sample.x, two.sample.x)
    assert one.spread.bulk == two.spread.bulk
    np.testing.assert_array_equal(one.exploration.inner, two.exploration.inner)
    assert one.exploration.rng.random() == two.exploration.rng.random()


def test_the_log_posterior_is_the_surrogate_and_the_prior(armed):
    t = np.concatenate([armed.draws.posterior[:5], [[2.0, 0.5]]])
    value = armed.log_posterior(t)
    np.testing.assert_allclose(value[:5], armed.model.relative(t[:5]))  # the density of the unit cube is one
    assert value[5] == -np.inf


def test_errors_are_those_of_the_last_three_batches(armed):
    state, z = armed.state, armed.errors(everywhere=True)
    told = (state.data.step >= state.step - 3) & state.data.finite & np.isfinite(state.predicted[:, 0])
    mean, sd = state.predicted[told].T
    np.testing.assert_allclose(z, (state.data.y[told] - mean) / np.hypot(sd, 0.1))
    assert len(armed.errors()) <= len(z)


def test_the_search_begins_in_the_inner_prior_where_points_are_feasible(armed):
    first = View(armed.setup, armed.state).replace(state=replace(armed.state, explored=0))
    inner = first.exploration.inner
    assert np.all((inner >= 0.1) & (inner <= 0.9))
    assert first.feasible(inner).all()
    assert len(first.exploration.if_feasible) == (0 if first.model.feasibility.everywhere else 1000)


def test_there_is_nothing_to_see_at_first():
    loop = PosteriorLoop(Setup(Prior.of({"a": (0.0, 1.0)})))
    with pytest.raises(ValueError, match="no surrogate yet"):
        _ = loop.view(loop.init(0)).model


@pytest.mark.parametrize("d", [1, 2, 16])
def test_depths_are_in_order(d):
    assert 0.5 * d < near_depth(d) < bulk_depth(d) < seen_depth(d) < relevant_depth(d)
