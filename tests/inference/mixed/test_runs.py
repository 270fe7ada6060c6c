"""Runs with categories and integers from end to end: right, resumed bit for bit, the same on other executors."""

import re

import numpy as np
import pytest
from scipy.special import logsumexp

import surrogate
from surrogate.inference.loading import load_result
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.mixed.slices import at_level
from surrogate.inference.setup import Setup
from surrogate.inference.state import State
from surrogate.problem.prior import Prior
from surrogate.problem.target import Posterior

PRIOR = {"kind": {"categories": ["a", "b"], "weights": [1, 3]}, "n": {"integers": (0, 2)}, "x": (-2, 2)}
HEIGHT = {"a": 0.0, "b": -1.0}
LIMITS = {"n_samples": 500, "max_evaluations": 100, "progress": False}


def log_likelihood(kind, n, x):
    """A Gaussian for each level, of its own place and height, with a width for each category."""
    width = 0.2 if kind == "a" else 0.3
    return HEIGHT[kind] - 0.4 * n - 0.5 * ((x - 0.3 * n + (kind == "b")) / width) ** 2


def exact():
    """Probabilities of kind and n, and the log evidence: Gaussians well within their box."""
    kinds, integers = np.array([[0.25], [0.75]]), np.arange(3)
    width, height = np.array([[0.2], [0.3]]), np.array([[0.0], [-1.0]])
    log_weights = np.log(kinds / 3.0) + height - 0.4 * integers + np.log(width * np.sqrt(2.0 * np.pi) / 4.0)
    share = np.exp(log_weights - logsumexp(log_weights))
    return share.sum(1), share.sum(0), logsumexp(log_weights)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mixed") / "run"


@pytest.fixture(scope="module")
def result(folder):
    return surrogate.infer(log_likelihood, PRIOR, seed=1, output=folder, **LIMITS)


def test_probabilities_and_evidence_are_right(result):
    kinds, integers, log_evidence = exact()
    assert result.converged
    for name, values, share in (("kind", "ab", kinds), ("n", range(3), integers)):
        found = result.probabilities(name)
        assert list(found) == list(values)
        for value, p in zip(values, share, strict=True):
            assert abs(found[value][0] - p) < max(0.02, 3.0 * found[value][1])
    assert abs(result.log_evidence - log_evidence) < max(0.05, 3.0 * result.log_evidence_error)
    ratio, error = result.log_evidence_ratio("kind", "a", "b")
    assert abs(ratio - (1.0 + np.log(0.2 / 0.3))) < max(0.05, 3.0 * error)
    assert result.n_evaluations < 60


def test_draws_have_codes_in_proportion_and_moments_within_levels(result):
    x, w = result.samples, result.weights
    assert set(np.unique(x[:, 0])) <= {0.0, 1.0}
    assert set(np.unique(x[:, 1])) <= {0.0, 1.0, 2.0}
    p = result.probabilities("n")[1][0]
    assert abs(w @ (x[:, 1] == 1.0) - p) < 0.01
    level = (x[:, 0] == 0.0) & (x[:, 1] == 2.0)
    assert abs(np.average(x[level, 2], weights=w[level]) - 0.6) < 5.0 * 0.2 / np.sqrt(level.sum() / 4.0)
    np.testing.assert_allclose(np.exp(result.log_prior), np.where(x[:, 0] == 0.0, 0.25, 0.75) / 12.0)


def test_log_posterior_of_the_draws_is_likelihood_times_prior(result):
    rows = np.arange(0, len(result.samples), 20)
    kinds, integers, x = result.samples[rows].T
    truth = [log_likelihood("ab"[int(k)], int(n), v) for k, n, v in zip(kinds, integers, x, strict=True)]
    np.testing.assert_allclose(result.log_posterior[rows], truth + result.log_prior[rows], atol=0.3)


def test_likelihood_sees_names_and_integers_and_every_level_was_looked_at(result):
    levels = Prior.of(PRIOR).levels
    assert set(levels.index(result.data.x)) == set(range(6))
    assert len(np.unique(result.data.x, axis=0)) == len(result.data)


