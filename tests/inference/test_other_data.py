"""Other data from the evaluations of one run: exact answers of a linear model, and what is said of the rest."""

from __future__ import annotations

import numpy as np
import pytest

import surrogate
from surrogate.inference.design import Reference

D = 2
A = np.random.default_rng(0).standard_normal((14, D))
Y = A @ [0.2, -0.1] + 0.1 * np.random.default_rng(1).standard_normal(14)
PRIOR = {"a": (-5.0, 5.0), "b": (-5.0, 5.0)}
ROWS = {"one": slice(0, 8), "two": slice(8, 14)}


def simulator(x):
    return {name: A[rows] @ x for name, rows in ROWS.items()} | {"sum": np.array([x.sum()])}


def data(*names):
    y = {name: Y[ROWS[name]] for name in names}
    return surrogate.GaussianData(y, {name: np.full(len(part), 0.01) for name, part in y.items()})


def exact(*names):
    rows = np.concatenate([np.arange(14)[ROWS[name]] for name in names])
    covariance = np.linalg.inv(A[rows].T @ A[rows] / 0.01)
    mean = covariance @ A[rows].T @ Y[rows] / 0.01
    chi2 = float(((Y[rows] - A[rows] @ mean) ** 2).sum()) / 0.01
    log_evidence = -0.5 * chi2 + 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1] - D * np.log(10.0)
    return mean, covariance, log_evidence


@pytest.fixture(scope="module")
def result():
    target = surrogate.Observables(simulator, data("one", "two"))
    return surrogate.infer(target, PRIOR, seed=1, progress=False, n_samples=2000, max_evaluations=100)


@pytest.fixture(scope="module")
def parts(result):
    return [result.compare_with(data(name), n_samples=2000) for name in ROWS]


def test_part_of_the_data_without_a_call(result, parts) -> None:
    for part, name in zip(parts, ROWS, strict=True):
        mean, covariance, log_evidence = exact(name)
        assert part.converged, part.status
        assert part.n_evaluations == 0
        sd = np.sqrt(np.diag(covariance))
        assert (np.abs(part.mean - mean) < 5 * sd / np.sqrt(part.sampler["ess"])).all()
        assert abs(part.log_evidence - log_evidence) < 4 * part.log_evidence_error + 1e-3


def test_tension_against_exact_numbers(result, parts) -> None:
    found = surrogate.tension(*parts, result)
    (m1, c1, z1), (m2, c2, z2), (_, _, z) = exact("one"), exact("two"), exact("one", "two")
    assert abs(found.log_bayes_ratio - (z - z1 - z2)) < 4 * found.log_bayes_ratio_error
    chi2 = float((m1 - m2) @ np.linalg.solve(c1 + c2, m1 - m2))
    assert found.shift_chi2 == pytest.approx(chi2, abs=0.3)
    suspiciousness = 0.5 * D - 0.5 * chi2  # of Gaussians: (d - chi^2) / 2
    assert abs(found.log_suspiciousness - suspiciousness) < 4 * found.log_suspiciousness_error
    assert "log Bayes ratio" in str(found)


def test_calls_may_be_bought(result) -> None:
    more = result.compare_with(data("one"), refine=5, n_samples=500)
    assert more.converged, more.status
    assert more.n_evaluations <= 5
    assert len(more.data) > len(result.data)


def test_emulated_outputs_and_predictive_draws(result, tmp_path) -> None:
    x = result.samples[:5]
    mean, sd = result.observables(x)
    for name, rows in ROWS.items():
        assert np.allclose(mean[name], x @ A[rows].T, atol=1e-3)
        assert (sd[name] < 1e-2).all()
    assert np.allclose(mean["sum"][:, 0], x.sum(1), atol=1e-3)  # no data are compared with this output
    one, _ = result.observables(x[0])
    assert one["two"].shape == (6,)
    result.output_emulator().save(tmp_path / "outputs.npz")
    again = surrogate.load_observables(tmp_path / "outputs.npz")
    assert np.array_equal(again(x)[0]["one"], mean["one"])
    draws = result.posterior_predictive(400)
    assert draws["one"].shape == (400, 8)
    exact_mean, covariance, _ = exact("one", "two")
    spread = np.sqrt(np.diag(A[ROWS["one"]] @ covariance @ A[ROWS["one"]].T))
    assert np.allclose(draws["one"].std(0), spread, rtol=0.2)
    assert np.allclose(draws["one"].mean(0), A[ROWS["one"]] @ exact_mean, atol=5 * spread.max() / 20)


def test_misuse_is_told(result) -> None:
    scalar = surrogate.infer(lambda a: -a * a, {"a": (-5.0, 5.0)}, seed=1, progress=False, n_samples=200)
    with pytest.raises(ValueError, match="not the outputs of a simulator"):
        scalar.observables([0.0])
    with pytest.raises(ValueError, match="result of a run of Observables"):
        scalar.compare_with(data("one"))
    with pytest.raises(ValueError, match="not among them: c"):
        surrogate.combine(scalar, ["c"])
    with pytest.raises(ValueError, match="no predictor of numbers"):
        result.predictor()
    with pytest.raises(ValueError, match="saved as .npz"):
        result.observables().save("outputs.txt")


