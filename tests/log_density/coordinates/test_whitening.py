import numpy as np
import pytest

from surrogate.log_density.coordinates.whitening import Whitening


def cloud(n, d, *, seed=0):
    """Points with correlations and very different widths, far from the origin."""
    rng = np.random.default_rng(seed)
    return 10.0 + rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) @ np.diag(10.0 ** np.linspace(-3, 2, d))


INSTANCES = {
    **{f"of {n} points in {d}": (Whitening.of(cloud(n, d)), d) for n, d in [(500, 1), (500, 3), (40, 8), (5, 4)]},
    "of fewer points than dimensions": (Whitening.of(cloud(3, 5)), 5),
    "of two points": (Whitening.of(cloud(2, 3)), 3),
    "identity": (Whitening.identity(4), 4),
}


@pytest.fixture(params=INSTANCES)
def instance(request):
    return INSTANCES[request.param]


def test_there_and_back(instance):
    whitening, d = instance
    np.testing.assert_allclose(whitening.forward @ whitening.backward, np.eye(d), atol=1e-6)
    x = whitening.unwhiten(np.random.default_rng(1).standard_normal((20, d)))
    np.testing.assert_allclose(whitening.unwhiten(whitening.whiten(x)), x, rtol=1e-9)


def test_the_centre_goes_to_the_origin(instance):
    whitening, d = instance
    np.testing.assert_array_equal(whitening.whiten(whitening.centre[None]), np.zeros((1, d)))


@pytest.mark.parametrize(("n", "d"), [(50, 1), (50, 3), (9, 8), (400, 12)])
def test_the_cloud_has_zero_mean_and_unit_covariance(n, d):
    x = cloud(n, d)
    u = Whitening.of(x).whiten(x)
    np.testing.assert_allclose(u.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(u.T).reshape(d, d), np.eye(d), atol=1e-8)


def test_distances_do_not_depend_on_the_coordinates():
    """Affine maps of the cloud change u by a rotation only, so that a stationary kernel sees the same distances."""
    x, a = cloud(60, 3), np.random.default_rng(2).standard_normal((3, 3))
    u, v = Whitening.of(x).whiten(x), Whitening.of(x @ a + 5.0).whiten(x @ a + 5.0)
    np.testing.assert_allclose(u @ u.T, v @ v.T, atol=1e-7)


def test_a_flat_direction_is_given_a_width():
    x = cloud(50, 3)
    x[:, 1] = 7.0
    whitening = Whitening.of(x)
    assert np.isfinite(whitening.forward).all()
    assert np.isfinite(whitening.whiten(x + np.eye(3)[1])).all()


def test_the_identity_whitens_the_unit_cube():
    """Null: uniform draws; 5 standard errors."""
    n = 20_000
    u = Whitening.identity(3).whiten(np.random.default_rng(3).random((n, 3)))
    assert np.all(np.abs(u.mean(0)) < 5 / np.sqrt(n))
    assert np.all(np.abs(u.var(0) - 1) < 5 * np.sqrt(0.8 / n))  # the kurtosis of a uniform density is 1.8


@pytest.mark.parametrize("n", [1, 5])
def test_a_cloud_of_one_place(n):
    whitening = Whitening.of(np.full((n, 2), 0.25))
    assert np.isfinite(whitening.forward).all()
