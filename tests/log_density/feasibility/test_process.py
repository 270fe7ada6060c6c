import numpy as np
import pytest
import torch
from scipy.special import log_ndtr, ndtr

from surrogate.log_density.feasibility.process import PRIOR_VARIANCE, SURE, FeasibilityProcess, Shape, fit_process
from surrogate.log_density.feasibility.protocol import Everywhere
from surrogate.log_density.feasibility.svm import fit_machine
from tests.log_density.feasibility import regions

REGIONS = regions.REGIONS | {
    "half plane with a hole": lambda u: (u[:, 0] < 1.5) & (((u + 1) ** 2).sum(1) > 0.8),
}


def points(n=80, d=2, *, seed=0):
    return regions.points(n, d, seed=seed)


@pytest.fixture(params=REGIONS, scope="module")
def case(request):
    u = points()
    feasible = REGIONS[request.param](u)
    fitted = fit_process(u, feasible)
    assert isinstance(fitted, FeasibilityProcess)
    return u, feasible, fitted


def sequential(K, sign, *, sweeps=100):
    """Expectation propagation one site after the other, as in Rasmussen & Williams, algorithm 3.5."""
    n = len(sign)
    tau, nu, covariance, mean = np.zeros(n), np.zeros(n), K.copy(), np.zeros(n)
    for _ in range(sweeps):
        for i in range(n):
            t, m = 1 / covariance[i, i] - tau[i], mean[i] / covariance[i, i] - nu[i]
            variance = 1 / t
            z = sign[i] * m * variance / np.sqrt(1 + variance)
            ratio = np.exp(-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - log_ndtr(z))
            tilted_mean = m * variance + sign[i] * variance * ratio / np.sqrt(1 + variance)
            tilted = variance - variance**2 * ratio * (z + ratio) / (1 + variance)
            change = 1 / tilted - t - tau[i]
            tau[i], nu[i] = tau[i] + change, tilted_mean / tilted - m
            column = covariance[:, i].copy()
            covariance -= np.outer(column, column) * change / (1 + change * column[i])
            mean = covariance @ nu
        s = np.sqrt(tau)
        covariance = K - K @ (s[:, None] * np.linalg.solve(np.eye(n) + s[:, None] * K * s, s[:, None] * K))
        mean = covariance @ nu
    return mean, covariance


def test_the_process_is_that_of_sequential_expectation_propagation(case):
    u, feasible, fitted = case
    u, feasible = u[:30], feasible[:30]
    if feasible.all():
        pytest.skip("one class only")
    fitted = fit_process(u, feasible)
    K = fitted.posterior.covariance_parts(u)[0] + 1e-6 * PRIOR_VARIANCE * np.eye(len(u))
    mean, covariance = sequential(K, np.where(feasible, 1.0, -1.0))
    prior, half = fitted.correlated(u)
    sd = np.sqrt(1.0 + np.diag(covariance))
    np.testing.assert_allclose((fitted.weights @ prior) / sd, mean / sd, atol=0.02)
    np.testing.assert_allclose(np.diag(prior - half.T @ half), np.diag(covariance), rtol=0.05, atol=0.05 * sd.max())


def test_the_evidence_of_two_points():
    """A feasible and an infeasible point at one place, with one parameter: an integral over a bivariate normal."""
    u = np.array([[0.5], [-1.0]])
    fitted = fit_process(u, np.array([True, False]))
    K = fitted.posterior.covariance_parts(u)[0] + (1.0 + 1e-6 * PRIOR_VARIANCE) * np.eye(
        2
    )  # with the probit's own noise
    rho = K[0, 1] / np.sqrt(K[0, 0] * K[1, 1])
    exact = np.log(0.25 - np.arcsin(rho) / (2 * np.pi))
    assert fitted.log_evidence == pytest.approx(exact, abs=0.02)


def test_every_point_is_classified_correctly(case):
    u, feasible, fitted = case
    np.testing.assert_array_equal(fitted.margin(u) > 0, feasible)


def test_the_probability_is_cut_where_the_other_class_would_be_a_surprise(case):
    fitted = case[2]
    x = points(500, seed=1)
    p, whole = fitted.probability(x), ndtr(fitted.margin(x))
    np.testing.assert_allclose(p, np.clip((whole - SURE) / (1 - 2 * SURE), 0, 1))
    np.testing.assert_allclose(fitted.doubt(x), whole * (1 - whole))


@pytest.mark.parametrize("name", ["half plane", "disc", "half plane with a hole"])
def test_new_points_are_classified_better_than_by_a_support_vector_machine(name):
    u, x = points(60), points(4000, seed=3)
    truth = REGIONS[name](x)
    fitted, machine = (fit(u, REGIONS[name](u)) for fit in (fit_process, fit_machine))
    ours, theirs = (((model.probability(x) - truth) ** 2).mean() for model in (fitted, machine))
    assert ours < min(theirs, 0.08)


