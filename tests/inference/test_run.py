"""The front door: exact answers, kinds of likelihoods and priors, hints, and what misuse is told."""

from __future__ import annotations

import dataclasses
import os
import re
import signal

import numpy as np
import pytest
from scipy import stats
from scipy.special import betaln, gammaln

import likelihoods
import surrogate
from surrogate.executors.interruption import forget_signals
from surrogate.problem.dataset import FAILED
from surrogate.problem.prior import Parameter
from surrogate.samplers.ensemble import sample_ensemble

MEAN, COVARIANCE = np.array([0.3, -0.2]), np.array([[0.04, 0.03], [0.03, 0.09]])
BOX = {"a": (-2.0, 3.0), "b": (-3.0, 2.0)}
NORMAL = stats.multivariate_normal(MEAN, COVARIANCE)
LIMITS = {"seed": 1, "progress": False, "n_samples": 1500, "max_evaluations": 200}


def normal(x):
    return float(NORMAL.logpdf(x))


def infer(log_likelihood=normal, prior=BOX, **options):
    return surrogate.infer(log_likelihood, prior, **LIMITS | options)


def check_posterior(result, mean, sd, log_evidence=None, *, bias=0.0):
    """Against exact moments: 5 standard errors of the draws, plus a bias allowed to the surrogate in units of sd."""
    assert result.converged, result.status
    ess = result.sampler["ess"]
    np.testing.assert_array_less(np.abs(result.mean - mean) / sd, 5 / np.sqrt(ess) + bias)
    np.testing.assert_array_less(
        np.abs(result.sd / sd - 1), 5 / np.sqrt(ess) + bias
    )  # more than 5 / sqrt(2 ess): tails
    if log_evidence is not None:
        assert abs(result.log_evidence - log_evidence) < max(5 * result.log_evidence_error, np.max(bias), 1e-3)


def check_normal(result, *, bias=0.02):
    """The posterior of `normal` on the box."""
    check_posterior(result, MEAN, np.sqrt(np.diag(COVARIANCE)), -np.log(25.0), bias=bias)


# Exact answers


@pytest.fixture(scope="module")
def plain():
    return infer()


def test_a_normal_likelihood_in_a_box(plain):
    check_normal(plain)
    assert plain.n_evaluations <= 30
    np.testing.assert_allclose(plain.covariance, COVARIANCE, atol=0.01)


def test_normal_likelihood_and_normal_priors():
    """Conjugate: the precisions add, and the evidence is the normal density of the difference of both means."""
    loc, scale = np.array([0.5, -1.0]), np.array([0.4, 0.5])
    prior = {"a": stats.norm(loc[0], scale[0]), "b": stats.norm(loc[1], scale[1])}
    precision = np.linalg.inv(COVARIANCE) + np.diag(scale**-2)
    covariance = np.linalg.inv(precision)
    mean = covariance @ (np.linalg.solve(COVARIANCE, MEAN) + loc / scale**2)
    log_evidence = stats.multivariate_normal.logpdf(MEAN, loc, COVARIANCE + np.diag(scale**2))
    result = infer(normal, prior)
    check_posterior(result, mean, np.sqrt(np.diag(covariance)), log_evidence, bias=0.02)
    np.testing.assert_array_equal(result.bounds, [[-np.inf, np.inf]] * 2)


@pytest.mark.slow
def test_poisson_counts_and_a_gamma_prior():
    """One parameter on a half-line; conjugate: Gamma(a, 1) and k counts give Gamma(a + k, 2)."""
    a, k = 3.0, 7
    exact = stats.gamma(a + k, scale=0.5)
    log_evidence = gammaln(a + k) - gammaln(a) - gammaln(k + 1) - (a + k) * np.log(2.0)
    result = infer(lambda rate: k * np.log(rate) - rate - gammaln(k + 1), {"rate": stats.gamma(a)})
    check_posterior(result, exact.mean(), exact.std(), log_evidence, bias=0.05)
    assert np.all(result.samples > 0)


