"""Evaluations by answers in a folder."""

import json
import math

import numpy as np
import pytest

from surrogate.executors.files import FilesExecutor
from surrogate.problem.target import Posterior

POSTERIOR = Posterior(lambda a, b: 0.0, {"a": (0, 1), "b": (0, 1)})


@pytest.fixture
def executor(tmp_path):
    with FilesExecutor(tmp_path, POSTERIOR, pause=0.01) as executor:
        yield executor


def answered(tmp_path, executor, text):
    future = executor.submit(POSTERIOR.evaluate, np.array([0.25, 0.5]))
    (question,) = (tmp_path / "ask").glob("*.json")
    assert json.loads(question.read_text())["parameters"] == {"a": 0.25, "b": 0.5}
    part = tmp_path / "tell" / "part"
    part.write_text(text)
    part.rename(tmp_path / "tell" / question.name)
    return future.result(300)


@pytest.mark.parametrize(
    ("text", "status", "y"),
    [
        ('{"log_likelihood": -1.5}', "ok", -1.5),
        ('{"log_likelihood": "-inf"}', "infeasible", -math.inf),
        ('{"log_likelihood": -Infinity}', "infeasible", -math.inf),
        ('{"log_likelihood": NaN}', "failed", math.nan),
        ('{"log_likelihood": null}', "failed", math.nan),
        ('{"failed": "out of memory"}', "failed", math.nan),
        ("{", "failed", math.nan),
        ("[1]", "failed", math.nan),
        ("{}", "failed", math.nan),
    ],
)
def test_answers(tmp_path, executor, text, status, y):
    evaluation = answered(tmp_path, executor, text)
    assert evaluation.status == status
    assert evaluation.y == y or math.isnan(y)
    assert bool(evaluation.reason) == (status == "failed")


def test_derived_values_and_noise(tmp_path, executor):
    assert answered(tmp_path, executor, '{"log_likelihood": 1.0, "derived": {"c": 2.0}}').derived == {"c": 2.0}


def test_a_question_disappears_with_its_answer_and_the_answer_is_found_again(tmp_path, executor):
    first = answered(tmp_path, executor, '{"log_likelihood": 1.0, "noise": 0.5}')
    assert first.noise == 0.5
    assert not list((tmp_path / "ask").iterdir())
    for _ in range(20):  # asked again in the very moment of the answer
        assert executor.submit(POSTERIOR.evaluate, np.array([0.25, 0.5])).result(300).y == 1.0
    assert not list((tmp_path / "ask").iterdir())


def test_everybody_who_asks_for_a_point_gets_its_answer(tmp_path, executor):
    other = executor.submit(POSTERIOR.evaluate, np.array([0.25, 0.5]))
    assert answered(tmp_path, executor, '{"log_likelihood": 1.0}').y == 1.0
    assert other.result(300).y == 1.0
    assert not list((tmp_path / "ask").iterdir())


def test_time_out(tmp_path):
    with FilesExecutor(tmp_path, POSTERIOR, seconds=0.05, pause=0.01) as executor:
        evaluation = executor.submit(POSTERIOR.evaluate, np.array([0.25, 0.5])).result(300)
    assert evaluation.status == "failed"
    assert "time-out" in evaluation.reason


@pytest.mark.parametrize("over", [False, True])
def test_questions_without_an_answer_stay_unless_nobody_will_ask_again(tmp_path, over):
    executor = FilesExecutor(tmp_path, POSTERIOR, pause=0.01)
    future = executor.submit(POSTERIOR.evaluate, np.array([0.25, 0.5]))
    assert future.running()
    assert not future.cancel()  # somebody may have begun with it
    executor.shutdown(wait=False, cancel_futures=over)
    assert len(list((tmp_path / "ask").glob("*.json"))) == (not over)