@pytest.mark.slow
def test_sums_of_parts_of_a_log_likelihood() -> None:
    def log_likelihood(x):
        one = -0.5 * float((((A @ x - Y)[ROWS["one"]]) ** 2).sum()) / 0.01
        two = -0.5 * float((((A @ x - Y)[ROWS["two"]]) ** 2).sum()) / 0.01
        return one + two, {"one": one, "two": two}

    whole = surrogate.infer(log_likelihood, PRIOR, seed=1, progress=False, n_samples=1000)
    for names in (["one"], ["one", "two"]):
        found = surrogate.combine(whole, names, n_samples=1000)
        mean, covariance, log_evidence = exact(*names)
        assert found.converged, found.status
        assert (np.abs(found.mean - mean) < 0.2 * np.sqrt(np.diag(covariance))).all()
        assert abs(found.log_evidence - log_evidence) < 4 * found.log_evidence_error + 1e-3


@pytest.mark.slow
def test_a_posterior_that_goes_on_where_evaluations_end_is_not_sure() -> None:
    """One data set says nothing about b, over whose prior its posterior extends far beyond the evaluations."""

    def two(a, b):
        return {"both": A @ [a, b], "one": np.array([a])}

    both = surrogate.GaussianData({"both": Y}, {"both": np.full(14, 0.01)})
    one = surrogate.GaussianData({"one": np.array([0.2])}, {"one": np.array([0.01])})
    reference = Reference(np.array([0.2, -0.1]), np.diag([0.05**2, 0.05**2]))
    target = surrogate.Observables(two, both)
    narrow = surrogate.infer(target, PRIOR, seed=1, progress=False, n_samples=1000, reference=reference)
    assert np.ptp(narrow.data.x[:, 1]) < 2.0  # of a prior with a width of 10
    free = narrow.compare_with(one, n_samples=1000)
    assert not free.converged
    assert "cut off where evaluations end" in free.status
    bought = narrow.compare_with(one, n_samples=1000, refine=30)
    assert bought.converged, bought.status
    exact_evidence = np.log(0.1 * np.sqrt(2.0 * np.pi)) - np.log(10.0)
    assert abs(bought.log_evidence - exact_evidence) < 0.15


@pytest.mark.slow
def test_a_posterior_a_thousand_times_wider_than_the_evaluations_is_reached_in_few_calls() -> None:
    """Boxes that double with every batch would take about ten of them, twenty calls."""

    def two(a, b):
        return {"both": A @ [a, b], "one": np.array([a, 0.5 * a])}

    both = surrogate.GaussianData({"both": Y}, {"both": np.full(14, 0.01)})
    one = surrogate.GaussianData({"one": np.array([0.2, 0.1])}, {"one": np.array([0.01, 0.01])})
    prior = {"a": (-5.0, 5.0), "b": (-500.0, 500.0)}
    reference = Reference(np.array([0.2, -0.1]), np.diag([0.05**2, 0.05**2]))
    narrow = surrogate.infer(
        surrogate.Observables(two, both), prior, seed=1, progress=False, n_samples=500, reference=reference
    )
    wide = narrow.compare_with(one, n_samples=500, refine=12)
    assert wide.converged, wide.status
    assert np.ptp(wide.data.x[:, 1]) > 300.0
    exact_evidence = np.log(np.sqrt(2.0 * np.pi * 0.01 / 1.25)) - np.log(10.0)
    assert abs(wide.log_evidence - exact_evidence) < 5.0 * wide.log_evidence_error + 0.02


def near(a, b):
    """Outputs that do not depend on the other three parameters."""
    return np.array([a * (1.0 + 0.3 * b), np.exp(0.5 * b), a * a + 0.2 * b])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_data_that_say_nothing_about_most_parameters_need_few_calls(seed) -> None:
    """Data about two of five parameters, after a run whose posterior is a thousandth of the prior in the others."""
    mixing = np.random.default_rng(3).standard_normal((12, 5))
    centre, sd = np.array([0.55, 0.4, 0.0, 0.0, 0.0]), np.array([0.01, 0.02, 0.02, 0.02, 0.02])

    def simulate(a, b, c, d, e):
        steps = mixing @ ((np.array([a, b, c, d, e]) - centre) / sd)
        return {"near": near(a, b), "all": steps + 0.01 * steps**2}

    y = {"near": near(0.6, 0.5), "all": np.zeros(12)}
    covariance = {"near": np.array([0.05, 0.08, 0.05]) ** 2, "all": np.ones(12)}

    def some(*names):
        return surrogate.GaussianData({n: y[n] for n in names}, {n: covariance[n] for n in names})

    prior = {"a": (0.0, 1.5), "b": (-1.0, 2.0)} | dict.fromkeys("cde", (-10.0, 10.0))
    joint = surrogate.infer(
        surrogate.Observables(simulate, some("near", "all")),
        prior,
        seed=seed,
        progress=False,
        n_samples=1000,
        reference=Reference(centre, np.diag(sd**2)),
    )
    assert joint.converged
    assert np.ptp(joint.data.x[:, 2:], axis=0).max() < 1.0  # of a prior with a width of 20
    part = joint.compare_with(some("near"), seed=seed, n_samples=1000, refine=20)
    assert part.converged, part.status
    assert len(part.data) <= 2 * len(joint.data)  # it ends once a batch has hardly moved the posterior
    grid = np.stack(np.meshgrid(np.linspace(0.0, 1.5, 401), np.linspace(-1.0, 2.0, 401)), -1).reshape(-1, 2)
    residual = np.stack(near(*grid.T), -1) - y["near"]
    log_likelihood = -0.5 * (residual**2 / covariance["near"]).sum(1)
    exact_evidence = float(np.log(np.exp(log_likelihood).mean()))  # of residuals without normalisation
    assert abs(part.log_evidence - exact_evidence) < 0.2
    assert np.abs(part.mean[2:]).max() < 1.0  # a uniform posterior from -10 to 10
    np.testing.assert_allclose(np.sqrt(np.diag(part.covariance))[2:], 20.0 / np.sqrt(12.0), rtol=0.1)
