"""Transforms against the formulas that they stand for."""

import math

import pytest
import torch

from surrogate.selection.composed import PosteriorFeatures, SumFeatures
from surrogate.selection.features import DenseFeatures, KernelFeatures
from surrogate.selection.gradients import FactoredFeatures
from surrogate.selection.tangent import LaplaceKernel
from surrogate.selection.transforms import (
    PoolAndTrain,
    acs_grad,
    acs_rf,
    acs_rf_hyper,
    ensemble,
    named_transform,
    posterior,
    scale,
    sketch,
    weighted,
)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def split(dtype=torch.float64, p=6):
    return PoolAndTrain(DenseFeatures(normal(20, p, dtype=dtype)), DenseFeatures(normal(9, p, seed=1, dtype=dtype)))


def gram(features):
    return features.gram(features)


def test_scaled_kernels_have_a_mean_of_one_at_the_labelled_points():
    before, after = split(), scale(split())
    assert float(after.known.diag().mean()) == pytest.approx(1.0)
    torch.testing.assert_close(gram(after.pool), gram(before.pool) / before.known.diag().mean())
    assert float(scale(PoolAndTrain(before.pool)).pool.diag().mean()) == pytest.approx(1.0)


def test_a_kernel_of_zeros_cannot_be_scaled():
    with pytest.raises(ValueError, match="must be positive and finite"):
        scale(PoolAndTrain(DenseFeatures(torch.zeros(3, 2))))


def conditioned(features, known, noise):
    """k - k(., X) (k(X, X) + noise^2)^-1 k(X, .), the slow way."""
    inverse = torch.linalg.inv(gram(known) + noise**2 * torch.eye(known.n, dtype=torch.float64))
    return gram(features) - features.gram(known) @ inverse @ known.gram(features)


@pytest.mark.parametrize("noise", [1e-3, 0.3])
def test_both_forms_of_the_posterior_are_the_formula(noise):
    plain = split()
    exact = conditioned(plain.pool, plain.known, noise)
    after = posterior(noise, scaled=False)(plain)
    assert isinstance(after.pool, DenseFeatures)
    rounding = {"rtol": 1e-7, "atol": 1e-13 / noise**2}  # of the inverse here
    torch.testing.assert_close(gram(after.pool), exact, **rounding)
    lifted = plain.each(lambda features: FactoredFeatures(((features.dense(), torch.ones(features.n, 1).double()),)))
    wide = lifted.each(
        lambda f: FactoredFeatures((*f.factors, (torch.zeros(f.n, 40).double(), torch.zeros(f.n, 40).double())))
    )
    by_kernel = posterior(noise, scaled=False)(wide)
    assert isinstance(by_kernel.pool, PosteriorFeatures)
    torch.testing.assert_close(gram(by_kernel.pool), exact, **rounding)


def test_the_posterior_given_the_pool_and_of_infinitely_many_features():
    x = normal(15, 2)
    points = PoolAndTrain(KernelFeatures(LaplaceKernel(), x), KernelFeatures(LaplaceKernel(), x[:4]))
    after = posterior(0.1, given="pool")(points)
    torch.testing.assert_close(gram(after.pool), conditioned(points.pool, points.pool, 0.1))


def test_posteriors_are_in_double_precision():
    assert posterior()(split(torch.float32)).pool.dtype == torch.float64


@pytest.mark.parametrize(("noise", "given"), [(0.0, "train"), (-1.0, "train"), (0.1, "test")])
def test_senseless_posteriors_are_refused(noise, given):
    with pytest.raises(ValueError, match="expected noise > 0"):
        posterior(noise, given=given)


def test_posteriors_need_labelled_points():
    with pytest.raises(ValueError, match="pass train="):
        posterior()(PoolAndTrain(DenseFeatures(normal(4, 2))))


def test_few_features_are_not_sketched():
    plain = split()
    after = sketch(6, generator=None)(plain)
    assert torch.equal(after.pool.dense(), plain.pool.dense())


def test_sketches_of_pool_and_labelled_points_go_together():
    """With the same points on both sides the sketches are the same."""
    x = DenseFeatures(normal(8, 300))
    after = sketch(128, generator=torch.Generator().manual_seed(0))(PoolAndTrain(x, x))
    assert after.pool.dense().shape == (8, 128)
    assert torch.equal(after.pool.dense(), after.known.dense())


def test_sketches_need_a_generator_and_a_number():
    with pytest.raises(ValueError, match="pass generator="):
        sketch(4, generator=None)(split())
    with pytest.raises(ValueError, match="must be positive, got 0"):
        sketch(0, generator=None)


def test_ensembles_add_kernels():
    one, two = split(), split(p=3)
    both = ensemble([one, two])
    assert isinstance(both.pool, SumFeatures)
    torch.testing.assert_close(both.pool.gram(both.known), one.pool.gram(one.known) + two.pool.gram(two.known))
    with pytest.raises(ValueError, match="same points"):
        ensemble([one, PoolAndTrain(DenseFeatures(normal(3, 2)))])


def test_acs_grad_is_the_product_of_prior_and_posterior():
    plain = scale(split())
    after = acs_grad(0.3)(split())
    exact = gram(plain.pool) * conditioned(plain.pool, plain.known, 0.3) / 0.3**4
    torch.testing.assert_close(gram(after.pool), exact, rtol=1e-7, atol=1e-7)


