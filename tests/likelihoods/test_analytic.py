"""Facts about single analytic targets that the laws do not cover."""

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import dblquad

from likelihoods import analytic
from likelihoods.grid import Grid


@pytest.mark.parametrize("build", [analytic.banana, analytic.himmelblau, analytic.ring, analytic.angle])
def test_two_dimensional_evidence_to_a_ten_thousandth(build):
    """Against a composite Gauss-Legendre rule of 60 x 12 nodes on each axis."""
    target = build()
    nodes, weights = np.polynomial.legendre.leggauss(12)
    axes, sides = [], []
    for low, high in target.bounds:
        edges = np.linspace(low, high, 61)
        half = np.diff(edges)[:, None] / 2
        axes.append((edges[:-1, None] + half * (1 + nodes)).ravel())
        sides.append((half * weights).ravel())
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(target.log_likelihood(points)) * np.outer(*sides).ravel()
    assert np.log(mass.sum()) - target.log_volume == pytest.approx(target.log_evidence, abs=1e-4)
    mean = mass @ points / mass.sum()
    sd = np.sqrt(np.diag(target.covariance))
    np.testing.assert_allclose(target.mean / sd, mean / sd, atol=1e-4)
    residual = points - mean
    covariance = (residual.T * mass) @ residual / mass.sum()
    np.testing.assert_allclose(target.covariance / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=1e-4)


def test_gaussian_is_that_of_scipy():
    target = analytic.gaussian(5, seed=3, offset=-7.0)
    x = target.draw(20, np.random.default_rng(0))
    exact = stats.multivariate_normal.logpdf(x, target.mean, target.covariance) - 7.0
    np.testing.assert_allclose(target.log_likelihood(x), exact, rtol=1e-10)


def test_gaussian_seeds_differ_and_repeat():
    a, b, c = (analytic.gaussian(3, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(a.covariance, b.covariance)
    assert not np.allclose(a.covariance, c.covariance)


def test_gaussian_box_has_the_width():
    target = analytic.gaussian(3, width=15.0)
    np.testing.assert_allclose(np.diff(target.bounds, axis=1)[:, 0], 15 * np.sqrt(np.diag(target.covariance)))
    with pytest.raises(ValueError, match=r"width must be at least 14.0, got 10"):
        analytic.gaussian(3, width=10)


@pytest.mark.parametrize("build", [analytic.twisted, analytic.truncated_gaussian])
def test_two_dimensions_at_least(build):
    with pytest.raises(ValueError, match="d must be at least 2, got 1"):
        build(1)


def test_student_is_that_of_scipy():
    target = analytic.student(3, df=4.0)
    scale = np.exp(np.linspace(-0.7, 0.7, 3))
    x = target.draw(20, np.random.default_rng(0))
    exact = stats.multivariate_t.logpdf(x, shape=np.diag(scale**2), df=4.0)
    np.testing.assert_allclose(target.log_likelihood(x), exact, rtol=1e-10)


@pytest.mark.parametrize("build", [analytic.student, analytic.funnel])
def test_quadrature_over_a_scale(build):
    """The integral over a box in two dimensions, against nested adaptive quadrature."""
    target = build(2)
    (a, b), (c, d) = target.bounds
    likelihood = target.log_likelihood
    integral = dblquad(lambda y, x: np.exp(likelihood(np.array([x, y]))), a, b, c, d, epsabs=1e-7, epsrel=1e-7)[0]
    assert np.log(integral) - target.log_volume == pytest.approx(target.log_evidence, abs=1e-5)


def test_shell_in_three_dimensions_has_the_closed_form():
    """4 pi times the integral of r^2 exp(-((r - a) / s)^2 / 2), which is s sqrt(2 pi) (a^2 + s^2)."""
    target = analytic.shell(3, radius=2.0, width=0.15)
    closed = 4 * np.pi * 0.15 * np.sqrt(2 * np.pi) * (2.0**2 + 0.15**2)
    assert target.log_evidence + target.log_volume == pytest.approx(np.log(closed), abs=1e-10)


def test_himmelblau_has_four_equal_peaks():
    peaks = [[3.0, 2.0], [-2.805118, 3.131312], [-3.779310, -3.283186], [3.584428, -1.848126]]
    np.testing.assert_allclose(analytic.himmelblau().log_likelihood(np.array(peaks)), 0.0, atol=1e-9)


def test_cliff_has_its_mode_on_the_edge():
    target = analytic.cliff(3)
    edge, inward = np.linspace(0.5, 1.0, 3), np.ones(3) / np.sqrt(3)
    steps = np.array([-1e-9, 1e-9, 0.1, 0.2])
    y = target.log_likelihood(edge - steps[:, None] * inward)
    assert np.isneginf(y[0])
    assert np.all(np.diff(y[1:]) < 0)


def test_angle_is_continuous_across_the_seam():
    target = analytic.angle()
    assert target.periodic == (True, False)
    left, right = target.log_likelihood(np.array([[-np.pi, -1.0], [np.pi, -1.0]]))
    assert left == pytest.approx(right, rel=1e-12)


def test_noise_is_a_function_of_the_point():
    target, other = analytic.noisy_gaussian(2, sd=0.7), analytic.noisy_gaussian(2, sd=0.7, seed=1)
    x = target.draw(4000, np.random.default_rng(0))
    y, sd = target.log_likelihood(x)
    np.testing.assert_array_equal(y, target.log_likelihood(x[::-1])[0][::-1])
    np.testing.assert_array_equal(sd, 0.7)
    exact = stats.multivariate_normal.logpdf(x, target.mean, target.covariance)
    noise, others = (y - exact) / 0.7, (other.log_likelihood(x)[0] - exact) / 0.7
    assert stats.kstest(noise, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(noise, others)[0, 1]) < 5 / np.sqrt(len(x))
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 5 / np.sqrt(len(x))


def test_noise_is_the_same_at_both_zeros():
    likelihood = analytic.noisy_gaussian(2).log_likelihood
    assert likelihood(np.array([0.0, 1.0])) == likelihood(np.array([-0.0, 1.0]))


def test_grid_of_a_normal_is_exact():
    """Smooth and zero at the edges: the midpoint rule is good to rounding."""
    exact = stats.multivariate_normal([0.3, -0.2], [[1.0, 0.6], [0.6, 2.0]])
    grid = Grid.of(exact.logpdf, np.array([[-9.0, 9.0], [-13.0, 13.0]]), 200)
    mean, covariance = grid.moments()
    assert grid.log_integral == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(mean, exact.mean, atol=1e-12)
    np.testing.assert_allclose(covariance, exact.cov, atol=1e-10)