@pytest.mark.slow
def test_summary_files_and_report_tell_the_probabilities(result, folder, tmp_path):
    summary = result.summary()
    assert re.search(r"^kind  a 0\.\d{3} \+- 0\.\d{3}, b 0\.\d{3} \+- 0\.\d{3}$", summary, re.MULTILINE)
    assert re.search(r"^n     0 0\.\d{3}", summary, re.MULTILINE)
    assert "probabilities of levels known to" in result.status
    names = (folder / "chain.paramnames").read_text().splitlines()
    assert names[0].startswith("kind\tkind\\;(\\mathrm{0:\\ a,\\ 1:\\ b})")
    chain = np.loadtxt(folder / "chain.txt")
    assert set(np.unique(chain[:, 2])) <= {0.0, 1.0}
    drawn = result.to_getdist()
    assert abs(drawn.mean("kind") - result.probabilities("kind")["b"][0]) < 0.01
    result.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "Categories and integers" in page
    assert "log evidence given it" in page
    result.plot(tmp_path / "corner.png")


def test_result_is_loaded_from_the_folder(result, folder):
    again = load_result(folder, n_samples=500)
    for value, (p, _) in result.probabilities("kind").items():
        assert again.probabilities("kind")[value][0] == pytest.approx(p, abs=0.01)


def test_prediction_at_codes(result):
    mean, sd = result.predict([[0.0, 1.0, 0.3], [0.5, 1.0, 0.3]])
    assert mean[0] == pytest.approx(-0.4 + np.log(0.25 / 12.0), abs=0.2)
    assert mean[1] == -np.inf
    assert sd[0] < 0.2
    with pytest.raises(ValueError, match="cannot be exported"):
        result.predictor()


@pytest.mark.slow
def test_a_run_is_resumed_bit_for_bit(result, tmp_path):
    surrogate.infer(log_likelihood, PRIOR, seed=1, output=tmp_path, max_evaluations=13, progress=False)
    again = surrogate.infer(log_likelihood, PRIOR, seed=1, output=tmp_path, **LIMITS)
    np.testing.assert_array_equal(again.data.x, result.data.x)
    assert again.log_evidence == result.log_evidence
    assert again.probabilities("kind") == result.probabilities("kind")
    assert '"x": [' in (tmp_path / "evaluations.jsonl").read_text().splitlines()[0]


@pytest.mark.slow
def test_threads_make_the_same_run(result):
    again = surrogate.infer(log_likelihood, PRIOR, seed=1, executor="threads:2", mode="sync", **LIMITS)
    np.testing.assert_array_equal(again.data.x, result.data.x)


def test_ask_and_tell_are_pure_and_a_slice_is_one_level():
    loop, posterior = PosteriorLoop(Setup(Prior.of(PRIOR), particles=200)), Posterior(log_likelihood, PRIOR)
    state = loop.init(3)
    for _ in range(4):
        x = loop.ask(state)
        np.testing.assert_array_equal(x, loop.ask(State.from_arrays(state.to_arrays())))
        state = loop.tell(state, x, [posterior.evaluate(point) for point in x])
    view = loop.view(state)
    part = at_level(view, 4)
    assert part.d == 1
    t = part.draws.posterior
    full = view.setup.levels.points(t, 4)
    shift = part.model.y_max - view.model.y_max + view.setup.levels.log_prior[4]
    np.testing.assert_allclose(view.log_posterior(full), part.log_posterior(t) + shift, atol=1e-10)
    mine = view.setup.levels.index(state.data.x) == 4
    np.testing.assert_array_equal(part.state.data.y, state.data.y[mine])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gradient": True}, r"categories and integers \(kind, n\) cannot be used with gradient"),
        ({"reference": [0.0, 1.0, 0.5]}, "cannot be used with reference"),
    ],
)
def test_what_it_cannot_do_is_refused(options, match):
    with pytest.raises(ValueError, match=match):
        surrogate.infer(log_likelihood, PRIOR, progress=False, **options)


def test_a_run_needs_a_continuous_parameter():
    with pytest.raises(ValueError, match="evaluate all of them, or add a continuous parameter"):
        Setup(Prior.of({"kind": {"categories": ["a", "b"]}}))


def test_a_run_without_them_has_no_probabilities():
    result = surrogate.infer(
        lambda x: -0.5 * (x / 0.1) ** 2, {"x": (-1, 1)}, n_samples=200, max_evaluations=5, progress=False
    )
    with pytest.raises(ValueError, match="no categories or integers"):
        result.probabilities("x")
