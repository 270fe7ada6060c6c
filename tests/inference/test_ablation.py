import pytest

from surrogate.inference.ablation import parts, without
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.setup import Setup, holes_to_fill
from surrogate.problem.prior import Prior

LOOP = PosteriorLoop(Setup(Prior.of({"a": (0.0, 1.0), "b": (0.0, 1.0)}), n_initial=3))


def signature(loop):
    setup = loop.setup
    settings = setup.search, setup.switches
    return [part.name for part in (*loop.scouts, *loop.checks)], settings


@pytest.mark.parametrize("name", parts())
def test_each_part_can_be_left_out(name):
    assert signature(without(LOOP, name)) != signature(LOOP)


def test_without_holes_none_are_counted():
    assert holes_to_fill(LOOP.setup) > 0
    assert holes_to_fill(without(LOOP, "holes").setup) == 0


def test_without_all_search_for_modes():
    names = signature(LOOP)[0]
    left = signature(without(LOOP, "explore"))[0]
    assert [name for name in names if name not in left] == [
        "promising",
        "survey",
        "labels",
        "exchanges",
        "holes",
        "modes",
    ]


def test_there_is_no_part_of_that_name():
    with pytest.raises(ValueError, match="must be one of structures, .*explore, got 'luck'"):
        without(LOOP, "luck")