def test_acs_features_are_the_expected_gain_of_each_draw():
    """Against E log p(y | theta) + entropy by quadrature over the prediction, for draws of the posterior."""
    noise, plain = 0.5, scale(split(p=3))
    phi, known = plain.pool.dense()[:4], plain.known.dense()
    covariance = noise**2 * torch.linalg.inv(known.T @ known + noise**2 * torch.eye(3, dtype=torch.float64))
    draws = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    factor = torch.linalg.cholesky(known.T @ known + noise**2 * torch.eye(3, dtype=torch.float64))
    theta = noise * torch.linalg.solve_triangular(factor.T, draws, upper=True)
    v = (phi @ covariance * phi).sum(1)
    y = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    gains = torch.zeros(4, 5, dtype=torch.float64)
    for i in range(4):
        sd = math.sqrt(float(v[i]) + noise**2)
        predictive = torch.exp(-0.5 * (y / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
        entropy = 0.5 * math.log(2 * math.pi * math.e * sd**2)
        for j in range(5):
            loglik = -0.5 * math.log(2 * math.pi * noise**2) - (y - phi[i] @ theta[:, j]) ** 2 / (2 * noise**2)
            gains[i, j] = (predictive * loglik).sum() * (y[1] - y[0]) + entropy
    after = acs_rf(5, noise, generator=torch.Generator().manual_seed(3))(split(p=3))
    torch.testing.assert_close(after.pool.dense()[:4] * 5**0.5, gains, rtol=1e-8, atol=1e-8)


def test_acs_features_have_the_kernel_of_gains_in_the_mean():
    """Two halves of 20,000 draws give the same kernel within 5 standard errors of a Monte Carlo mean."""
    halves = []
    for seed in (0, 1):
        phi = acs_rf(20_000, 0.5, generator=torch.Generator().manual_seed(seed))(split(p=3)).pool.dense()
        terms = phi[:1] * phi * 20_000  # one product per draw, of point 0 with every point
        halves.append((terms.mean(1), terms.std(1) / 20_000**0.5))
    (a, sa), (b, sb) = halves
    assert bool(((a - b).abs() < 5 * (sa**2 + sb**2).sqrt()).all())


def test_acs_features_with_unknown_noise_match_scipy():
    """Entropy of the Student-t prediction plus the expected log-likelihood, by scipy's own distribution."""
    stats = pytest.importorskip("scipy.stats")
    plain = scale(split(p=3))
    y, known, phi = normal(9, seed=4), plain.known.dense(), plain.pool.dense()[:3]
    p = 4
    after = acs_rf_hyper(p, y, generator=torch.Generator().manual_seed(5))(split(p=3))
    generator = torch.Generator().manual_seed(5)
    draws = torch.randn(3, p, dtype=torch.float64, generator=generator)
    chi2 = torch.randn(11, p, dtype=torch.float64, generator=generator).square().sum(0)
    precision = known.T @ known + torch.eye(3, dtype=torch.float64)
    m = torch.linalg.solve(precision, known.T @ y)
    a, b = 1 + 9 / 2, float(1 + 0.5 * (y @ y - m @ precision @ m))
    variance = 2 * b / chi2
    theta = m[:, None] + variance.sqrt() * torch.linalg.solve_triangular(
        torch.linalg.cholesky(precision).T, draws, upper=True
    )
    for i in range(3):
        spread = float(phi[i] @ torch.linalg.solve(precision, phi[i]))
        prediction = stats.t(2 * a, loc=float(phi[i] @ m), scale=math.sqrt(b / a * (1 + spread)))
        for j in range(p):
            s2, f = float(variance[j]), float(phi[i] @ theta[:, j])
            expected = -0.5 * math.log(2 * math.pi * s2) - (prediction.var() + (prediction.mean() - f) ** 2) / (2 * s2)
            assert float(after.pool.dense()[i, j]) * p**0.5 == pytest.approx(expected + prediction.entropy(), rel=1e-6)


def test_the_number_of_labels_is_checked():
    with pytest.raises(ValueError, match="expected 9 labels, one per labelled point, got 3"):
        acs_rf_hyper(4, torch.zeros(3), generator=torch.Generator())(split())


def test_weights_multiply_the_features_of_the_pool():
    w, plain = normal(20).abs(), split()
    after = weighted(w)(plain)
    torch.testing.assert_close(gram(after.pool), w[:, None] * gram(plain.pool) * w)
    torch.testing.assert_close(after.pool.gram(after.known), w[:, None] * plain.pool.gram(plain.known))
    with pytest.raises(ValueError, match=r"shape \(20,\), got \(3,\)"):
        weighted(torch.ones(3))(plain)
    with pytest.raises(ValueError, match="finite and not negative"):
        weighted(torch.tensor([1.0, -1.0]))


NAMES = ["scale", "posterior", "posterior:0.1", "posterior-pool:0.1", "sketch:4", "acs-grad:0.1", "acs-rf:8,0.1"]


@pytest.mark.parametrize("name", NAMES)
def test_transforms_by_name(name):
    after = named_transform(name, torch.Generator().manual_seed(0))(split())
    assert after.pool.n == 20
    assert after.known.n == 9


@pytest.mark.parametrize(
    ("name", "match"),
    [("sketsh:4", "one of"), ("scale:1", "at most 0 numbers"), ("sketch:4,5", "at most 1"), ("sketch:x", "invalid")],
)
def test_names_that_do_not_fit(name, match):
    with pytest.raises(ValueError, match=match):
        named_transform(name, None)
