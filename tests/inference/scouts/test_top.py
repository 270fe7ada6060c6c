"""The maximum of the surrogate is evaluated before a claim, so that a spike there is seen."""

from __future__ import annotations

import numpy as np
import pytest

import surrogate
from surrogate.inference.phases import Phase
from surrogate.inference.scouts import top
from surrogate.inference.scouts.top import Top

BOX = {"a": (-8.0, 8.0), "b": (-8.0, 8.0)}


def armed(views):
    view = views[Phase.ARMED]
    return view.replace(batch=view.draws.posterior[:2])


def test_it_is_the_maximum_of_the_surrogate_posterior(views, monkeypatch):
    monkeypatch.setattr(top, "_NEAR", 0.0)
    view = armed(views)
    point = Top().points(view)
    assert point.shape == (1, view.d)
    draws = view.sample.x[view.sample.weights > 0.0]
    assert view.log_posterior(point)[0] >= view.log_posterior(draws).max() - 1e-6


def test_it_is_not_evaluated_where_an_evaluation_is_near_or_others_are_awaited(views, monkeypatch):
    view = armed(views)
    assert top._distance(view, view.t[3]) == 0.0
    assert not len(Top().points(view))  # a run of two parameters has evaluated its maximum by then
    monkeypatch.setattr(top, "_NEAR", 0.0)
    assert len(Top().points(view)) == 1
    assert not len(Top().points(view.replace(under_way=view.setup.scaled.from_unit(view.batch))))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_spike_at_the_top_of_a_hill_is_found(seed):
    """It has half of the mass, and a tenth of the width of the hill: the evidence without it is 0.69 too low."""

    def log_likelihood(x):
        square = float(x @ x)
        return np.logaddexp(np.log(0.5) - 0.5 * square, np.log(0.5 / 0.01) - 0.5 * square / 0.01) - np.log(2.0 * np.pi)

    result = surrogate.infer(log_likelihood, BOX, seed=seed, max_evaluations=150, progress=False)
    assert result.converged
    assert abs(result.log_evidence + np.log(256.0)) < 0.2