@pytest.mark.slow
def test_probabilities_are_calibrated():
    """Over half planes drawn from the prior: among points with p about 0.8 four of five are feasible."""
    rng = np.random.default_rng(5)
    bins: dict[int, list[bool]] = {0: [], 1: [], 2: [], 3: [], 4: []}
    for _ in range(60):
        normal, u, x = rng.standard_normal(3), rng.standard_normal((12, 2)), rng.standard_normal((100, 2))
        feasible, truth = normal[0] + u @ normal[1:] / np.sqrt(2) > 0, normal[0] + x @ normal[1:] / np.sqrt(2) > 0
        if feasible.all() or not feasible.any():
            continue
        p = ndtr(fit_process(u, feasible).margin(x))
        for place, right in zip(np.minimum((5 * p).astype(int), 4), truth, strict=True):
            bins[place].append(bool(right))
    for place in (1, 2, 3):  # points of one plane are alike: an effective size of a tenth
        share, size = np.mean(bins[place]), len(bins[place]) / 10
        assert abs(share - (place + 0.5) / 5) < 0.1 + 3 * 0.5 / np.sqrt(size)


def test_paths_have_the_mean_of_the_probability():
    """E[feasible / p] = 1 at every point, within five standard errors."""
    u = points(30)
    fitted = fit_process(u, REGIONS["disc"](u))
    x = points(50, seed=2)
    paths = np.exp(fitted.deviations(x, 4000, np.random.default_rng(7)))
    p = ndtr(fitted.margin(x))
    np.testing.assert_array_less(np.abs(paths.mean(0) - 1.0), 5 * np.sqrt((1 / p - 1) / 4000) + 1e-3)


def test_paths_at_two_near_points_agree():
    u = points(30)
    fitted = fit_process(u, REGIONS["disc"](u))
    x = np.array([[1.9, 0.0], [1.9001, 0.0]])
    signs = np.isfinite(fitted.deviations(x, 2000, np.random.default_rng(8)))
    assert np.mean(signs[:, 0] == signs[:, 1]) > 0.97
    assert 0.02 < signs[:, 0].mean() < 0.98


def test_the_shape_fits_the_region():
    u = points(100)
    plane, hole = (fit_process(u, REGIONS[name](u)).shape for name in ("half plane", "half plane with a hole"))
    assert plane.bend < hole.bend or plane.length > hole.length


@pytest.mark.parametrize("shape", [Shape(), Shape(0.1, 0.5), Shape(1.0, 2.0, smooth=False)])
def test_the_kernel_is_its_formula(shape):
    """A (1 + u.v / d + c k(|u - v|^2 / (l^2 d)))."""
    u, v = points(20, 3), points(5, 3, seed=1)
    r2 = ((u[:, None] - v) ** 2).sum(2) / (shape.length**2 * 3)
    k = np.exp(-0.5 * r2) if shape.smooth else (1 + np.sqrt(5 * r2) + 5 / 3 * r2) * np.exp(-np.sqrt(5 * r2))
    got = shape.kernel(3).covariance(torch.as_tensor(u), torch.as_tensor(v)).numpy()
    np.testing.assert_allclose(got, PRIOR_VARIANCE * (1.0 + u @ v.T / 3 + shape.bend * k), rtol=1e-11, atol=1e-9)


@pytest.mark.parametrize("shape", [Shape(), Shape(0.1, 0.5), Shape(1.0, 2.0, smooth=False)])
def test_the_variance_is_the_diagonal_of_the_covariance(shape):
    u = points(20, 3)
    np.testing.assert_allclose(shape.variance(u), shape.kernel(3).covariance(torch.as_tensor(u)).diagonal())


def test_with_feasible_points_alone_everything_is_feasible():
    assert isinstance(fit_process(points(), np.ones(80, dtype=bool)), Everywhere)


def test_a_process_needs_a_feasible_point():
    with pytest.raises(ValueError, match="at least one feasible point"):
        fit_process(points(), np.zeros(80, dtype=bool))


def test_failures_by_chance_are_overruled():
    u = points(seed=4)
    u[0] = 0.0
    feasible = np.arange(80) > 0
    assert isinstance(fit_process(u, feasible, doubtful=~feasible), Everywhere)


def test_of_many_points_those_near_the_boundary_are_used():
    u, x = points(900, seed=6), points(2000, seed=7)
    fitted = fit_process(u, REGIONS["disc"](u))
    assert isinstance(fitted, FeasibilityProcess)
    assert len(fitted.points) == 400
    assert np.mean((fitted.margin(x) > 0) == REGIONS["disc"](x)) > 0.98


def test_the_process_does_not_depend_on_the_order_of_the_points():
    u = points()
    feasible = REGIONS["disc"](u)
    order = np.random.default_rng(6).permutation(len(u))
    a, b = fit_process(u, feasible), fit_process(u[order], feasible[order])
    np.testing.assert_allclose(a.margin(points(200, seed=7)), b.margin(points(200, seed=7)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("distance", [1e2, 1e4, 1e6, 1e9])
def test_points_very_far_out_are_learned(distance):
    """Heavy priors put points a million widths away, where rounding exceeds the usual nugget."""
    rng = np.random.default_rng(0)
    u = rng.standard_normal((60, 4))
    u[::3] *= distance * 10.0 ** rng.standard_normal((20, 1))
    feasible = u[:, 0] < 1.0
    predicted = fit_process(u, feasible).probability(u) > 0.5
    assert (predicted == feasible).mean() > 0.95
