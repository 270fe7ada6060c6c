import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from surrogate.samplers.mixture import Mixture, fit_mixture


def mixture(k=3, d=2, *, dof=np.inf, seed=0):
    rng = np.random.default_rng(seed)
    weights = rng.random(k) + 0.2
    a = rng.standard_normal((k, d, d))
    factors = np.linalg.cholesky(a @ np.swapaxes(a, 1, 2) + 0.2 * np.eye(d))
    return Mixture(weights / weights.sum(), 4 * rng.standard_normal((k, d)), factors, dof)


def reference(m, x):
    """Log joint density of points and components by scipy, with shape (m, k)."""
    columns = []
    for w, mean, factor in zip(m.weights, m.means, m.factors, strict=True):
        scale = factor @ factor.T
        normal = np.isinf(m.dof)
        density = stats.multivariate_normal(mean, scale) if normal else stats.multivariate_t(mean, scale, df=m.dof)
        columns.append(np.log(w) + np.atleast_1d(density.logpdf(x)))
    return np.stack(columns, 1)


INSTANCES = {
    "normal": mixture(),
    "one component": mixture(1, 3),
    "one dimension": mixture(2, 1),
    "student": mixture(3, 2, dof=5.0),
    "cauchy": mixture(2, 3, dof=1.0),
    "joined": mixture(2, 2, dof=6.0).joined(mixture(1, 2, seed=1), 0.1),
    "widened": mixture().widened(2.0, dof=4.0),
}


@pytest.fixture(params=INSTANCES)
def instance(request):
    return INSTANCES[request.param]


def test_density_is_that_of_scipy(instance, rng):
    x = 5 * rng.standard_normal((30, instance.means.shape[1]))
    np.testing.assert_allclose(instance.log_density(x), logsumexp(reference(instance, x), axis=1), rtol=1e-9)


def test_responsibilities_are_those_of_bayes(instance, rng):
    x = 5 * rng.standard_normal((30, instance.means.shape[1]))
    joint = reference(instance, x)
    exact = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(instance.responsibilities(x), exact, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(instance.responsibilities(x).sum(1), 1.0)


def test_draws_have_the_density(instance, rng):
    """Probability integral transform of a projection, component by component; p > 1e-4."""
    n = 4000
    x = instance.sample(n, rng)
    direction = np.linspace(1.0, 2.0, x.shape[1])

    def cumulative(t):
        total = np.zeros(len(t))
        for w, mean, factor in zip(instance.weights, instance.means, instance.factors, strict=True):
            sd = np.linalg.norm(factor.T @ direction)
            law = stats.norm if np.isinf(instance.dof) else stats.t(df=instance.dof)
            total += w * law.cdf((t - mean @ direction) / sd)
        return total

    assert stats.kstest(x @ direction, cumulative).pvalue > 1e-4


def test_counts_of_components_are_stratified(rng):
    far = Mixture(np.array([0.25, 0.75]), np.array([[-100.0], [100.0]]), np.ones((2, 1, 1)))
    x = far.sample(1000, rng)
    assert abs(int((x < 0).sum()) - 250) <= 1


def test_weights_of_a_join():
    joined = mixture(2).joined(mixture(3, seed=1), 0.3)
    assert joined.weights.sum() == pytest.approx(1.0)
    assert joined.weights[2:].sum() == pytest.approx(0.3)


def test_one_component_has_the_moments_of_the_points(rng):
    x = rng.standard_normal((200, 3)) @ rng.standard_normal((3, 3)) + 7.0
    fitted = fit_mixture(x, 1, rng)
    np.testing.assert_allclose(fitted.means[0], x.mean(0))
    np.testing.assert_allclose(fitted.factors[0] @ fitted.factors[0].T, np.cov(x.T, bias=True), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_separate_clusters_are_found(scale, rng):
    """In any units; 5 standard errors."""
    centres, n = scale * np.array([[-10.0, 0.0], [10.0, 0.0], [0.0, 15.0]]), 300
    x = np.concatenate([c + scale * rng.standard_normal((n, 2)) for c in centres])
    fitted = fit_mixture(x, 3, rng)
    order = [int(np.abs(fitted.means - c).sum(1).argmin()) for c in centres]
    assert sorted(order) == [0, 1, 2]
    np.testing.assert_allclose(fitted.means[order] / scale, centres / scale, atol=5 / np.sqrt(n))
    np.testing.assert_allclose(fitted.weights, 1 / 3, atol=0.01)


def test_more_components_are_no_worse(rng):
    x = np.concatenate([rng.standard_normal((200, 2)) - 3, 0.3 * rng.standard_normal((100, 2)) + 3])
    heights = [fit_mixture(x, k, np.random.default_rng(0)).log_density(x).sum() for k in (1, 2)]
    assert heights[1] > heights[0]


DEGENERATE = {
    "fewer points than dimensions": np.random.default_rng(0).standard_normal((3, 5)),
    "equal points": np.full((10, 2), 0.3),
    "a line": np.linspace(0, 1, 20)[:, None] * np.ones((1, 3)),
    "one axis is constant": np.random.default_rng(1).standard_normal((30, 2)) * [1.0, 0.0],
    "two places": np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0),
}


@pytest.mark.parametrize("components", [1, 2])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_points_give_a_density(name, components, rng):
    x = DEGENERATE[name]
    fitted = fit_mixture(x, components, rng)
    assert 1 <= len(fitted.weights) <= components
    assert fitted.weights.sum() == pytest.approx(1.0)
    assert np.isfinite(fitted.log_density(x)).all()
    assert np.isfinite(fitted.sample(10, rng)).all()


def test_as_many_components_as_points(rng):
    fitted = fit_mixture(rng.standard_normal((3, 2)), 3, rng)
    assert np.isfinite(fitted.log_density(np.zeros((1, 2)))).all()
