"""The last result of a costly function is kept for the same arguments alone."""

import pytest

import surrogate
from surrogate.inference.latest import Latest
from surrogate.log_density.learner import ScalarLearner


def test_it_is_computed_again_for_other_objects_alone():
    one, equal, made = [1], [1], []
    latest = Latest()

    def make():
        made.append(len(made))
        return made[-1]

    assert [latest.of((one,), make), latest.of((one,), make)] == [0, 0]
    assert latest.of((equal,), make) == 1
    assert latest.of((one,), make) == 2


def test_a_failure_is_not_kept():
    latest = Latest()
    with pytest.raises(ZeroDivisionError):
        latest.of((), lambda: 1 / 0)
    assert latest.of((), lambda: 2) == 2


def test_an_iteration_builds_each_surrogate_once(monkeypatch):
    built, build = [], ScalarLearner.build

    def counted(self, data, t, parameters, **options):
        built.append((len(data), id(parameters)))
        return build(self, data, t, parameters, **options)

    monkeypatch.setattr(ScalarLearner, "build", counted)
    result = surrogate.infer(lambda x: -0.5 * float(x @ x), [(-5, 5)] * 2, seed=1, progress=False, n_samples=200)
    assert result.converged
    assert len(built) == len(set(built))
