"""Laws of all scouts, in each phase of a run."""

import numpy as np
import pytest

from surrogate.inference.phases import Phase
from surrogate.inference.scouts import SCOUTS, Scout


@pytest.fixture(params=SCOUTS, ids=lambda scout: scout.name)
def scout(request):
    return request.param


def asked(scout, views):
    """The views of the phases in which a scout is asked, with a batch of four draws."""
    return [view.replace(batch=view.draws.warm[:4]) for phase, view in views.items() if phase in scout.phases]


def test_it_is_a_scout(scout):
    assert isinstance(scout, Scout)
    assert [other.name for other in SCOUTS].count(scout.name) == 1
    assert Phase.DESIGN not in scout.phases


def test_points_are_of_the_prior_and_the_same_again(scout, views):
    for view in asked(scout, views):
        t = scout.points(view)
        assert t.shape[1:] == (2,)
        assert np.isfinite(view.setup.scaled.log_density(t)).all()
        np.testing.assert_array_equal(scout.points(view), t)


@pytest.mark.parametrize("scout", [each for each in SCOUTS if each.name in ("own draws", "emptiest", "probes")])
def test_points_under_way_are_not_asked_for_again(scout, views):
    for view in asked(scout, views):
        x = view.setup.scaled.from_unit(scout.points(view))
        again = scout.points(view.replace(under_way=x))
        assert not {p.tobytes() for p in view.setup.scaled.from_unit(again)} & {p.tobytes() for p in x}
