"""Before a claim, no point of learned outputs is where its value would tell nothing about the posterior."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.inference.phases import Phase
from surrogate.inference.scouts import denied, emptiest, top
from surrogate.inference.scouts.denied import Denied
from surrogate.inference.scouts.emptiest import Emptiest
from surrogate.inference.scouts.top import Top
from surrogate.inference.snapshot import Snapshot
from surrogate.log_density.base import LogDensityBase


@pytest.fixture
def of_outputs(monkeypatch):
    """Makes views take their surrogate for one of outputs, which is judged down to one nat."""
    monkeypatch.setattr(Snapshot, "learns_outputs", property(lambda _: True))
    for scout in (emptiest, denied):
        monkeypatch.setattr(scout, "judged_depth", lambda _: 1.0)


def test_the_emptiest_part_is_that_of_draws_by_which_outputs_are_judged(views, monkeypatch, request):
    monkeypatch.setattr(LogDensityBase, "exact", property(lambda _: False))
    view = views[Phase.ARMED]
    assert view.model.relative(Emptiest().points(view))[0] < -1.0
    request.getfixturevalue("of_outputs")
    point = Emptiest().points(view)
    assert point.shape == (1, 2)
    assert view.model.relative(point)[0] > -1.0


def test_draws_denied_by_feasibility_must_matter_to_learned_outputs(views, request):
    view = views[Phase.ARMED]
    assert len(Denied().points(view)) == 1
    request.getfixturevalue("of_outputs")
    found = Denied().points(view)
    assert (view.model.if_feasible(found) > -1.0).all()
    assert (view.model.feasibility.probability(view.model.whiten(found)) < 0.5).all()


def test_learned_outputs_need_no_evaluation_at_their_maximum(views, monkeypatch, request):
    monkeypatch.setattr(top, "_NEAR", 0.0)
    view = views[Phase.ARMED]
    view = view.replace(batch=view.draws.posterior[:2])
    assert len(Top().points(view)) == 1
    request.getfixturevalue("of_outputs")
    assert not len(Top().points(view))
    np.testing.assert_array_equal(Top().points(view), view.nowhere)
