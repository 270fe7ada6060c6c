"""A run asks of its surrogate, its parameters and its learner only what the protocols name."""

import numpy as np
import pytest

from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.setup import Setup
from surrogate.log_density.protocol import Learner, LogDensity, Parameters
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

BOX = [(-5.0, 5.0)] * 2


def half_normal(x):
    """Standard normal of two parameters where the first is above -1."""
    return Evaluation(float(-0.5 * (x @ x)), "ok") if x[0] > -1 else Evaluation(-np.inf, "infeasible")


def names_of(protocol):
    bases = [base for base in protocol.__mro__ if base.__module__.startswith("surrogate.")]
    return {name for base in bases for name in vars(base) if not name.startswith("_")}


class Only:
    """An object of which nothing but the members of a protocol can be reached."""

    def __init__(self, protocol, inner):
        self._names, self._inner = names_of(protocol), inner

    def __getattr__(self, name):
        if name not in self._names:
            msg = f"{name} is not in the protocol"
            raise AttributeError(msg)
        return getattr(self._inner, name)


class OnlyLearner:
    """Another kind of surrogate, as far as a run can tell: all that it makes shows its protocol alone."""

    def __init__(self, inner):
        self._inner = inner

    def fit(self, problem, before, **how):
        return Only(Parameters, self._inner.fit(problem, before and before._inner, **how))

    def open_minded(self, problem):
        return Only(Parameters, self._inner.open_minded(problem))

    def build(self, data, t, parameters, *, device="cpu"):
        return Only(LogDensity, self._inner.build(data, t, parameters._inner, device=device))


def run(setup, steps):
    loop = PosteriorLoop(setup)
    state = loop.init(seed=1)
    for _ in range(steps):
        if state.verdict.stop:
            break
        x = loop.ask(state)
        state = loop.tell(state, x, [half_normal(point) for point in x])
    return loop, state


@pytest.fixture(scope="module", params=[5, pytest.param(100, marks=pytest.mark.slow)], ids=["begun", "whole"])
def runs(request):
    plain, other = (Setup(Prior.of(BOX), particles=300) for _ in range(2))
    vars(other)["learner"] = OnlyLearner(plain.learner)  # in place of the cached property
    return run(plain, request.param), run(other, request.param)


def test_another_kind_of_surrogate_runs_to_the_same_end(runs):
    (_, expected), (_, state) = runs
    assert state.parameters is not None
    assert state.verdict.converged or state.step == 5
    np.testing.assert_array_equal(state.data.x, expected.data.x)
    np.testing.assert_array_equal(state.trace, expected.trace)


def test_what_is_saved_comes_from_the_protocol(runs):
    (_, expected), (_, state) = runs
    for name, array in expected.to_arrays().items():
        np.testing.assert_array_equal(state.to_arrays()[name], array)


def test_the_protocols_are_small():
    assert len(names_of(LogDensity)) <= 20
    assert len(names_of(Parameters)) <= 8
    assert names_of(Learner) == {"fit", "open_minded", "build"}
