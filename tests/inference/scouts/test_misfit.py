import numpy as np
import pytest
import scipy.stats

from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.scouts.misfit import Misfit, scale_candidates
from surrogate.inference.setup import Setup
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

PRIOR = Prior.of({"a": (-10.0, 10.0), "b": (-10.0, 10.0), "s": scipy.stats.halfcauchy(0.0, 2.5)})
TIMES = np.linspace(0.0, 3.0, 40)
DATA = np.exp(-0.5 * TIMES) + 0.05 * np.random.default_rng(3).normal(size=40)


def log_likelihood(x):
    """A decay a exp(-b t) whose noise sd s is a parameter; at negative b it is wrong by up to e^30."""
    error = DATA - x[0] * np.exp(-x[1] * TIMES)
    return -40.0 * np.log(x[2]) - 0.5 * (error @ error) / x[2] ** 2


def step(loop, state):
    x = loop.ask(state)
    return x, loop.tell(state, x, [Evaluation(float(log_likelihood(p)), "ok") for p in x])


def test_positive_parameters_over_more_than_a_decade_may_be_scales():
    prior = Prior.of({"a": (0.0, 1.0), "b": (-1.0, 1.0), "c": (1.0, 2.0), "d": scipy.stats.gamma(25.0)})
    assert scale_candidates(Setup(prior)) == [0]


def test_a_suspected_scale_is_tested_by_three_calls_that_change_it_alone():
    loop = PosteriorLoop(Setup(PRIOR), scouts=(Misfit(),))
    state = loop.init(1)
    while state.parameters is None:
        _, state = step(loop, state)
    best = state.data.x[np.argmax(state.data.y)]
    x = loop.ask(state)
    assert x.shape == (3, 3)
    np.testing.assert_allclose(x[:, :2], np.repeat(best[None, :2], 3, axis=0), rtol=1e-12)
    assert len({*x[:, 2], best[2]}) == 4


def test_failed_tests_of_a_scale_are_not_repeated():
    """They took the whole of every batch once, so that a run went on for ever without a call."""
    loop = PosteriorLoop(Setup(PRIOR), scouts=(Misfit(),))
    state = loop.init(1)
    while state.parameters is None:
        _, state = step(loop, state)
    tested = loop.ask(state)
    state = loop.tell(state, tested, [Evaluation(np.nan, "failed", reason="KeyError")] * len(tested))
    x = loop.ask(state)
    assert len(x) > 0
    assert not {p.tobytes() for p in x} & {p.tobytes() for p in state.data.x}


@pytest.mark.slow
def test_the_smallest_misfit_is_found():
    """Within 20 nats of the mode by 48 calls with two of three seeds, from 1e4 nats or more away.

    Which seeds find it depends on rounding, and so on the processor.
    """
    found = []
    for seed in (1, 2, 3):
        loop = PosteriorLoop(Setup(PRIOR), scouts=(Misfit(),))
        state = loop.init(seed)
        while len(state.data) < 48:
            _, state = step(loop, state)
        near = state.data.y_max > log_likelihood(np.array([1.0, 0.5, 0.05])) - 20.0
        found.append(near and state.data.x[np.argmax(state.data.y), 2] < 0.1)
    assert sum(found) >= 2


@pytest.mark.parametrize("prior", [{"a": (-1.0, 1.0), "b": (-1.0, 1.0)}, {"s": (0.0, 1.0)}])
def test_nothing_is_proposed_without_a_scale_and_a_model(prior):
    loop = PosteriorLoop(Setup(Prior.of(prior)), scouts=(Misfit(),))
    state = loop.init(0)
    x = loop.ask(state)
    state = loop.tell(state, x, [Evaluation(float(-1e4 * (p**2).sum()), "ok") for p in x])
    view = loop.view(state)
    assert len(Misfit().points(view.replace(batch=view.draws.warm[:2]))) == 0
