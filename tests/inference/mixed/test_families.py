"""Runs in which parameters act at some levels alone: searched family by family, with right probabilities."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp

import surrogate
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.mixed.families import awaited, in_search, is_found, searched
from surrogate.inference.mixed.search import shares
from surrogate.inference.phases import Phase
from surrogate.inference.setup import Setup
from surrogate.inference.state import State
from surrogate.log_density.mixed.model import MixedLogDensity
from surrogate.problem.prior import Prior
from surrogate.problem.target import Posterior

PRIOR = {
    "n_lines": {"integers": (0, 2)},
    "a": surrogate.Parameter("a", (-3.0, 3.0), only={"n_lines": [1, 2]}),
    "b": surrogate.Parameter("b", (-3.0, 3.0), only={"n_lines": [2]}),
}
WIDTHS = np.array([0.08, 0.1])


def log_likelihood(n_lines, a, b):
    """None at -4; Gaussians of the lines that there are, the second one little better than none."""
    depth = 0.5 * ((a - 1.0) / WIDTHS[0]) ** 2
    both = depth + 0.5 * ((b + 0.5 - 0.6 * (a - 1.0)) / WIDTHS[1]) ** 2
    return (-4.0, -depth, 2.5 - both)[n_lines]


def exact_log_evidences(most):
    one = np.log(np.sqrt(2.0 * np.pi) * WIDTHS / 6.0)
    return np.array([-4.0, one[0], 2.5 + one.sum()])[: most + 1]


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["up to 1", "up to 2"])
def most(request):
    """The largest number of lines."""
    return request.param


@pytest.fixture(scope="module")
def result(most):
    options = {"seed": 2, "n_samples": 500, "max_evaluations": 100, "progress": False}
    if most == 2:
        return surrogate.infer(log_likelihood, PRIOR, **options)
    prior = {"n_lines": {"integers": (0, 1)}, "a": surrogate.Parameter("a", (-3.0, 3.0), only={"n_lines": [1]})}
    return surrogate.infer(lambda n_lines, a: log_likelihood(n_lines, a, 0.0), prior, **options)


def test_probabilities_are_right_and_what_does_not_act_has_its_prior(result, most):
    exact = exact_log_evidences(most)
    share = np.exp(exact - logsumexp(exact))
    assert result.converged
    for value, (p, error) in result.probabilities("n_lines").items():
        assert abs(p - share[value]) < max(0.02, 3.0 * error)
    none = result.samples[result.samples[:, 0] == 0]
    assert len(none) > 50
    assert np.abs(none[:, 1:].mean(0)).max() < 4.0 * np.sqrt(3.0 / len(none)) + 0.3
    assert result.n_evaluations < 60


def test_a_level_on_which_nothing_acts_takes_two_evaluations_and_the_others_follow_in_turn(result, most):
    lines = result.data.x[:, 0]
    first = [np.flatnonzero(lines == n)[0] for n in range(most + 1)]
    assert first == sorted(first)
    assert (lines == 0).sum() == 2
    if most == 1:
        return
    start = result.data.x[first[2] :][lines[first[2] :] == 2][:4]
    assert np.median(np.abs(start[:, 1] - 1.0)) < 0.5  # at the line that was found before, in a box of 6


def test_a_run_searches_one_family_at_a_time_and_is_pure():
    prior = Prior.of(PRIOR)
    loop, posterior, levels = PosteriorLoop(Setup(prior, particles=200)), Posterior(log_likelihood, prior), prior.levels
    state, seen = loop.init(1), []
    for _ in range(8):
        x = loop.ask(state)
        np.testing.assert_array_equal(x, loop.ask(State.from_arrays(state.to_arrays())))
        state = loop.tell(state, x, [posterior.evaluate(point) for point in x])
        seen.append(set(levels.index(x).tolist()))
        if awaited(loop.setup, state.data) is not None:
            assert state.verdict.phase in (Phase.DESIGN, Phase.TEMPERED)
            family = searched(levels, state.data.x)
            assert set(levels.index(state.draws.warm)) <= set(family.members)
    assert seen[:2] == [{0}, {1}]
    assert in_search(levels, state.data.x[:1], 1.0).tolist() == [0, 1, 2]  # before the first has begun
    assert in_search(levels, state.data.x[:2], 1.0).tolist() == [0]


def test_a_batch_is_shared_by_what_each_family_adds_to_the_error(monkeypatch):
    prior = Prior.of(PRIOR)
    loop, posterior, levels = PosteriorLoop(Setup(prior, particles=200)), Posterior(log_likelihood, prior), prior.levels
    state = loop.init(1)
    while state.parameters is None or state.parameters.temperature > 1.0 or awaited(loop.setup, state.data) is not None:
        x = loop.ask(state)
        state = loop.tell(state, x, [posterior.evaluate(point) for point in x])
    view = loop.view(state)
    t = np.concatenate([view.draws.posterior, view.draws.warm])
    sd = dict.fromkeys(range(3), 0.0) | {1: 1.0}

    def deviations(self, t, count, rng, *, inflate=1.0):
        return rng.standard_normal((count, 1)) * np.array([sd[level] for level in levels.index(t)])

    monkeypatch.setattr(MixedLogDensity, "deviations", deviations)
    ((rows, count, d),) = shares(view, t, 4)
    assert (count, d) == (4, 1)
    assert set(levels.index(t[rows])) == {1}
    sd[1] = 0.03
    p = [np.mean(levels.index(view.draws.posterior) == level) for level in (1, 2)]
    sd[2] = 0.09 * p[0] / p[1]  # adds three times as much
    assert [count for _, count, _ in shares(view, t, 4)] == [1, 3]
    sd |= {1: 5.0, 2: 5.0}  # each may hold everything
    assert [count for _, count, _ in shares(view, t, 4)] == [2, 2]


def test_families_are_levels_with_the_same_parameters():
    levels = Prior.of(PRIOR).levels
    assert [family.members.tolist() for family in levels.families] == [[0], [1], [2]]
    assert [family.columns.tolist() for family in levels.families] == [[], [1], [1, 2]]
    assert levels.acts.tolist() == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_family_is_found_once_a_batch_at_temperature_1_has_not_raised_its_best_value():
    prior = Prior.of(PRIOR)
    loop, posterior, levels = PosteriorLoop(Setup(prior, particles=200)), Posterior(log_likelihood, prior), prior.levels
    state, cold = loop.init(1), 0
    while (levels.index(state.data.x) == 2).sum() == 0:
        x = loop.ask(state)
        before, state = state, loop.tell(state, x, [posterior.evaluate(point) for point in x])
        cold += state.parameters.temperature == 1.0 and set(levels.index(x)) == {1}
    assert cold >= 2  # batches of one line, the second of which was chosen at temperature 1
    assert is_found(loop.setup, before)
    last = before.data.step == before.step - 1
    rises = replace(before, data=replace(before.data, y=np.where(last, before.data.y.max() + 1.5, before.data.y)))
    assert not is_found(loop.setup, rises)
    assert not is_found(loop.setup, replace(before, previous=None))
