"""Transforms of kernels before selection: scale, posterior, sketch, ensembles, ACS features and weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from surrogate.networks.factors import Kronecker
from surrogate.selection.composed import PosteriorFeatures, ProductFeatures, SumFeatures, WeightedFeatures
from surrogate.selection.features import DenseFeatures, Features
from surrogate.selection.gradients import FactoredFeatures

__all__ = [
    "PoolAndTrain",
    "Transform",
    "acs_grad",
    "acs_rf",
    "acs_rf_hyper",
    "ensemble",
    "kfac_posterior",
    "named_transform",
    "posterior",
    "scale",
    "sketch",
    "weighted",
]


@dataclass(frozen=True, eq=False)
class PoolAndTrain:
    """The pool and the labelled points, under one feature map.

    Attributes:
        pool: Points without a label.
        train: Points with a label; None if there are none.
    """

    pool: Features
    train: Features | None = None

    def each(self, function: Callable[[Features], Features]) -> PoolAndTrain:
        """The result of applying a function to both the pool and the labelled points."""
        return PoolAndTrain(function(self.pool), None if self.train is None else function(self.train))

    @property
    def known(self) -> Features:
        """The labelled points.

        Raises:
            ValueError: If there are none.
        """
        if self.train is None:
            msg = "this transform needs the features of the labelled points: pass train="
            raise ValueError(msg)
        return self.train


Transform = Callable[[PoolAndTrain], PoolAndTrain]


def scale(split: PoolAndTrain) -> PoolAndTrain:
    """The kernel divided by its mean diagonal over the labelled points, or over the pool if there are none."""
    reference = split.pool if split.train is None else split.train
    mean = reference.diag().double().mean()
    if not (torch.isfinite(mean) and mean > 0):
        msg = f"the mean of k(x, x) must be positive and finite to scale by it, got {float(mean)}"
        raise ValueError(msg)
    return split.each(lambda features: _times(features, mean.rsqrt()))


def _times(features: Features, factor: Tensor) -> Features:
    if isinstance(features, DenseFeatures):
        return DenseFeatures(features.matrix * factor.to(features.matrix))
    return WeightedFeatures(features, factor.to(features.rows))


def posterior(noise: float = 1e-3, *, given: str = "train", scaled: bool = True) -> Transform:
    """A transform to the posterior kernel given labels with noise of this sd.

    k(x, x') - k(x, X) (k(X, X) + noise^2)^-1 k(X, x'), in float64. Up to max(1024, 3 n_train) explicit features stay
    explicit, phi <- noise L^-1 phi with L L^T = Phi^T Phi + noise^2, at O(n p^2). Otherwise the kernel is conditioned,
    at O(n n_train^2).

    Args:
        noise: Sd of the noise, in units of the square root of the (scaled) prior variance.
        given: Points to condition on: "train" for the labelled ones, "pool" for the others.
        scaled: Whether to `scale` the kernel first, as everywhere in the paper.

    Raises:
        ValueError: If ``noise`` is not positive or ``given`` is neither of the two.

    References:
        Holzmueller et al. (2023), https://www.jmlr.org/papers/v24/22-0937.html, sec. 3.2.
    """
    if not noise > 0 or given not in {"train", "pool"}:
        msg = f"expected noise > 0 and given 'train' or 'pool', got {noise} and {given!r}"
        raise ValueError(msg)

    def transform(split: PoolAndTrain) -> PoolAndTrain:
        """See ``posterior``; double precision, O(n f^2) time for f features, else O(n m^2) for m known points."""
        split = (scale(split) if scaled else split).each(lambda features: features.to(torch.float64))
        known = split.known if given == "train" else split.pool
        if known.dim is not None and known.dim <= max(1024, 3 * known.n):
            whiten = _feature_posterior(known, noise)
            return split.each(whiten)
        return split.each(_kernel_posterior(known.stored(), noise))

    return transform


def _feature_posterior(known: Features, noise: float) -> Callable[[Features], Features]:
    phi = known.dense()
    factor = _cholesky(phi.T @ phi, noise**2)

    def transform(features: Features) -> DenseFeatures:
        solved = torch.linalg.solve_triangular(factor.T, features.dense(), upper=True, left=False)
        return DenseFeatures(solved.mul_(noise))

    return transform


def _kernel_posterior(known: Features, noise: float) -> Callable[[Features], Features]:
    factor = _cholesky(known.gram(known), noise**2)

    def transform(features: Features) -> PosteriorFeatures:
        features = features.stored()
        half = torch.linalg.solve_triangular(factor.T, features.gram(known), upper=True, left=False)
        return PosteriorFeatures(features, half)

    return transform


def _cholesky(matrix: Tensor, ridge: float) -> Tensor:
    """Lower Cholesky factor of matrix + ridge I.

    Raises:
        ValueError: If the sum is not positive definite in this precision.
    """
    matrix.diagonal().add_(ridge)
    factor, info = torch.linalg.cholesky_ex(matrix)
    if int(info):
        msg = f"the kernel plus a noise variance of {ridge:.3g} is singular in float64: scale it or use more noise"
        raise ValueError(msg)
    return factor


def kfac_posterior(noise: float = 1e-3) -> Transform:
    """A transform to an approximate posterior kernel given the labels, by Kronecker factors (K-FAC).

    As `posterior`, with the matrix of each layer's gradients u (x) v at n labelled points replaced by n A (x) G, and
    noise^2 added to it by factored damping (see ``Kronecker``). The features remain outer products, of noise / sqrt(n)
    L_A^-1 u and L_G^-1 v, so they can be sketched afterwards and explicit features are never formed. O((n + m) (a^2 +
    b^2)) time for m points and layers of a inputs and b outputs.

    Args:
        noise: Sd of the noise, in units of the square root of the (scaled) prior variance.

    Raises:
        ValueError: If ``noise`` is not positive; when applied, if features are not gradients of a network.

    References:
        Martens & Grosse (2015), https://arxiv.org/abs/1503.05671; Ritter, Botev & Barber (2018),
        https://openreview.net/forum?id=Skdvd2xAZ.
    """
    if not noise > 0:
        msg = f"noise must be positive, got {noise}"
        raise ValueError(msg)

    def transform(split: PoolAndTrain) -> PoolAndTrain:
        """See ``kfac_posterior``; returns factored features in their original precision."""
        known, pool = _factor(split.known), _factor(split.pool)
        unit = float(known.diag().double().mean()) ** 0.5
        whiten = [_whitener(u, v, noise * unit) for u, v in known.factors]

        def apply(features: FactoredFeatures) -> FactoredFeatures:
            pairs = zip(whiten, features.factors, strict=True)
            return FactoredFeatures(tuple(white(u, v) for white, (u, v) in pairs))

        return PoolAndTrain(apply(pool), apply(known))

    return transform


def _factor(features: Features) -> FactoredFeatures:
    stored = features.stored()
    if not isinstance(stored, FactoredFeatures):
        msg = f"the posterior by Kronecker factors needs gradients of a network, got {type(features).__name__}"
        raise ValueError(msg)
    return stored


def _whitener(u: Tensor, v: Tensor, noise: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Whitening maps from the factors of one layer; ``noise`` is in the units of the gradients."""
    n, left, right = len(u), u.double(), v.double()
    damped = Kronecker(left.T @ left / n, right.T @ right / n).damped(noise**2 / n)

    def white(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        inputs, gradients = damped.whitened(a, b)
        return noise / n**0.5 * inputs, gradients

    return white


def sketch(p: int = 512, *, generator: torch.Generator | None) -> Transform:
    """A transform to p random features whose inner products equal the kernel in expectation.

    Features with at most p dimensions are unchanged. A sum of kernels gives a sum of independent sketches, a product
    gives their product times sqrt(p). The relative error of an inner product is of order 1 / sqrt(p); for a gradient
    kernel it is 12 % at p = 512, which is enough for selection but not for uncertainties.

    Raises:
        ValueError: If p is not positive; when applied, if the kernel has no explicit features, or has more than p and
            there is no generator.

    References:
        Holzmueller et al. (2023), https://www.jmlr.org/papers/v24/22-0937.html, sec. 3.2.4.
    """
    if p < 1:
        msg = f"the number of random features must be positive, got {p}"
        raise ValueError(msg)

    def transform(split: PoolAndTrain) -> PoolAndTrain:
        """See ``sketch``; features of at most p dimensions are returned unchanged."""
        dim = split.pool.dim
        if dim is not None and dim <= p:
            return split.each(lambda features: DenseFeatures(features.dense()))
        project = split.pool.projector(p, _needed(generator, f"sketch:{p}"))
        return split.each(lambda features: DenseFeatures(project(features)))

    return transform


def ensemble(splits: Sequence[PoolAndTrain]) -> PoolAndTrain:
    """The sum of the kernels of several models at the same points.

    The parts may already be transformed; a later sketch of the sum is a sum of sketches.

    Raises:
        ValueError: If there are none, or their numbers of points differ.
    """
    sizes = {(split.pool.n, 0 if split.train is None else split.train.n) for split in splits}
    if len(sizes) != 1:
        msg = f"expected features of the same points, got (pool, train) of sizes {sorted(sizes)}"
        raise ValueError(msg)
    train = None if splits[0].train is None else SumFeatures(tuple(split.known for split in splits))
    return PoolAndTrain(SumFeatures(tuple(split.pool for split in splits)), train)


def acs_grad(noise: float = 1e-3) -> Transform:
    """A transform to k(x, x') k_posterior(x, x') / noise^4, the gradient kernel of the gain in log-likelihood.

    It has the square of the number of features: sketch it before a method that needs features.

    References:
        Holzmueller et al. (2023), https://www.jmlr.org/papers/v24/22-0937.html, sec. 3.2.5; active sets as in
        Pinsler et al. (2019), arXiv:1908.02144.
    """
    conditioned = posterior(noise, scaled=False)

    def transform(split: PoolAndTrain) -> PoolAndTrain:
        """See ``acs_grad``; the product of two kernels, in double precision."""
        split = scale(split).each(lambda features: features.to(torch.float64).stored())
        after = conditioned(split)
        factor = torch.tensor(noise**-2, dtype=torch.float64, device=split.pool.device)
        pool = WeightedFeatures(ProductFeatures(split.pool, after.pool), factor)
        return PoolAndTrain(pool, WeightedFeatures(ProductFeatures(split.known, after.known), factor))

    return transform


def acs_rf(p: int = 512, noise: float = 1e-3, *, generator: torch.Generator) -> Transform:
    """A transform to random features of the expected gain in log-likelihood from a label, for known noise.

    Let v be the posterior variance at the point, and theta a centred draw from the posterior of the weights. The
    expected log-likelihood of a label given theta, plus the entropy of its prediction, is then

        log(1 + v / noise^2) / 2 - ((theta.phi)^2 + v) / (2 noise^2).

    Each of p draws gives one feature, divided by sqrt(p). Here theta and v have the posterior covariance noise^2
    (Phi^T Phi + noise^2)^-1, as the derivation requires.

    References:
        Pinsler et al. (2019), arXiv:1908.02144; Holzmueller et al. (2023), sec. 3.2.5.
    """

    def transform(split: PoolAndTrain) -> PoolAndTrain:
        """Features with shape (n, p); O(n f (f + p)) time for f input features."""
        split = scale(split).each(lambda features: features.to(torch.float64))
        phi = split.known.dense()
        factor = _cholesky(phi.T @ phi, noise**2)
        draws = _normal(phi.shape[1], p, phi, generator)

        def gain(features: Features) -> DenseFeatures:
            # In units of the noise, whose variance then cancels.
            white = torch.linalg.solve_triangular(factor.T, features.dense(), upper=True, left=False)
            v = white.square().sum(1, keepdim=True)
            value = 0.5 * torch.log1p(v) - 0.5 * ((white @ draws).square() + v)
            return DenseFeatures(value / p**0.5)

        return split.each(gain)

    return transform


def acs_rf_hyper(p: int, y: Tensor, *, generator: torch.Generator) -> Transform:
    """A transform to random features of the expected gain in log-likelihood from a label, for unknown noise.

    The model is conjugate: theta ~ N(0, s^2) for each (scaled) feature, and s^2 ~ inverse gamma(1, 1). Given the labels

    - theta ~ N(m, s^2 V) with V = (Phi^T Phi + 1)^-1 and m = V Phi^T y;
    - s^2 ~ inverse gamma(a, b) with a = 1 + n / 2 and b = 1 + (y.y - m.V^-1 m) / 2;
    - a label at phi is Student-t with 2 a degrees of freedom, centre m.phi and squared scale b (1 + v) / a, where v =
      phi.V phi.

    Each draw (theta, s^2) gives one feature, the entropy plus the expected log-likelihood:

        log(b (1 + v) / a) / 2 + c_a - log(2 pi s^2) / 2 - (b (1 + v) / (a - 1) + ((theta - m).phi)^2) / (2 s^2),

    with c_a the entropy of the standard t distribution. This is our own derivation from the model.

    Args:
        p: Number of draws.
        y: Labels of the labelled points, standardised, with shape (n_train,).
        generator: For the draws.

    Raises:
        ValueError: When applied, if the number of labels is not that of the labelled points.

    References:
        Pinsler et al. (2019), arXiv:1908.02144; Holzmueller et al. (2023), sec. 3.2.5.
    """

    def transform(split: PoolAndTrain) -> PoolAndTrain:
        """Features with shape (n, p); O(n f (f + p)) time for f input features."""
        split = scale(split).each(lambda features: features.to(torch.float64))
        phi = split.known.dense()
        target = y.to(phi).flatten()
        if len(target) != len(phi):
            msg = f"expected {len(phi)} labels, one per labelled point, got {len(target)}"
            raise ValueError(msg)
        factor = _cholesky(phi.T @ phi, 1.0)
        half = torch.linalg.solve_triangular(factor, (phi.T @ target)[:, None], upper=False)
        a = 1.0 + 0.5 * len(target)
        b = float(1.0 + 0.5 * (target.square().sum() - half.square().sum()))
        draws = _normal(phi.shape[1], p, phi, generator)
        # 2 b / s^2 is chi-squared with 2 a degrees of freedom.
        variance = 2.0 * b / _normal(len(target) + 2, p, phi, generator).square().sum(0)

        def gain(features: Features) -> DenseFeatures:
            white = torch.linalg.solve_triangular(factor.T, features.dense(), upper=True, left=False)
            v = white.square().sum(1, keepdim=True)
            entropy = 0.5 * torch.log(b / a * (1.0 + v)) + _student_entropy(2.0 * a)
            misfit = b / (a - 1.0) * (1.0 + v) / variance + (white @ draws).square()
            return DenseFeatures((entropy - 0.5 * torch.log(2.0 * math.pi * variance) - 0.5 * misfit) / p**0.5)

        return split.each(gain)

    return transform


def _student_entropy(dof: float) -> float:
    """Entropy of the standard Student-t distribution."""
    half = torch.tensor([0.5 * (dof + 1.0), 0.5 * dof, 0.5], dtype=torch.float64)
    digamma, lgamma = torch.special.digamma(half), torch.lgamma(half)
    log_beta = lgamma[1] + lgamma[2] - lgamma[0]
    return float(half[0] * (digamma[0] - digamma[1]) + 0.5 * math.log(dof) + log_beta)


def _normal(rows: int, p: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, p, dtype=like.dtype, device=generator.device, generator=generator).to(like.device)


def weighted(weights: Tensor) -> Transform:
    """A transform that multiplies the pool's features by weights >= 0; labelled points keep weight 1.

    Raises:
        ValueError: If weights are negative or not finite, or, when applied, if their number is not that of the points.
    """
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()):
        msg = "weights must be finite and not negative"
        raise ValueError(msg)

    def transform(split: PoolAndTrain) -> PoolAndTrain:
        """The kernel with rows and columns multiplied by the weights."""
        if weights.shape != (split.pool.n,):
            msg = f"weights must have shape ({split.pool.n},), got {tuple(weights.shape)}"
            raise ValueError(msg)
        train = split.train
        if train is not None:
            train = WeightedFeatures(train, torch.ones((), dtype=train.dtype, device=train.device))
        return PoolAndTrain(WeightedFeatures(split.pool, weights.to(split.pool.rows)), train)

    return transform