@pytest.mark.slow
def test_binomial_counts_and_a_flat_prior():
    """One parameter in a box; k of n give Beta(k + 1, n - k + 1) and an evidence of 1 / (n + 1)."""
    k, n = 11, 15
    constant = -betaln(k + 1, n - k + 1) - np.log(n + 1)
    result = infer(lambda p: k * np.log(p) + (n - k) * np.log1p(-p) + constant, {"p": (0.0, 1.0)})
    exact = stats.beta(k + 1, n - k + 1)
    check_posterior(result, exact.mean(), exact.std(), -np.log(n + 1), bias=0.05)


@pytest.mark.parametrize("offset", [-1e6])
def test_a_constant_in_the_likelihood_moves_the_evidence_alone(offset, plain):
    moved = infer(lambda x: normal(x) + offset)
    assert moved.log_evidence - offset == pytest.approx(plain.log_evidence, abs=0.01)
    np.testing.assert_allclose(moved.mean, plain.mean, atol=0.05 * plain.sd.max())


@pytest.mark.parametrize("scale", [1e-6, pytest.param(1e8, marks=pytest.mark.slow)])
def test_units_of_the_parameters_do_not_matter(scale):
    prior = {name: (scale * low, scale * high) for name, (low, high) in BOX.items()}
    result = infer(lambda x: normal(x / scale), prior)
    check_posterior(result, scale * MEAN, scale * np.sqrt(np.diag(COVARIANCE)), -np.log(25.0), bias=0.02)


def test_a_flat_likelihood_gives_the_prior():
    result = infer(lambda x: 0.0)
    assert result.converged
    assert result.log_evidence == pytest.approx(0.0, abs=max(5 * result.log_evidence_error, 0.01))
    ess = result.sampler["ess"]
    np.testing.assert_allclose(result.mean, [0.5, -0.5], atol=5 * 5 / np.sqrt(12 * ess))


TARGETS = {
    "gaussian 1": (lambda: likelihoods.gaussian(1), 0.03),
    "gaussian 2": (lambda: likelihoods.gaussian(2), 0.03),
    "gaussian 4": (lambda: likelihoods.gaussian(4), 0.03),
    "truncated 2": (lambda: likelihoods.truncated_gaussian(2), 0.05),
    "truncated 4": (lambda: likelihoods.truncated_gaussian(4), 0.05),
    "ring": (likelihoods.ring, 0.1),
    "forbidden 3": (lambda: likelihoods.forbidden(3), 0.1),
    "gaussian 8": (lambda: likelihoods.gaussian(8), 0.03),
    "banana": (likelihoods.banana, 0.1),
}
LONG = {"gaussian 4", "truncated 2", "truncated 4", "gaussian 2", "ring", "forbidden 3", "gaussian 8", "banana"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in TARGETS])
def test_target(name):
    """Against exact moments, with the tolerance of the test or of the run's own error, if that is larger."""
    build, bias = TARGETS[name]
    target = build()
    result = infer(target.log_likelihood, target.prior)
    sd = np.sqrt(np.diag(target.covariance))
    own = np.maximum(result.surrogate_error["mean"] / sd, result.surrogate_error["sd"])
    assert (own < 0.2).all()
    check_posterior(result, target.mean, sd, target.log_evidence, bias=np.maximum(bias, 3.0 * own))


# Kinds of likelihoods


def rude(x):
    """Changes its argument."""
    y = normal(x)
    x[:] = np.nan
    return y


KINDS = {
    "changes its argument": (rude, {}),
    "by name": (lambda a, b: normal([a, b]), {}),
    "by name, in another order, with a default": (lambda b, a, scale=1.0: scale * normal([a, b]), {}),
    "zero-dimensional array": (lambda x: np.array(normal(x)), {}),
    "vectorised": (NORMAL.logpdf, {"vectorized": True}),
    "vectorised by name": (lambda a, b: NORMAL.logpdf(np.stack([a, b], -1)), {"vectorized": True}),
    "in threads": (normal, {"executor": "threads:2"}),
    "with a derived value": (lambda x: (normal(x), {"sum": float(x.sum())}), {}),
}


