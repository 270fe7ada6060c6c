"""A run is continued with its own likelihood: another one is refused, a new spelling of the same one is not."""

import functools
import warnings

import numpy as np
import pytest

import surrogate
from surrogate.inference.driving.provenance import provenance_of
from surrogate.problem.target import Posterior

PRIOR = {"a": (0.0, 1.0)}


def peak(x, at=0.3):
    return -0.5 * float(((x[0] - at) / 0.1) ** 2)


def infer(function, folder, **options):
    options = {"seed": 1, "n_samples": 200, "max_evaluations": 6, "progress": False} | options
    return surrogate.infer(function, PRIOR, output=folder, **options)


def one(x):
    return peak(x, 0.3)


def other(x):
    return peak(x, 0.7)


def renamed(x):
    return peak(x, at=0.3)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    infer(one, folder)
    return folder


def test_the_same_likelihood_is_continued_without_a_call(finished):
    calls = []

    def counted(x):
        calls.append(x)
        return peak(x)

    folder = finished.parent / "counted"
    infer(counted, folder)
    made = len(calls)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        infer(counted, folder)
    assert len(calls) == made


def test_another_likelihood_is_refused(finished):
    before = (finished / "chain.txt").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run of .*:one, got .*:other; at its best .*resume='trust'"):
        infer(other, finished)
    assert (finished / "chain.txt").read_bytes() == before


def test_lambdas_of_one_line_are_told_apart(tmp_path):
    first, second = (lambda x: peak(x, 0.3)), (lambda x: peak(x, 0.7))
    infer(first, tmp_path)
    with pytest.raises(ValueError, match="at its best point the log-likelihood was"):
        infer(second, tmp_path)


def test_one_that_fails_now_is_refused(finished):
    def broken(_):
        raise KeyError("H0")  # noqa: EM101

    with pytest.raises(ValueError, match="is now a failure .*H0"):
        infer(broken, finished)


def test_another_spelling_with_the_same_value_is_continued(finished):
    with pytest.warns(RuntimeWarning, match="but the value at the best point is the same"):
        infer(renamed, finished)
    infer(one, finished, resume="trust")


def test_noise_given_later_is_refused(finished):
    with pytest.raises(ValueError, match=r"holds a run with noise=None, got noise=0\.5"):
        infer(one, finished, noise=0.5)


def test_trust_continues_with_any(tmp_path):
    infer(one, tmp_path)
    result = infer(other, tmp_path, resume="trust")
    assert abs(result.mean[0] - 0.3) < 0.05


def test_values_that_a_function_is_bound_to_count():
    def made(at):
        return lambda x: peak(x, at)

    hashes = {
        provenance_of(Posterior(function, PRIOR))
        for function in (
            *(made(0.1), made(0.2), functools.partial(peak, at=0.1), functools.partial(peak, at=0.2)),
            functools.partial(peak, at=np.array(0.2)),
        )
    }
    assert len(hashes) == 5
    assert provenance_of(Posterior(made(0.1), PRIOR)) in hashes


class Callable:
    def __call__(self, x):
        return peak(x)


def test_objects_are_known_by_their_class():
    assert provenance_of(Posterior(Callable(), PRIOR)) == provenance_of(Posterior(Callable(), PRIOR))


def test_functions_without_a_file_are_known_by_their_instructions():
    def typed(text):
        names = {}
        exec(compile(text, "<typed>", "exec"), names)  # noqa: S102
        return provenance_of(Posterior(names["f"], PRIOR))

    assert typed("def f(x):\n    return -x[0]") == typed("def f(x):\n\n    return -x[0]")
    assert typed("def f(x):\n    return -x[0]") != typed("def f(x):\n    return -x[0] ** 2")
    assert '"source": ""' not in typed("def f(x):\n    return -x[0]")
