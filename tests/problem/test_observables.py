"""A target that is a simulator and a comparison: what it returns, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest

from surrogate.problem.dataset import Dataset
from surrogate.problem.observables import Observables
from surrogate.problem.outputs import Layout, Outputs
from surrogate.problem.target import Posterior

PRIOR = {"a": (-1.0, 1.0), "b": (-1.0, 1.0), "c": (-1.0, 1.0)}


def simulate(a: float, b: float) -> dict[str, np.ndarray]:
    """Two arrays of different shapes."""
    return {"curve": np.array([[a, b], [a * b, a + b]]), "age": np.array(a - b)}


def compare(outputs: dict[str, np.ndarray], parameters: dict[str, float]) -> float:
    """Uses the fast parameter c."""
    return -float((outputs["curve"] ** 2).sum() + (outputs["age"] - parameters["c"]) ** 2)


def target(**changes: object) -> Observables:
    return Observables(**({"simulator": simulate, "compare": compare, "slow": ["a", "b"]} | changes))  # type: ignore[arg-type]


def test_evaluation_holds_value_and_outputs() -> None:
    found = Posterior(target(), PRIOR).evaluate(np.array([0.5, 0.25, 0.1]))
    assert found.status == "ok"
    assert found.y == pytest.approx(compare(simulate(0.5, 0.25), {"c": 0.1}), abs=1e-15)
    assert found.outputs is not None
    assert found.outputs.layout == Layout(("curve", "age"), ((2, 2), ()))
    split = found.outputs.layout.split(found.outputs.values)
    assert np.array_equal(split["curve"], simulate(0.5, 0.25)["curve"])
    assert split["age"] == 0.25


def test_simulator_may_take_one_array_and_add_derived_numbers() -> None:
    spec = Observables(lambda x: (x**2, {"sum": x.sum()}), lambda out, p: -float(out.sum()) * p["a"], ["c", "b"])
    found = Posterior(spec, PRIOR).evaluate(np.array([1.0, 0.5, 0.25]))
    assert found.derived == {"sum": 0.75}
    assert found.outputs is not None
    assert found.outputs.values.tolist() == [0.0625, 0.25]


@pytest.mark.parametrize(
    ("simulator", "status", "reason"),
    [
        (lambda x: -np.inf, "infeasible", ""),
        (lambda x: np.array([1.0, np.nan]), "failed", "1 of 2 outputs of the simulator are not finite"),
        (lambda x: None, "failed", "None"),
        (lambda x: {"1": np.ones(2)}, "failed", "must be a letter"),
        (lambda x: np.array(["a"]), "failed", "must be real numbers"),
        (lambda x: 1 / 0, "failed", "ZeroDivisionError"),
    ],
)
def test_impossible_and_unusable_outputs_are_recorded(simulator: object, status: str, reason: str) -> None:
    found = Posterior(target(simulator=simulator), PRIOR).evaluate(np.zeros(3))
    assert found.status == status
    assert reason in found.reason
    assert found.outputs is None


def test_outputs_are_kept_where_the_comparison_fails() -> None:
    found = Posterior(target(compare=lambda out, p: out["curve"].nothing), PRIOR).evaluate(np.zeros(3))
    assert found.status == "failed"
    assert "compare" in found.reason
    assert found.outputs is not None
    impossible = Posterior(target(compare=lambda out, p: -math.inf), PRIOR).evaluate(np.zeros(3))
    assert impossible.status == "infeasible"
    assert impossible.outputs is not None


def test_vectorised_comparison_agrees_with_calls_one_by_one() -> None:
    def many(outputs: dict[str, np.ndarray], parameters: dict[str, np.ndarray]) -> np.ndarray:
        return -(outputs["curve"] ** 2).sum((1, 2)) - (outputs["age"] - parameters["c"]) ** 2

    one, block = target().bound(("a", "b", "c")), target(compare=many, vectorized=True).bound(("a", "b", "c"))
    layout = Layout(("curve", "age"), ((2, 2), ()))
    rng = np.random.default_rng(0)
    values, x = rng.standard_normal((7, 5)), rng.standard_normal((7, 3))
    assert np.allclose(one.compare(layout, values, x), block.compare(layout, values, x), rtol=1e-14)


def test_misuse_is_refused() -> None:
    with pytest.raises(TypeError, match="simulator must be callable"):
        Observables(3, compare)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="list of names"):
        target(slow="ab")
    with pytest.raises(ValueError, match="each parameter of the simulator once"):
        target(slow=["a", "a"])
    with pytest.raises(ValueError, match="not among them: q"):
        Posterior(target(slow=["a", "q"]), PRIOR)
    with pytest.raises(TypeError, match="simulator 'simulate' must take"):
        Posterior(target(slow=["a", "c"]), PRIOR)
    with pytest.raises(ValueError, match="noise= does not go with Observables"):
        Posterior(target(), PRIOR, noise=0.1)


def test_dataset_keeps_outputs_bit_for_bit() -> None:
    posterior = Posterior(target(), PRIOR)
    x = np.random.default_rng(1).uniform(-1, 1, (4, 3))
    evaluations = [posterior.evaluate(point) for point in x]
    evaluations[1] = Posterior(target(simulator=lambda _: -np.inf), PRIOR).evaluate(x[1])
    data = Dataset.empty(3).append(x[:2], evaluations[:2], 0).append(x[2:], evaluations[2:], 1)
    assert data.has_outputs.tolist() == [True, False, True, True]
    back = Dataset.from_arrays(data.to_arrays())
    assert back.layout == data.layout
    assert back.outputs.tobytes() == data.outputs.tobytes()
    assert data.head(2).outputs.shape == (2, 5)


def test_changed_shapes_count_as_failed() -> None:
    good = Posterior(target(), PRIOR).evaluate(np.zeros(3))
    other = Posterior(target(simulator=lambda x: {"curve": x}, compare=lambda o, p: 0.0), PRIOR).evaluate(np.zeros(3))
    data = Dataset.empty(3).append(np.zeros((2, 3)), [good, other], 0)
    assert data.status.tolist() == [0, 2]
    assert "must not change" in data.reasons[1]


def test_outputs_compare_by_content() -> None:
    assert Outputs.of([1.0, 2.0]) == Outputs.of(np.array([1.0, 2.0]))
    assert Outputs.of([1.0, 2.0]) != Outputs.of([[1.0, 2.0]])
    assert hash(Outputs.of([1.0])) == hash(Outputs.of([1.0]))


class Parts:
    """A comparison of two parts."""

    def __call__(self, outputs, parameters):
        return -0.5 * sum(self.parts(outputs, parameters).values())

    def parts(self, outputs, parameters):
        return {"chi2_curve": (outputs["curve"] ** 2).sum(), "chi2_age": (outputs["age"] - parameters["c"]) ** 2}


def test_parts_of_a_comparison_are_derived_values() -> None:
    found = Posterior(target(compare=Parts()), PRIOR).evaluate(np.array([0.5, 0.25, 0.125]))
    assert found.derived == {"chi2_curve": pytest.approx(0.890625, abs=1e-15), "chi2_age": 0.125**2}
    assert found.y == pytest.approx(-0.5 * sum(found.derived.values()), abs=1e-15)


class WrongParts(Parts):
    """Its part is an array."""

    def __call__(self, outputs, parameters):
        return -1.0

    def parts(self, outputs, parameters):
        return {"chi2": np.ones(2)}


def test_wrong_parts_are_failures() -> None:
    found = Posterior(target(compare=WrongParts()), PRIOR).evaluate(np.array([0.5, 0.25, 0.125]))
    assert found.status == "failed"
    assert "the part 'chi2' of compare must be one number, got ndarray with shape (2,)" in found.reason