LIKE_OTHERS = {"by name", "zero-dimensional array", "vectorised", "with a derived value"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LIKE_OTHERS)) for n in KINDS])
def test_kinds_of_likelihoods_give_the_same_run(name, plain):
    """Of the run of an array its design and its first batch."""
    log_likelihood, options = KINDS[name]
    same = np.flatnonzero(plain.data.step <= 1)
    result = infer(log_likelihood, max_evaluations=len(same), n_samples=100, **options)
    np.testing.assert_allclose(result.data.x, plain.data.x[same], rtol=1e-6)
    np.testing.assert_allclose(result.data.y, plain.data.y[same], rtol=1e-6)


def test_a_small_noise_changes_little(plain):
    result = infer(lambda x: (normal(x), 1e-4))
    check_normal(result)
    design = plain.data.step == 0
    np.testing.assert_array_equal(result.data.x[: design.sum()], plain.data.x[design])


def test_the_result_is_consistent(plain):
    assert plain.names == ("a", "b")
    assert plain.weights.sum() == pytest.approx(1.0)
    assert plain.n_evaluations == len(plain.data)
    inside = (plain.samples >= plain.bounds[:, 0]) & (plain.samples <= plain.bounds[:, 1])
    assert inside.all()
    np.testing.assert_allclose(plain.log_prior, -np.log(25.0), rtol=1e-12)
    np.testing.assert_allclose(plain.log_posterior, NORMAL.logpdf(plain.samples) - np.log(25.0), atol=0.01)
    mean, sd = plain.predict(plain.data.x)
    np.testing.assert_allclose(mean, plain.data.y - np.log(25.0), atol=0.05)
    assert np.all(sd >= 0)


@pytest.mark.slow
def test_a_periodic_parameter_is_one_in_the_result(plain):
    def turning(a, b):
        return 2.0 * np.cos(a) - 0.5 * b**2

    result = infer(turning, {"a": Parameter("a", (0, 2 * np.pi), periodic=True), "b": (-5, 5)}, n_samples=500)
    assert result.periodic == (True, False)
    assert plain.periodic == ()


def test_a_final_chain_that_did_not_converge_is_said(monkeypatch, plain):
    def cut_short(*args, **options):
        return dataclasses.replace(sample_ensemble(*args, **options), converged=False, reason="stopped by the limit")

    monkeypatch.setattr("surrogate.inference.conclusion.sample_ensemble", cut_short)
    result = infer(n_samples=500)
    assert not result.converged
    assert result.status == f"{plain.status}; its final chain did not converge: stopped by the limit"


def test_the_same_seed_is_the_same_run(plain):
    again = infer()
    np.testing.assert_array_equal(again.samples, plain.samples)
    assert again.log_evidence == plain.log_evidence
    assert not np.array_equal(infer(seed=2, max_evaluations=7).data.x, plain.data.x[:7])


def test_every_row_of_the_trace_is_called_back():
    rows = []
    result = infer(callback=rows.append, max_evaluations=10, n_samples=100)
    assert rows
    assert [row["n_evaluations"] for row in rows] == [row["n_evaluations"] for row in result.trace]


# Budgets


def test_no_more_calls_than_allowed():
    calls = []

    def counted(x):
        calls.append(x)
        return normal(x)

    result = infer(counted, max_evaluations=7)
    assert len(calls) == result.n_evaluations == 7
    assert not result.converged
    assert "budget of 7 evaluations is used up" in result.status


def test_no_new_batch_after_the_wall_time():
    with pytest.raises(RuntimeError, match="wall time of 1e-09 s is used up"):
        infer(max_walltime=1e-9)


