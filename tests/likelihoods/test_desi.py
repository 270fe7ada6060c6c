"""The DESI targets: published numbers, exact background, and the laws of a target."""

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from likelihoods import desi

DATA = Path(os.environ.get("SURROGATE_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
COSMOLOGY = DATA / "cosmology"
needs_data = pytest.mark.skipif(not COSMOLOGY.is_dir(), reason="folder of published data not found: set SURROGATE_DATA")
BEST = np.array([68.5, 0.2975, -1.0, 0.0, 0.02218])
CORNERS = [p for p in itertools.product([20.0, 100.0], [0.01, 0.99], [-3.0, 1.0], [-3.0, 2.0]) if p[2] + p[3] < 0]


def background(hubble, matter, w0, wa):
    return desi.Background(*(np.array([a]) for a in (hubble, matter, w0, wa)))


@pytest.fixture(scope="module")
def lcdm():
    return desi.desi_lcdm()


@pytest.fixture(scope="module")
def w0wacdm():
    return desi.desi_w0wacdm()


@pytest.fixture(scope="module")
def uniform(w0wacdm):
    low, high = w0wacdm.bounds.T
    return np.random.default_rng(3).uniform(low, high, (2000, 5))


def released_order():
    """Index into the 13 distances of each row of the released files, by redshift and kind."""
    kinds = ["DV_over_rs"] + ["DM_over_rs", "DH_over_rs"] * 6
    ours = list(zip(np.repeat(desi.BAO_REDSHIFTS, [1] + [2] * 6), kinds, strict=True))
    text = (COSMOLOGY / "desi_bao_dr2/desi_gaussian_bao_ALL_GCcomb_mean.txt").read_text()
    rows = [line.split() for line in text.splitlines()[1:]]
    return [ours.index((float(z), kind)) for z, _, kind in rows], np.array([float(value) for _, value, _ in rows])


@needs_data
def test_distances_are_those_released_to_their_rounding():
    order, mean = released_order()
    np.testing.assert_allclose(desi.BAO_DISTANCES[order], mean, atol=5.1e-4, rtol=0)


@needs_data
def test_covariance_is_that_released_including_every_sign():
    order, _ = released_order()
    released = np.loadtxt(COSMOLOGY / "desi_bao_dr2/desi_gaussian_bao_ALL_GCcomb_cov.txt")
    ours = desi.BAO_COVARIANCE[np.ix_(order, order)]
    sd, ours_sd = np.sqrt(np.diag(released)), np.sqrt(np.diag(ours))
    np.testing.assert_allclose(ours_sd, sd, atol=5.1e-4, rtol=0)
    np.testing.assert_allclose(ours / np.outer(ours_sd, ours_sd), released / np.outer(sd, sd), atol=5.1e-4)
    assert np.array_equal(np.sign(ours), np.sign(released))


@needs_data
def test_chronometers_are_those_released():
    np.testing.assert_array_equal(desi.CHRONOMETERS, np.loadtxt(COSMOLOGY / "Hz_2016.dat"))


def test_bins_anticorrelate():
    pairs = [desi.BAO_COVARIANCE[i, i + 1] for i in range(1, 13, 2)]
    assert np.all(np.array(pairs) < 0)


@pytest.mark.parametrize("point", [(67.4, 0.31, -1.0, 0.0), (70.0, 0.3, -0.7, -1.1), *CORNERS])
def test_distance_is_the_integral(point):
    model = background(*point)
    distances = model.comoving_distance(desi.BAO_REDSHIFTS)[0]
    for z, distance in zip(desi.BAO_REDSHIFTS, distances, strict=True):
        exact = quad(lambda z: desi.SPEED_OF_LIGHT / model.rate([z])[0, 0], 0, z, epsabs=0, epsrel=1e-11)[0]
        assert distance == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("point", [(67.4, 0.31, -1.0, 0.0), (70.0, 0.3, -0.7, -1.1), *CORNERS])
def test_age_is_the_integral(point):
    model = background(*point)
    exact = quad(lambda u: 1 / model.rate([np.expm1(u)])[0, 0], 0, 60, epsabs=0, epsrel=1e-10, limit=500)[0]
    assert model.age()[0] == pytest.approx(desi.HUBBLE_TIME_GYR * exact, rel=1e-6)


def test_matter_alone_has_the_closed_form():
    """Einstein-de Sitter, with radiation made negligible by the rate: D = 2 c / H0 (1 - 1 / sqrt(1 + z))."""
    model = background(1e6, 1.0, -1.0, 0.0)
    exact = 2 * desi.SPEED_OF_LIGHT / 1e6 * (1 - 1 / np.sqrt(1 + desi.BAO_REDSHIFTS))
    np.testing.assert_allclose(model.comoving_distance(desi.BAO_REDSHIFTS)[0], exact, rtol=1e-7)
    assert model.age()[0] == pytest.approx(desi.HUBBLE_TIME_GYR / 1e6 * 2 / 3, rel=1e-6)


def test_sound_horizon_of_planck():
    """Planck 2018 TT,TE,EE+lowE, arXiv:1807.06209, table 2: r_drag = 147.05 +- 0.30 Mpc, to the formula's 0.1 %."""
    assert desi.sound_horizon(0.02236, 0.02236 + 0.1202) == pytest.approx(147.05, rel=1.1e-3)


def test_lcdm_reproduces_the_published_constraints(lcdm):
    """arXiv:2503.14738, BAO alone: Omega_m = 0.2975 +- 0.0086, h r_d = 101.54 +- 0.73 Mpc."""
    mean, sd = np.array([0.2975, 101.54]), np.array([0.0086, 0.73])
    assert np.all(np.abs(lcdm.mean - mean) < 0.15 * sd)
    np.testing.assert_allclose(np.sqrt(np.diag(lcdm.covariance)), sd, rtol=0.05)


def test_lcdm_grid_is_fine_and_wide_enough(lcdm):
    """Evidence and moments agree with a Gauss-Legendre rule over a wider window."""
    nodes, weights = np.polynomial.legendre.leggauss(120)
    sides = [(0.22, 0.40), (94.0, 109.0)]
    axes = [(a + b) / 2 + (b - a) / 2 * nodes for a, b in sides]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    mass = np.exp(lcdm.log_likelihood(points)) * np.outer(weights, weights).ravel()
    integral = mass.sum() * np.prod([(b - a) / 2 for a, b in sides])
    assert np.log(integral) - lcdm.log_volume == pytest.approx(lcdm.log_evidence, abs=1e-4)
    mean = mass @ points / mass.sum()
    np.testing.assert_allclose(lcdm.mean, mean, atol=1e-3 * np.sqrt(np.diag(lcdm.covariance)).min(), rtol=0)
    residual = points - mean
    np.testing.assert_allclose(lcdm.covariance, (residual.T * mass) @ residual / mass.sum(), rtol=1e-3)


def test_lcdm_draws_have_the_moments(lcdm):
    """Null: draws from the grid; 5 standard errors."""
    n = 40_000
    x = lcdm.draw(n, np.random.default_rng(1))
    assert np.all((x >= lcdm.bounds[:, 0]) & (x <= lcdm.bounds[:, 1]))
    assert np.all(np.abs(x.mean(0) - lcdm.mean) < 5 * x.std(0) / np.sqrt(n))
    z = x - lcdm.mean
    products = z[:, :, None] * z[:, None, :]
    assert np.all(np.abs(products.mean(0) - lcdm.covariance) < 5 * products.std(0) / np.sqrt(n))


def test_w0wacdm_contains_lcdm(w0wacdm, lcdm):
    """With a cosmological constant the BAO term is that of `desi_lcdm`, up to the radiation of another H0."""
    derived = desi.derived(*BEST)
    rate = background(*BEST[:4]).rate(desi.CHRONOMETERS[:, 0])[0]
    chronometers = (((rate - desi.CHRONOMETERS[:, 1]) / desi.CHRONOMETERS[:, 2]) ** 2).sum()
    bao = lcdm.log_likelihood(np.array([BEST[1], derived["h_r_d"]]))
    assert w0wacdm.log_likelihood(BEST) == pytest.approx(bao - chronometers / 2, abs=2e-2)


def test_the_fit_is_good(w0wacdm):
    """Chi-squared of a point near the best is below the number of data."""
    assert -0.5 * (13 + 30) < w0wacdm.log_likelihood(BEST) < 0


def test_nucleosynthesis_is_a_gaussian_factor(w0wacdm):
    """At fixed h r_d and H0, a shift of omega_b by one sd costs one half, when r_d is held by Omega_m h^2."""
    other = BEST + np.array([0, 0, 0, 0, desi.OMEGA_B_BBN_SD])
    r_d = [desi.derived(*x)["r_d"] for x in (BEST, other)]
    bao = [-0.5 * desi._chi2_bao(background(*BEST[:4]), np.array([r]))[0] for r in r_d]
    change = w0wacdm.log_likelihood(other) - w0wacdm.log_likelihood(BEST)
    assert change == pytest.approx(bao[1] - bao[0] - 0.5, abs=1e-9)


def test_forbidden_regions(w0wacdm, uniform):
    hubble, matter, w0, wa, omega_b = uniform.T
    forbidden = (w0 + wa >= 0) | (matter * (hubble / 100) ** 2 - desi.OMEGA_NEUTRINO < omega_b)
    y = w0wacdm.log_likelihood(uniform)
    assert 0.1 < forbidden.mean() < 0.9
    np.testing.assert_array_equal(np.isneginf(y), forbidden)
    assert np.isfinite(y[~forbidden]).all()


def test_rows_are_points(w0wacdm, uniform):
    y = w0wacdm.log_likelihood(uniform[:50])
    pointwise = [w0wacdm.log_likelihood(x) for x in uniform[:50]]
    assert all(type(value) is float for value in pointwise)
    np.testing.assert_allclose(y, pointwise, rtol=1e-12)


def test_by_name_is_by_point(w0wacdm, uniform):
    for x in uniform[:50]:
        value, derived = desi.log_likelihood(**dict(zip(w0wacdm.names, map(float, x), strict=True)))
        assert value == w0wacdm.log_likelihood(x)
        assert set(derived) == {"r_d", "h_r_d", "age", "omega_m"}
        assert all(type(entry) is float for entry in derived.values())


def test_wrong_shape_is_refused(w0wacdm):
    with pytest.raises(ValueError, match=r"x must have shape \(5,\) or \(m, 5\), got \(4,\)"):
        w0wacdm.log_likelihood(BEST[:4])


def test_a_call_takes_milliseconds(w0wacdm):
    """The best of twenty is about 1 ms; the bound leaves room for a slow and busy machine."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        w0wacdm.log_likelihood(BEST)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.1


def test_rejection_bound_of_w0wacdm_holds():
    """The accepted fraction is the evidence over the bound, and no proposal passes the bound; 5 standard errors."""
    n = 100_000
    x = desi._proposal().rvs(n, random_state=np.random.default_rng(4))
    low, high = desi._BOUNDS.T
    x = x[np.all((x >= low) & (x <= high), axis=1)]
    log_ratio = desi._log_likelihood_w0wacdm(x) - desi._proposal().logpdf(x) - desi._LOG_RATIO
    assert log_ratio.max() < 0
    weight = np.append(np.exp(log_ratio), np.zeros(n - len(x)))
    expected = np.exp(desi._LOG_EVIDENCE + np.log(high - low).sum() - desi._LOG_RATIO)
    assert abs(weight.mean() - expected) < 5 * weight.std() / np.sqrt(n)
