"""How scouts share a batch."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.inference import batch
from surrogate.inference.batch import assemble
from surrogate.inference.phases import Phase, Verdict
from surrogate.inference.scouts import Place


class Fixed:
    """Asks for given points, and remembers what was chosen when it was asked."""

    def __init__(self, place, *points, phases=frozenset(Phase)):
        self.name, self.place, self.phases = "fixed", place, phases
        self.answer = np.array(points, dtype=float).reshape(-1, 2)

    def points(self, view):
        self.seen = len(view.batch)
        return self.answer


A, B, C = (9.0, 9.0), (8.0, 8.0), (7.0, 7.0)


@pytest.fixture
def chosen(armed, monkeypatch):
    """The batch that scouts make of four points, the numbers of these, and the letters of theirs."""
    own = np.arange(8.0).reshape(4, 2)
    names = {tuple(point): str(number) for number, point in enumerate(own)} | {A: "a", B: "b", C: "c"}
    monkeypatch.setattr(batch, "_uncertain_draws", lambda _, n: own[:n])

    def of(*scouts, n=4, exact=False):
        view = armed.replace(state=replace(armed.state, verdict=Verdict(Phase.ARMED, "")))
        vars(view)["model"] = SimpleNamespace(exact=exact)
        return "".join(names[tuple(point)] for point in assemble(view, scouts, n))

    return of


def test_without_scouts_the_batch_is_where_the_surrogate_is_least_sure(chosen):
    assert chosen() == "0123"


def test_first_points_stand_in_their_order_and_take_slots(chosen):
    assert chosen(Fixed(Place.FIRST, A, B), Fixed(Place.FIRST, C)) == "abc0"


def test_more_first_points_than_slots_are_all_kept(chosen):
    assert chosen(Fixed(Place.FIRST, A, B), Fixed(Place.FIRST, C), n=1) == "abc"


def test_last_points_take_slots_at_the_end(chosen):
    assert chosen(Fixed(Place.LAST, A)) == "012a"
    assert chosen(Fixed(Place.LAST)) == "0123"


def test_extra_points_come_on_top(chosen):
    assert chosen(Fixed(Place.EXTRA, A, B)) == "0123ab"


def test_of_an_exact_surrogate_extra_points_confirm_a_claim(chosen):
    """Any points tell the same of a quadratic: those of checks need no others beside draws, and one is always left."""
    scouts = (Fixed(Place.FIRST, C), Fixed(Place.EXTRA, A, B))
    assert chosen(*scouts) == "c012ab"
    assert chosen(*scouts, exact=True) == "c0ab"
    assert chosen(Fixed(Place.EXTRA, A, B), n=1, exact=True) == "0ab"


def test_a_batch_is_filled_as_far_as_it_has_room(chosen):
    assert chosen(Fixed(Place.FILL, A, B, C), n=6) == "0123ab"
    full = Fixed(Place.FILL, A)
    assert chosen(full) == "0123"
    assert not hasattr(full, "seen")


def test_scouts_see_what_is_chosen_before_them(chosen):
    last = Fixed(Place.EXTRA)
    chosen(Fixed(Place.EXTRA, A, B), last)
    assert last.seen == 6


def test_scouts_of_other_phases_are_not_asked(chosen):
    assert chosen(Fixed(Place.EXTRA, A, phases=frozenset({Phase.DESIGN}))) == "0123"
