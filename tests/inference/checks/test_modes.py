import numpy as np
import pytest

import surrogate
from surrogate.inference.checks import modes
from surrogate.inference.checks.hidden import Hidden
from surrogate.inference.checks.modes import Modes, fruitless_rounds, is_surprise
from surrogate.inference.findings import Finding
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.setup import Setup
from surrogate.inference.trilateration import Search
from surrogate.problem.target import Posterior


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


def compare(outputs, parameters):
    """Log-likelihood of four outputs, all of which were measured as zero, with sds that only it knows."""
    sd = np.array([parameters[f"sd{i}"] for i in range(4)])
    return float(-0.5 * ((outputs / sd) ** 2).sum() - np.log(sd).sum())


def test_patience_is_that_of_the_parameters_on_which_outputs_depend(monkeypatch):
    """Two of six: after three rounds without progress no further probes are asked for, and after one they are."""
    prior = {"a": (-1.0, 1.0), "b": (-1.0, 1.0), **{f"sd{i}": (0.5, 1.0) for i in range(4)}}
    simulate = lambda a, b: np.array([a, b, a * b, a + b**2])  # noqa: E731
    target = surrogate.Observables(simulate, compare, slow=["a", "b"])
    posterior = Posterior(target, prior)
    loop = PosteriorLoop(Setup(posterior.prior, particles=200, observables=target.bound(tuple(prior))))
    state = loop.init(1)
    x = loop.ask(state)
    view = loop.view(loop.tell(state, x, [posterior.evaluate(point) for point in x]))
    counts = []
    monkeypatch.setattr(
        modes, "search", lambda *_, count, **__: counts.append(count) or Search(view.nowhere, view.nowhere)
    )
    for rounds in (1, 3):
        monkeypatch.setattr(modes, "_fruitless_rounds", lambda _, rounds=rounds: rounds)
        Modes().look(view)
    assert counts == [2, 0]