@pytest.mark.parametrize("n", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_batches_of_any_size(n):
    result = infer(batch_size=n)
    check_normal(result)


# Re-weighting


@pytest.mark.slow
def test_a_signal_ends_the_re_weighting_and_the_same_call_goes_on(tmp_path, plain):
    class Signalled:
        """Sends a signal in call number ``last``."""

        def __init__(self, last):
            self.calls, self.last = 0, last

        def __call__(self, x):
            self.calls += 1
            if self.calls == self.last:
                os.kill(os.getpid(), signal.SIGUSR1)
            return normal(x)

    options = {"reweight": 40, "output": tmp_path}
    first, second = Signalled(plain.n_evaluations + 10), Signalled(None)
    result = infer(first, **options)
    assert result.interrupted
    assert not result.converged
    assert "stopped by SIGUSR1 before the result was re-weighted" in result.status
    assert (tmp_path / "chain.txt").exists()
    forget_signals()
    again = infer(second, **options)
    assert again.converged
    assert again.reweighting.n == 40
    assert first.calls == plain.n_evaluations + 10
    assert first.calls - 1 + second.calls == again.n_evaluations  # the call that was left is repeated, no other


def test_retries_hold_for_the_re_weighting_too():
    tried = set()

    def moody(x):
        if x.tobytes() in tried:
            return normal(x)
        tried.add(x.tobytes())
        return np.nan

    assert infer(moody, retries=1, reweight=30).reweighting.failed == 0


# Hints

REFERENCES = {
    "point": [0.2, -0.1],
    "mean and covariance": (MEAN, COVARIANCE),
    "mean and sds": (MEAN, np.sqrt(np.diag(COVARIANCE))),
    "draws": np.random.default_rng(0).multivariate_normal(MEAN, COVARIANCE, 100),
}


@pytest.mark.parametrize(
    "name",
    ["draws", *(pytest.param(n, marks=pytest.mark.slow) for n in ("point", "mean and covariance", "mean and sds"))],
)
def test_a_reference_says_where_to_look(name):
    """In a prior so wide that few points of a design would see anything."""
    result = infer(prior={"a": (-200.0, 300.0), "b": (-300.0, 200.0)}, reference=REFERENCES[name])
    check_posterior(result, MEAN, np.sqrt(np.diag(COVARIANCE)), -np.log(250_000.0), bias=0.02)
    first = result.data.x[0] if name == "point" else result.data.x[:6].mean(0)
    np.testing.assert_allclose(first, REFERENCES["point"] if name == "point" else MEAN, atol=1.5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0.1, 0.2, 0.3], r"reference must be a point with shape \(2,\), a pair .* got shapes \[\(3,\)\]"),
        ((MEAN, np.eye(3)), r"got shapes \[\(2,\), \(3, 3\)\]"),
        (np.zeros((5, 3)), "reference must be a point"),
        ([np.nan, 0.0], "values that are not finite"),
    ],
)
def test_other_references_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        infer(reference=wrong)


def test_a_covariance_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"reference.*positive definite"):
        infer(reference=(MEAN, [[1.0, 2.0], [2.0, 1.0]]))


@pytest.mark.parametrize("wrong", [[50.0, 50.0], (np.array([50.0, 50.0]), 0.01 * np.eye(2))], ids=["point", "normal"])
def test_a_reference_outside_of_the_prior_is_refused(wrong):
    with pytest.raises(ValueError, match="reference.*prior"):
        infer(reference=wrong, max_walltime=0.3)


def test_earlier_evaluations_are_used():
    x = np.random.default_rng(0).uniform([-1, -1], [1, 1], (15, 2))
    y = np.array([normal(point) for point in x])
    calls = []

    def counted(point):
        calls.append(point)
        return normal(point)

    result = infer(counted, initial=(x, y))
    check_normal(result)
    assert len(calls) == result.n_evaluations == len(result.data) - 15
    np.testing.assert_array_equal(result.data.x[:15], x)
    np.testing.assert_array_equal(result.data.y[:15], y)
    again = infer(initial=result.data)
    check_normal(again)
    assert again.n_evaluations <= result.n_evaluations


@pytest.mark.slow
def test_earlier_evaluations_may_be_impossible():
    x = np.array([[0.0, 0.0], [2.9, 1.9], [0.3, -0.2], [0.5, 0.1], [-0.3, -0.9]])
    y = np.array([-np.inf if point[0] > 2 else normal(point) for point in x])
    check_normal(infer(lambda p: -np.inf if p[0] > 2 else normal(p), initial=(x, y)), bias=0.05)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ((np.zeros((3, 3)), np.zeros(3)), r"initial must be a pair \(x, y\).* got shapes \(3, 3\) and \(3,\)"),
        ((np.zeros((3, 2)), np.zeros(4)), r"got shapes \(3, 2\) and \(4,\)"),
        ((np.zeros((3, 2)), np.array([0.0, np.nan, 1.0])), "finite or -inf"),
        ((np.zeros((3, 2)), np.array([0.0, np.inf, 1.0])), "finite or -inf"),
        ((np.full((3, 2), np.nan), np.zeros(3)), "must hold finite points"),
        ("points.txt", "initial must be a pair"),
        (np.zeros((3, 2)), "initial must be a pair"),
    ],
)
def test_other_earlier_evaluations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        infer(initial=wrong)


