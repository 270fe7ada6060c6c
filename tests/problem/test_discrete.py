"""Categories and integers as parameters: values, codes, priors and levels."""

import numpy as np
import pytest

from surrogate.problem.discrete import Discrete
from surrogate.problem.prior import Parameter, Prior
from surrogate.problem.spec import prior_from_text, prior_to_text
from surrogate.problem.target import Posterior

PRIOR = Prior.of(
    {
        "kind": {"categories": ["a", "b", "c"], "weights": {"a": 1, "b": 2, "c": 1}},
        "n": Parameter("n", integers=(2, 5)),
        "x": (0.0, 2.0),
    }
)


def test_codes_and_values():
    kind, n = (parameter.prior for parameter in PRIOR.parameters[:2])
    assert kind.codes.tolist() == [0.0, 1.0, 2.0]
    assert n.codes.tolist() == [2.0, 3.0, 4.0, 5.0]
    assert kind.value(2.0) == "c"
    assert n.value(4.0) == 4
    assert type(n.value(4.0)) is int


def test_density_is_the_probability_of_codes_and_nothing_between():
    x = np.array([[1.0, 3.0, 0.5], [0.0, 5.0, 0.5], [0.5, 3.0, 0.5], [1.0, 6.0, 0.5], [-1.0, 3.0, 0.5]])
    expected = [np.log(0.5 * 0.25 * 0.5), np.log(0.25 * 0.25 * 0.5), -np.inf, -np.inf, -np.inf]
    np.testing.assert_allclose(PRIOR.log_density(x), expected)


def test_quantile_inverts_cumulative_and_draws_have_the_weights():
    x = PRIOR.sample(4000, np.random.default_rng(0))
    np.testing.assert_array_equal(PRIOR.quantile(PRIOR.cumulative(x))[:, :2], x[:, :2])
    share = np.mean(x[:, 0] == 1.0)
    assert abs(share - 0.5) < 4.0 * np.sqrt(0.25 / 4000)


def test_levels_are_all_combinations():
    levels = PRIOR.levels
    assert len(levels) == 12
    assert levels.text(5) == "kind=b, n=3"
    np.testing.assert_allclose(np.exp(levels.log_prior).sum(), 1.0)
    x = PRIOR.sample(50, np.random.default_rng(1))
    index = levels.index(x)
    np.testing.assert_array_equal(levels.codes[index], x[:, :2])
    np.testing.assert_array_equal(levels.points(x[:, [2]], index), x)
    assert levels.index(np.array([[0.5, 3.0, 0.0]])).tolist() == [-1]
    assert levels.members("n", 3).sum() == 3
    np.testing.assert_array_equal(levels.nearest(x + [0.3, -0.4, 0.0]), x)


def test_prior_without_them_has_no_levels():
    assert Prior.of({"x": (0, 1)}).levels is None


def test_text_of_the_prior_says_the_same_again():
    again = prior_from_text(prior_to_text(PRIOR))
    assert again.parameters == PRIOR.parameters


def test_likelihood_gets_names_and_python_integers():
    seen = []

    def log_likelihood(kind, n, x):
        seen.append((kind, n, x))
        return 0.0

    assert Posterior(log_likelihood, PRIOR).evaluate([2.0, 4.0, 0.25]).y == 0.0
    assert seen == [("c", 4, 0.25)]
    assert type(seen[0][1]) is int


