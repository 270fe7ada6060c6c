"""A likelihood that never works ends a run after few calls, with its reason; one that works sometimes does not."""

import time
from dataclasses import replace

import pytest

import surrogate
from surrogate.inference.driving.budget import Budget
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.setup import Setup
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior


class Counted:
    """A likelihood that counts its calls."""

    def __init__(self, function):
        self.calls = 0
        self.function = function

    def __call__(self, x):
        self.calls += 1
        return self.function(x)


def raising(_):
    raise KeyError("H0")  # noqa: EM101


def infer(function, d, **options):
    return surrogate.infer(function, [(0.0, 1.0)] * d, progress=False, **options)


@pytest.mark.parametrize("d", [2, 4, 8])
@pytest.mark.parametrize(("options", "expected"), [({}, 20), ({"max_failures": 5}, 6), ({"max_failures": 0}, 1)])
def test_a_likelihood_that_always_fails_ends_the_run(d, options, expected):
    likelihood = Counted(raising)
    with pytest.raises(ValueError, match="KeyError: 'H0'"):
        infer(likelihood, d, **options)
    assert likelihood.calls == expected


@pytest.mark.parametrize(("options", "expected"), [({}, 20), ({"max_failures": 5}, 6)])
def test_it_ends_a_run_with_points_in_flight(options, expected):
    def slow(x):
        time.sleep(0.1)
        raising(x)

    likelihood = Counted(slow)
    with pytest.raises(ValueError, match="KeyError: 'H0'"):
        infer(likelihood, 8, mode="async", executor="threads:2", **options)
    assert expected <= likelihood.calls <= expected + 4  # two workers, each with a call and with the next one


def test_answers_of_the_wrong_kind_end_it_too():
    likelihood = Counted(lambda x: bool(x[0] > 0.5))
    with pytest.raises(ValueError, match="each of the last 20 evaluations failed"):
        infer(likelihood, 3)
    assert likelihood.calls == 20


def test_reasons_that_differ_in_numbers_alone_are_one():
    def failing(x):
        msg = f"no solution at {x[0]:.17g}"
        raise RuntimeError(msg)

    likelihood = Counted(failing)
    with pytest.raises(ValueError, match="each of the last 20 evaluations failed"):
        infer(likelihood, 4)
    assert likelihood.calls == 20


@pytest.mark.slow
def test_a_few_failures_in_the_design_are_allowed():
    def sometimes(x):
        if x[0] < 0.75:
            raise KeyError("H0")  # noqa: EM101
        return -0.5 * float(((x - 0.9) ** 2).sum()) / 0.03**2

    result = infer(sometimes, 2, seed=1)
    assert result.converged
    assert (result.data.status == 2).sum() > 3


def test_iterations_without_a_new_point_end_a_run():
    loop = PosteriorLoop(Setup(Prior.of({"a": (0.0, 1.0)})))
    state = loop.init(0)
    x = loop.ask(state)
    state = loop.tell(state, x, [Evaluation(0.0, "ok")] * len(x))
    budget = Budget(100)
    assert not budget.spent(replace(state, step=20))
    assert "no new point was found in 20 iterations" in budget.spent(replace(state, step=21))


def test_the_first_failure_is_shown_at_once(capsys):
    shown = []

    def failing(x):
        shown.append(capsys.readouterr().err)
        return raising(x)

    with pytest.raises(ValueError, match="H0"):
        surrogate.infer(failing, [(0, 1)] * 2)
    assert "call 1 failed: KeyError: 'H0'" in shown[1]
    assert not any("KeyError" in text for text in shown[2:])


def test_a_run_that_is_started_again_gets_further_calls(tmp_path):
    for _ in range(2):
        likelihood = Counted(raising)
        with pytest.raises(ValueError, match="each of the last 20"):
            infer(likelihood, 2, output=tmp_path)
        assert likelihood.calls == 20
