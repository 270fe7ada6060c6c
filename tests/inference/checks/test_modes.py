import numpy as np
import pytest

from surrogate.inference.checks import modes
from surrogate.inference.checks.hidden import Hidden
from surrogate.inference.checks.modes import Modes, fruitless_rounds, is_surprise
from surrogate.inference.findings import Finding
from surrogate.inference.trilateration import Search


@pytest.mark.parametrize(
    ("nearest", "rounds"),
    [([], 0), ([9.0], 0), ([9.0, 9.0], 1), ([9.0, 7.3, 7.3], 2), ([9.0, 9.0, 7.1], 0), ([9.0, 5.0, 9.0, 4.5], 2)],
)
def test_rounds_without_a_nearer_point(nearest, rounds):
    assert fruitless_rounds(nearest, [False] * len(nearest)) == rounds


@pytest.mark.parametrize(("surprised", "rounds"), [("...", 2), ("..!", 0), (".!.", 0), ("!..", 1)])
def test_a_surprise_keeps_the_search_going(surprised, rounds):
    assert fruitless_rounds([9.0, 9.0, 9.0], [mark == "!" for mark in surprised]) == rounds


def test_what_a_surprise_is():
    """Radii of 3 where 8 was expected; not where 3.2 was, nor inside the bulk, nor far from the nearest."""
    radius = np.array([3.0, 3.0, 3.0, 30.0])
    predicted = np.array([8.0, 3.2, 1.0, 80.0])
    found = is_surprise((radius**2 - 1) / 2, (predicted**2 - 1) / 2, np.full(4, 5.0), 2)
    assert found.tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("probability", "nearest", "count"), [(0.3, 9.0, 2), (np.nan, 9.0, 2), (0.005, 9.0, 1), (0.005, 3.0, 2)]
)
def test_unexplained_points_are_followed_only_where_a_mode_is_probable(armed, monkeypatch, probability, nearest, count):
    """Of a banana no mixture explains the far points: rounds of probes closed in on nothing.

    Points nearly as high as the known modes are followed in any case, and components without points are always probed.
    """
    probes = np.zeros((2, 2))
    monkeypatch.setattr(modes, "search", lambda *_, **__: Search(probes, probes[:1], 1, nearest))
    found = {Hidden.name: Finding(armed.nowhere, numbers={"hidden": probability})}
    assert len(Modes().look(armed.replace(findings=found)).points) == count