def test_array_form_gets_codes_and_vectorised_form_arrays_of_values():
    assert Posterior(lambda x: x[0] + 10.0 * x[1], PRIOR).evaluate([2.0, 4.0, 0.25]).y == 42.0
    many = Posterior(lambda kind, n, x: np.where(kind == "b", n, -1.0) + 0.0 * x, PRIOR, vectorized=True)
    x = np.array([[1.0, 5.0, 0.1], [0.0, 5.0, 0.1]])
    assert [one.y for one in many.evaluate_many(x)] == [5.0, -1.0]


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"categories": ["a"]}, ValueError, "two or more different names"),
        ({"categories": ["a", "a"]}, ValueError, "two or more different names"),
        ({"categories": "ab"}, TypeError, "list of names"),
        ({"categories": ["a", 1]}, TypeError, "must be strings, got 1"),
        ({"integers": (3, 3)}, ValueError, "low < high"),
        ({"integers": (0, 2.5)}, TypeError, "pair of whole numbers"),
        ({"integers": (0, 5000)}, ValueError, "at most 1000 integers, got 5001"),
        ({"integers": (0, 1), "weights": [1]}, ValueError, "2 positive numbers"),
        ({"integers": (0, 1), "weights": {0: 1, 2: 1}}, ValueError, "one for each of"),
        ({"integers": (0, 1), "weights": [1, 0]}, ValueError, "leave out values"),
        ({"integers": (0, 1), "categories": ["a", "b"]}, ValueError, "exactly one of"),
        ({"prior": (0, 1), "weights": [1, 2]}, ValueError, "exactly one of"),
        ({"integers": (0, 1), "periodic": True}, ValueError, "cannot be periodic"),
        ({}, TypeError, "categories or integers must be given"),
    ],
)
def test_misuse(arguments, error, match):
    with pytest.raises(error, match=match):
        Parameter("k", **arguments)


def test_unknown_words_of_a_dict_are_refused():
    with pytest.raises(TypeError, match="got dict with 'category'"):
        Prior.of({"k": {"category": ["a", "b"]}})


def test_too_many_combinations_are_refused():
    prior = Prior.of({f"n{i}": {"integers": (1, 20)} for i in range(3)})
    with pytest.raises(ValueError, match="1000 combinations at most, got 8000"):
        _ = prior.levels


def test_nearest_is_within_the_values():
    np.testing.assert_array_equal(Discrete.integers("n", (2, 4)).nearest(np.array([0.0, 2.6, 9.0])), [2.0, 3.0, 4.0])


def test_where_a_parameter_acts_is_part_of_the_prior():
    prior = Prior.of(
        {"kind": {"categories": ["a", "b"]}, "n": {"integers": (0, 1)}, "x": (0, 1)}
        | {"y": {"prior": (0, 1), "only": {"kind": ["b"], "n": [1]}}}
    )
    assert prior.levels.acts[:, 3].tolist() == [False, False, False, True]
    x = np.array([[1.0, 1.0, 0.2, 0.3], [1.0, 0.0, 0.2, 0.3]])
    np.testing.assert_array_equal(prior.levels.without_idle(x, 0.5), [[1.0, 1.0, 0.2, 0.3], [1.0, 0.0, 0.2, 0.5]])
    assert prior.levels.with_action(x).all()
    assert prior.parameters[3].prior_words == "uniform from 0 to 1, where kind is b, where n is 1"
    again = prior_from_text(prior_to_text(prior))
    np.testing.assert_array_equal(again.levels.acts, prior.levels.acts)
    assert again.parameters == prior.parameters


@pytest.mark.parametrize(
    ("only", "error", "match"),
    [
        (
            {"kinds": ["b"]},
            ValueError,
            r"must name values of categories or integers \(kind: \['a', 'b'\]\), got 'kinds'",
        ),
        ({"kind": ["c"]}, ValueError, "got 'c' of 'kind'"),
        ({"kind": "b"}, TypeError, "must be a dict of name -> list of values"),
        (["kind"], TypeError, "must be a dict of name -> list of values"),
    ],
)
def test_where_a_parameter_acts_must_be_values_of_others(only, error, match):
    with pytest.raises(error, match=match):
        Prior.of({"kind": {"categories": ["a", "b"]}, "x": {"prior": (0, 1), "only": only}})


def test_only_is_for_continuous_parameters():
    with pytest.raises(ValueError, match="only= is for continuous parameters"):
        Parameter("n", integers=(0, 1), only={"kind": ["a"]})