def named_transform(spec: str, generator: torch.Generator | None) -> Transform:
    """The transform given by a name with arguments, such as "sketch:512" or "acs-rf:512,0.001".

    Args:
        spec: One of "scale", "posterior", "posterior-pool", "posterior-kfac", "sketch", "acs-grad" and "acs-rf",
            optionally followed by a colon and the function's numerical arguments, separated by commas.
        generator: Generator for transforms with random numbers.

    Raises:
        ValueError: If the name is unknown, the arguments are wrong, or the transform is random and there is no
            generator.
    """
    name, _, rest = spec.partition(":")
    makers: dict[str, tuple[Callable[..., Transform], list[type]]] = {
        "scale": (lambda: scale, []),
        "posterior": (posterior, [float]),
        "posterior-pool": (lambda *noise: posterior(*noise, given="pool"), [float]),
        "posterior-kfac": (kfac_posterior, [float]),
        "sketch": (lambda *p: sketch(*p, generator=generator), [int]),
        "acs-grad": (acs_grad, [float]),
        "acs-rf": (lambda *args: acs_rf(*args, generator=_needed(generator, spec)), [int, float]),
    }
    if name not in makers:
        msg = f"a transform is one of {sorted(makers)} with numbers after a colon, or a function; got {spec!r}"
        raise ValueError(msg)
    make, kinds = makers[name]
    words = rest.split(",") if rest else []
    if len(words) > len(kinds):
        msg = f"{name!r} takes at most {len(kinds)} numbers, got {spec!r}"
        raise ValueError(msg)
    return make(*(kind(word) for kind, word in zip(kinds, words, strict=False)))


def _needed(generator: torch.Generator | None, spec: str) -> torch.Generator:
    if generator is None:
        msg = f"{spec!r} draws random numbers: pass generator=torch.Generator().manual_seed(...)"
        raise ValueError(msg)
    return generator
