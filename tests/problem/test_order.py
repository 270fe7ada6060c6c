"""Exchangeable parameters in ascending order."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from surrogate.problem.prior import Parameter, Prior
from surrogate.problem.spec import prior_from_text, prior_to_text


def ordered(prior, names="abc"):
    """Parameters with this prior, each above the one before, and another one."""
    one = {name: Parameter(name, prior, above=below) for below, name in zip((None, *names), names, strict=False)}
    return Prior.of(one | {"other": (0.0, 1.0)})


@pytest.mark.parametrize("prior", [(-1.0, 2.0), stats.norm(1.0, 2.0), stats.gamma(3.0)], ids=["box", "normal", "gamma"])
def test_draws_are_sorted_and_the_density_is_normalised(prior):
    """The density is 3! times that of independent draws at sorted points, so that its mean over those is one."""
    with_order = ordered(prior)
    x = with_order.sample(2000, np.random.default_rng(0))
    assert (np.diff(x[:, :3]) >= 0.0).all()
    independent = Prior.of({"a": prior, "b": prior, "c": prior, "other": (0.0, 1.0)})
    np.testing.assert_allclose(with_order.log_density(x), independent.log_density(x) + np.log(6.0))
    x = independent.sample(20_000, np.random.default_rng(1))
    ratio = np.exp(with_order.log_density(x) - independent.log_density(x))
    assert abs(ratio.mean() - 1.0) < 5.0 * ratio.std() / np.sqrt(len(x))


def test_points_out_of_order_have_no_density_and_are_sorted():
    prior = ordered((0.0, 1.0))
    x = np.array([[0.3, 0.2, 0.9, 0.1], [0.1, 0.2, 0.3, 0.0]])
    np.testing.assert_array_equal(prior.in_order(x), [False, True])
    np.testing.assert_array_equal(prior.log_density(x), [-np.inf, np.log(6.0)])
    np.testing.assert_array_equal(prior.arranged(x), [[0.2, 0.3, 0.9, 0.1], [0.1, 0.2, 0.3, 0.0]])


def test_an_order_is_part_of_the_text_of_a_prior():
    prior = ordered((0.0, 1.0))
    back = prior_from_text(prior_to_text(prior))
    assert [p.above for p in back.parameters] == [None, "a", "b", None]
    assert back.parameters[1].prior_words == "uniform from 0 to 1, above a"


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"b": {"prior": (0, 2), "above": "a"}}, "the same prior, got uniform from 0 to 2 and uniform from 0 to 1"),
        ({"b": {"prior": (0, 1), "above": "q"}}, r"must name another parameter \(a, b\), got 'q'"),
        ({"b": {"prior": (0, 1), "above": "b"}}, "must name another parameter"),
        (
            {"b": {"prior": (0, 1), "above": "a"}, "c": {"prior": (0, 1), "above": "a"}},
            "'c' and 'b' are both above 'a'",
        ),
        ({"b": {"prior": (0, 1), "above": "c"}, "c": {"prior": (0, 1), "above": "b"}}, "in a circle: c, b"),
        ({"b": Parameter("b", (0, 1), above="a", periodic=True)}, "'b' must be continuous, not periodic"),
        ({"n": {"integers": (0, 1)}, "b": {"prior": (0, 1), "above": "n"}}, "'n' must be continuous"),
    ],
)
def test_other_orders_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        Prior.of({"a": (0, 1)} | entries)