def test_earlier_evaluations_outside_of_the_prior_are_refused():
    x = np.random.default_rng(0).uniform(7, 9, (6, 2))
    with pytest.raises(ValueError, match="initial.*prior"):
        infer(initial=(x, np.arange(6.0)), max_evaluations=1)


# Answers that are none


def failing(answer):
    """A likelihood that always answers so."""

    def log_likelihood(x):
        return answer() if callable(answer) else answer

    return log_likelihood


def raising():
    message = "no convergence in the solver"
    raise ArithmeticError(message)


BAD_ANSWERS = {
    "NaN": (np.nan, "the log-likelihood is NaN; only -inf may stand for an impossible point"),
    "+inf": (np.inf, r"the log-likelihood is \+inf"),
    "None": (None, "the log-likelihood is None"),
    "complex": (1.0 + 2.0j, "the log-likelihood is not a real number but complex"),
    "text": ("-1.0", "the log-likelihood is not a real number but str"),
    "wrong shape": (np.zeros(3), r"the log-likelihood is an array with shape \(3,\)"),
    "list": ([1.0, 2.0], "the log-likelihood is not a real number but list"),
    "tuple": ((1.0, 2.0, 3.0), r"returned a tuple \(float, float, float\)"),
    "negative noise": ((1.0, -0.1), "noise sd must be finite and >= 0, got -0.1"),
    "exception": (raising, r"ArithmeticError: no convergence in the solver \(in raising, test_run.py line \d+"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_bad_answers_everywhere(name):
    """The end, with the count, a remedy and the reason."""
    answer, reason = BAD_ANSWERS[name]
    text = r"0 finite values in (\d+) evaluations.*\(\1 failed, 0 were -inf\).*Narrow the prior.* reference="
    with pytest.raises(ValueError, match=rf"{text}.*{reason}"):
        infer(failing(answer))


@pytest.mark.slow
def test_bad_answers_in_a_region():
    """A fifth of the prior, far from the posterior."""
    bad = failing(raising)
    result = infer(lambda x: bad(x) if x[0] > 1.5 else normal(x))
    check_normal(result, bias=0.05)
    assert np.mean(result.data.status == FAILED) < 0.5


def test_bad_answers_at_some_points():
    """Each a row with its reason, and the run goes on: every second call answers badly, each in its own way."""
    answers, calls = list(BAD_ANSWERS.values()), []

    def log_likelihood(x):
        calls.append(x)
        return failing(answers[len(calls) // 2 - 1][0])(x) if len(calls) % 2 == 0 else normal(x)

    last = 2 * len(answers)
    result = infer(log_likelihood, max_evaluations=last, n_samples=200)
    bad = np.arange(1, last, 2)
    np.testing.assert_array_equal(np.flatnonzero(result.data.status == FAILED), bad)
    for i, (_, reason) in zip(bad, answers, strict=True):
        assert re.search(reason, result.data.reasons[i])
    assert np.isnan(result.data.y[bad]).all()
    assert result.n_evaluations == last


def test_impossible_everywhere():
    text = r"0 finite values in (\d+) evaluations.*\(0 failed, \1 were -inf\).*Narrow the prior.* reference="
    with pytest.raises(ValueError, match=text):
        infer(lambda x: -np.inf)


def test_impossible_everywhere_in_a_small_budget():
    with pytest.raises(ValueError, match=r"0 failed, 10 were -inf.*Narrow the prior.* reference="):
        infer(lambda x: -np.inf, max_evaluations=10)


@pytest.mark.slow
def test_a_fifth_of_the_calls_fail():
    """At random: a normal posterior is found all the same."""
    rng = np.random.default_rng(0)

    def unreliable(x):
        if rng.random() < 0.2:
            message = "node lost"
            raise ConnectionError(message)
        return normal(x)

    result = infer(unreliable)
    check_normal(result, bias=0.05)
    assert (result.data.status == FAILED).any()
    assert result.n_evaluations <= 60


def test_interrupting_is_no_failure():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        infer(interrupted)


# Misuse


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        ({"a": (1.0, 0.0), "b": (0, 1)}, ValueError, r"bounds of 'a' must be low < high, got \(1.0, 0.0\)"),
        ({"a": (1.0, 1.0), "b": (0, 1)}, ValueError, "bounds of 'a' must be low < high"),
        ({"a": (0.0, np.inf), "b": (0, 1)}, ValueError, "'a'"),
        ([surrogate.Parameter("a", (0, 1)), surrogate.Parameter("a", (0, 2))], ValueError, "got 'a' more than once"),
        ({}, ValueError, "at least one parameter"),
        ({"a": stats.norm, "b": (0, 1)}, TypeError, "prior of 'a' is not frozen"),
        ({"a": "flat", "b": (0, 1)}, TypeError, r"prior of 'a' must be bounds \(low, high\)"),
    ],
)
def test_priors_that_are_refused(prior, error, message):
    with pytest.raises(error, match=message):
        infer(prior=prior)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_evaluations": 0}, ValueError, "max_evaluations must be a positive integer, got 0"),
        ({"batch_size": -1}, ValueError, "batch_size must be a positive integer, got -1"),
        ({"n_samples": 2.5}, TypeError, "n_samples must be a positive integer, got 2.5"),
        ({"max_evaluations": True}, TypeError, "max_evaluations must be a positive integer, got True"),
        ({"device": "abacus"}, ValueError, "device 'abacus' cannot be used"),
        ({"seed": "one"}, TypeError, "seed must be an integer, got 'one'"),
        ({"noise": -1.0}, ValueError, "noise must be a finite standard deviation >= 0"),
        ({"executor": "thread:2"}, ValueError, "thread"),
        ({"isolated": True}, TypeError, r"infer\(\) has no argument 'isolated'; did you mean 'isolate'"),
        ({"mode": "async", "fast": (["a"], 2)}, ValueError, "fast= needs mode='sync' or 'auto', got 'async'"),
        ({"mode": "fast"}, ValueError, "mode must be 'auto', 'sync' or 'async', got 'fast'"),
        ({"feasibility": "gp"}, ValueError, "feasibility must be one of 'process', 'svm', got 'gp'"),
        ({"retries": -1}, ValueError, "retries must be a whole number of at least 0, got -1"),
        ({"resume": "always"}, ValueError, "resume must be 'auto', 'trust', True or False, got 'always'"),
    ],
)
def test_options_that_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        infer(**options)


