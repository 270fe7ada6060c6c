"""The option `integers` of Cobaya's sampler from end to end: whole numbers reach the theory, their chain and odds."""

import numpy as np
import pytest
from scipy.special import logsumexp

pytest.importorskip("cobaya", reason="Cobaya is an extra: pip install surrogate-inference[cobaya]")

from cobaya.output import load_samples
from cobaya.run import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Cobaya's and its dependencies'

WIDTH = 0.2
INFO = {
    "likelihood": {
        # A number that is not whole would be a failed call.
        "lines": {
            "external": "lambda n, a: (-0.4 * n - 0.5 * ((a - 0.3 * n) / 0.2)**2 if n in (0, 1, 2) else float('nan'))"
        }
    },
    "params": {"n": {"prior": {"min": -0.5, "max": 2.5}}, "a": {"prior": {"min": -2, "max": 2}}},
    "sampler": {"surrogate": {"seed": 1, "n_samples": 600, "integers": ["n"]}},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    root = tmp_path_factory.mktemp("chains") / "run"
    return root, run(INFO, output=str(root))[1].products()


def exact():
    """Probabilities of 0, 1 and 2, and the log evidence, with the same prior probability each."""
    log_weights = -0.4 * np.arange(3) + np.log(WIDTH * np.sqrt(2.0 * np.pi) / 4.0 / 3.0)
    return np.exp(log_weights - logsumexp(log_weights)), logsumexp(log_weights)


def test_probabilities_and_evidence(finished):
    _, products = finished
    result = products["result"]
    share, log_evidence = exact()
    assert result.converged
    assert not (result.data.status == "failed").any()
    for n, (p, error) in result.probabilities("n").items():
        assert abs(p - share[n]) < max(0.02, 3.0 * error)
    assert products["logZ"] == pytest.approx(log_evidence, abs=max(0.05, 3.0 * products["logZstd"]))


def test_the_chain_has_whole_numbers_in_proportion(finished):
    chain = load_samples(str(finished[0]), combined=True)
    n, weight = chain["n"].to_numpy(), chain["weight"].to_numpy()
    assert set(n) == {0.0, 1.0, 2.0}
    share = [weight[n == value].sum() / weight.sum() for value in range(3)]
    np.testing.assert_allclose(share, exact()[0], atol=0.06)
    means = [np.average(chain["a"].to_numpy()[n == value], weights=weight[n == value]) for value in range(3)]
    np.testing.assert_allclose(means, 0.3 * np.arange(3), atol=0.06)


@pytest.mark.parametrize(
    ("integers", "match"),
    [(["m"], "must be sampled parameters with a uniform prior, got 'm'"), ("n", "must be a list of parameters")],
)
def test_what_is_no_parameter_is_refused(integers, match):
    from cobaya.log import LoggedError

    sampler = {"surrogate": INFO["sampler"]["surrogate"] | {"integers": integers}}
    with pytest.raises((ValueError, LoggedError), match=match):
        run(INFO | {"sampler": sampler})
