import json

import numpy as np
import pytest
from scipy import stats

from surrogate.problem.prior import Parameter, Prior
from surrogate.problem.spec import prior_from_text, prior_to_text

PRIORS = {
    "box": Prior.of({"a": (0, 1), "b": (-1e-300, 1e300)}),
    "one third": Prior.of({"a": (1 / 3, 2 / 3)}),
    "labels": Prior(
        (Parameter("h", (0.4, 1.0), label=r"\hat{h} = \Omega"), Parameter("phi", (0, 6.28), periodic=True))
    ),
    "normal": Prior.of({"a": stats.norm(0.1, 2), "b": stats.norm(loc=3), "c": stats.norm()}),
    "shapes": Prior.of({"a": stats.gamma(2.5, scale=3), "b": stats.beta(2, 5, -1, 4), "c": stats.t(df=4)}),
    "truncated": Prior.of({"a": stats.truncnorm(-1, np.inf, loc=0.02, scale=1e-3)}),
    "infinite ends": Prior.of({"a": stats.halfcauchy(scale=1 / 7), "b": stats.lognorm(0.5), "c": (0, 1)}),
    "bounds": Prior.of(np.array([[0.0, 1.0]] * 3)),
}


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


def test_there_and_back(prior):
    back = prior_from_text(prior_to_text(prior))
    assert back.names == prior.names
    assert back.labels == prior.labels
    assert back.is_box == prior.is_box
    np.testing.assert_array_equal(back.periodic, prior.periodic)
    np.testing.assert_array_equal(back.bounds, prior.bounds)
    x = prior.sample(50, np.random.default_rng(0))
    np.testing.assert_array_equal(back.log_density(x), prior.log_density(x))
    np.testing.assert_array_equal(back.sample(50, np.random.default_rng(0)), x)


def test_the_text_says_the_same_again(prior):
    text = prior_to_text(prior)
    assert prior_to_text(prior_from_text(text)) == text


def test_numpy_numbers_are_numbers():
    scale = np.float64(2.0)
    prior = Prior.of({"a": stats.norm(np.int64(1), scale), "b": tuple(np.array([0, 1], dtype=np.float32))})
    assert json.loads(prior_to_text(prior))[0]["args"] == [1.0, 2.0]


@pytest.mark.parametrize("name", ["nonsense", "Parameter", "binom", "__loader__", "rv_continuous"])
def test_what_is_no_distribution_is_refused(name):
    """Reading runs no code that the text names."""
    text = json.dumps(
        [{"name": "a", "label": None, "periodic": False, "distribution": name, "args": [0.0, 1.0], "kwds": {}}]
    )
    with pytest.raises(ValueError, match=rf"prior of 'a' is the distribution '{name}', which scipy.stats does not"):
        prior_from_text(text)