@pytest.mark.parametrize("value", ["soon", -1.0])
def test_wall_times_that_are_refused(value):
    with pytest.raises((TypeError, ValueError), match="max_walltime must be"):
        infer(max_walltime=value)


@pytest.mark.parametrize(
    ("log_likelihood", "message"),
    [
        (3.0, "log_likelihood must be callable, got float"),
        (lambda a, c: 0.0, "must take one array .* or the parameters"),
    ],
)
def test_likelihoods_that_are_refused(log_likelihood, message):
    with pytest.raises(TypeError, match=message):
        infer(log_likelihood)


def test_a_folder_that_cannot_be_written_is_refused_before_any_call(tmp_path):
    (tmp_path / "file").write_text("here first")
    calls = []
    for folder in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nowhere"):
        with pytest.raises(ValueError, match=f"the output folder {folder} cannot be written to .* Choose another one"):
            infer(calls.append, output=folder)
    assert calls == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="cannot be written to"):
        infer(output=tmp_path)
    tmp_path.chmod(0o700)


def test_the_files_of_a_run(tmp_path):
    result = infer(output=tmp_path / "runs" / "normal", max_evaluations=10, n_samples=100)
    names = {path.name for path in (tmp_path / "runs" / "normal").iterdir()}
    assert {"evaluations.jsonl", "state.npz", "trace.csv", "chain.txt", "chain.paramnames", "chain.ranges"} <= names
    lines = (tmp_path / "runs" / "normal" / "trace.csv").read_text().splitlines()
    assert len(lines) == 1 + len(result.trace)
