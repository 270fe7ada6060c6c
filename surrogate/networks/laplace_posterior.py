"""Laplace approximations: normal posteriors of trained parameters from the curvature, for any torch network."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from surrogate.networks.factors import Kronecker, kronecker_factors
from surrogate.networks.layers import Layer, Scales, curved_layers, matrix_gradient, record
from surrogate.networks.likelihoods import Categorical, Gaussian, Likelihood

__all__ = ["STRUCTURES", "FullBlock", "KroneckerBlock", "Laplace", "laplace"]

STRUCTURES = ("kronecker", "last-layer", "last-layer-kronecker")
_LARGEST_FULL = 2048  # most parameters of a block whose full matrix is diagonalised: 32 MB, some seconds
_BOUND = 30.0  # on the logarithms of precisions and noise
_BLOCK = 1024  # rows of which gradients are in memory at once


@dataclass(frozen=True, eq=False)
class KroneckerBlock:
    """Curvature of a matrix of parameters, summed over rows, n A (x) G, as an eigendecomposition.

    Attributes:
        columns: Inputs of the layer that the block covers, as indices in the order of `record`.
        input_vectors: Eigenvectors of A in columns, with shape (a, a).
        gradient_vectors: Eigenvectors of G, with shape (b, b).
        eigenvalues: n times the products of eigenvalues, with shape (b, a).
    """

    columns: slice
    input_vectors: Tensor
    gradient_vectors: Tensor
    eigenvalues: Tensor

    @classmethod
    def of(cls, factors: Kronecker, n: int, columns: slice) -> KroneckerBlock:
        """The block of Kronecker factors, with inputs restricted to some columns, in O(a^3 + b^3) time."""
        a, g = (_eigen(m) for m in (factors.inputs[columns, columns], factors.gradients))
        return cls(columns, a[1], g[1], n * g[0][:, None] * a[0])

    def covariance(self, inputs: Tensor, gradients: Sequence[Tensor], variances: Tensor) -> Tensor:
        """J V J^T for each row, with shape (n, c, c), where V is diagonal in the basis of eigenvectors.

        Args:
            inputs: Inputs of the layer, with shape (n, t, a).
            gradients: Gradients of each output with respect to the layer's outputs, each with shape (n, t, b).
            variances: Diagonal of V, with shape (b, a).
        """
        u = inputs[:, :, self.columns] @ self.input_vectors
        v = torch.stack([gradient @ self.gradient_vectors for gradient in gradients], 1)  # (n, c, t, b)
        if u.shape[1] == 1:  # with one use per row the covariance factorises: sum over inputs first
            weights = u[:, 0].square() @ variances.T
            return torch.einsum("nb,nkb,nlb->nkl", weights, v[:, :, 0], v[:, :, 0])
        jacobian = torch.einsum("nktb,nta->nkba", v, u) * variances.sqrt()
        return torch.einsum("nkba,nlba->nkl", jacobian, jacobian)


@dataclass(frozen=True, eq=False)
class FullBlock:
    """Exact curvature of a matrix of parameters, summed over rows, as an eigendecomposition.

    Attributes:
        vectors: Eigenvectors in columns, with shape (p, p), p = b a; parameters in row-major order of the (b, a)
            matrix.
        eigenvalues: With shape (p,).
    """

    vectors: Tensor
    eigenvalues: Tensor

    def covariance(self, inputs: Tensor, gradients: Sequence[Tensor], variances: Tensor) -> Tensor:
        """See `KroneckerBlock.covariance`; the variances have shape (p,)."""
        jacobian = torch.stack([_products(inputs, gradient) for gradient in gradients], 1)
        rotated = (jacobian @ self.vectors) * variances.sqrt()
        return rotated @ rotated.transpose(1, 2)


def _products(inputs: Tensor, gradient: Tensor) -> Tensor:
    """Gradients with respect to a layer's parameters, with shape (n, b a)."""
    return torch.einsum("ntb,nta->nba", gradient, inputs).flatten(1)


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp(min=0.0), vectors  # negative by rounding only


@dataclass(frozen=True, eq=False)
class Laplace:
    """A normal posterior of a network's parameters, with predictions of the linearised network.

    The precision is the sum over rows of the generalised Gauss-Newton matrix plus the prior's, delta I for each block.
    Predicted outputs have the mean f(x) and the covariance J(x) V J(x)^T ("GLM predictive"), where J is the Jacobian
    with respect to the parameters and V their posterior covariance.

    Attributes:
        model: A copy of the network in double precision and evaluation mode.
        classes: Whether outputs are logits of classes; otherwise they are means of normal targets.
        layers: Layer of each block.
        blocks: Curvature of each block for a noise variance of 1.
        scales: (c_w, c_b) of each block's layer, see `record`; the prior applies to W / c_w and b / c_b.
        n_targets: Number of observed values, n c, or of observed classes, n.
        misfit: Sum of squared errors of the trained network, or minus its log-likelihood for classes.
        squares: Squared norm of the parameters of each block.
        prior_precision: delta of each block.
        noise: Variance of the noise; 1 for classes.

    References:
        MacKay (1992), https://doi.org/10.1162/neco.1992.4.3.448; Ritter, Botev & Barber (2018),
        https://openreview.net/forum?id=Skdvd2xAZ; Immer, Korzepa & Bauer (2021), https://arxiv.org/abs/2008.08400;
        Daxberger et al. (2021), https://arxiv.org/abs/2106.14806
    """

    model: nn.Module
    classes: bool
    layers: tuple[Layer, ...]
    blocks: tuple[KroneckerBlock | FullBlock, ...]
    scales: tuple[Scales, ...]
    n_targets: int
    misfit: float
    squares: tuple[float, ...]
    prior_precision: tuple[float, ...]
    noise: float = 1.0

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the network's outputs, with shapes (n, c) and (n, c, c), in double precision.

        Noise is not included. Costs c backward passes and, per row, O(a^2 + c b^2 + a b) for each layer of a inputs and
        b outputs.
        """
        parts = [self._outputs(rows) for rows in x.double().split(_BLOCK)]
        return torch.cat([mean for mean, _ in parts]), torch.cat([covariance for _, covariance in parts])

    def _outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        distinct = list(dict.fromkeys(self.layers))
        scales = dict(zip(self.layers, self.scales, strict=True))
        passed = record(self.model, distinct, x, scales=[scales[layer] for layer in distinct])
        mean = passed.output.detach()
        unit = torch.eye(mean.shape[1], dtype=mean.dtype, device=mean.device)
        gradients = [passed.gradients(row.expand_as(mean)) for row in unit]
        covariance = mean.new_zeros(*mean.shape, mean.shape[1])
        for layer, block, precision in zip(self.layers, self.blocks, self.prior_precision, strict=True):
            k = distinct.index(layer)
            variances = 1.0 / (block.eigenvalues / self.noise + precision)
            covariance += block.covariance(passed.inputs[k], [each[k] for each in gradients], variances)
        return mean, covariance

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of normal targets, noise included, each with shape (n, c).

        Raises:
            ValueError: If the outputs are classes.
        """
        if self.classes:
            msg = "the outputs are logits of classes: use probabilities"
            raise ValueError(msg)
        mean, covariance = self.outputs(x)
        return mean, covariance.diagonal(dim1=1, dim2=2) + self.noise

    def probabilities(self, x: Tensor) -> Tensor:
        """Probabilities of the classes, with shape (n, c): softmax of f / sqrt(1 + pi / 8 times its variance).

        Raises:
            ValueError: If the outputs are not classes.

        References:
            MacKay (1992), https://doi.org/10.1162/neco.1992.4.5.720, applied with the variance of each output.
        """
        if not self.classes:
            msg = "the outputs are targets with normal errors, not logits of classes: use predict"
            raise ValueError(msg)
        mean, covariance = self.outputs(x)
        return (mean / (1.0 + math.pi / 8.0 * covariance.diagonal(dim1=1, dim2=2)).sqrt()).softmax(1)

    def log_marginal_likelihood(self) -> float:
        """Laplace's approximation of log p(targets), in natural logarithms."""
        return -_negative_evidence(self._logarithms(), self)[0]

    def _logarithms(self) -> np.ndarray:
        return np.log([*self.prior_precision, *([] if self.classes else [self.noise])])

    def with_hyperparameters(
        self, *, prior_precision: float | Sequence[float] | None = None, noise: float | None = None
    ) -> Laplace:
        """The posterior with a new prior precision, one for all blocks or one for each, or a new noise variance.

        Raises:
            ValueError: If a value is not positive, the number of precisions is wrong, or a noise is given for classes.
        """
        count = len(self.blocks)
        precisions = self.prior_precision if prior_precision is None else prior_precision
        precisions = (float(precisions),) * count if isinstance(precisions, int | float) else tuple(precisions)
        level = self.noise if noise is None else float(noise)
        if len(precisions) != count or not min(*precisions, level) > 0:
            msg = f"expected positive precisions, one or {count}, and a positive noise, got {precisions} and {level}"
            raise ValueError(msg)
        if self.classes and level != 1.0:
            msg = f"classes have no noise, got {level}"
            raise ValueError(msg)
        return replace(self, prior_precision=precisions, noise=level)

    def maximised(self, *, per_block: bool = False) -> Laplace:
        """The posterior with the prior precision and noise variance that maximise the marginal likelihood.

        Args:
            per_block: Whether to fit a separate precision for each block.
        """
        start = (
            self._logarithms()
            if per_block
            else np.append(np.log(self.prior_precision).mean(), self._logarithms()[len(self.blocks) :])
        )

        def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
            if per_block:
                return _negative_evidence(theta, self)
            count = len(self.blocks)
            value, slope = _negative_evidence(np.append(np.full(count, theta[0]), theta[1:]), self)
            return value, np.append(slope[:count].sum(), slope[count:])

        bounds = [(-_BOUND, _BOUND)] * len(start)
        theta = np.exp(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x)
        precisions, noise = (theta, []) if self.classes else (theta[:-1], theta[-1:])
        return self.with_hyperparameters(
            prior_precision=[float(v) for v in precisions] if per_block else float(precisions[0]),
            noise=float(noise[0]) if len(noise) else None,
        )


def _negative_evidence(theta: np.ndarray, posterior: Laplace) -> tuple[float, np.ndarray]:
    """Negative log marginal likelihood as a function of log precisions and log noise, and its gradient."""
    precisions = np.exp(theta[: len(posterior.blocks)])
    noise = 1.0 if posterior.classes else math.exp(theta[-1])
    count, misfit = posterior.n_targets, posterior.misfit
    value = misfit if posterior.classes else 0.5 * (count * math.log(2.0 * math.pi * noise) + misfit / noise)
    slope, informed = [], 0.0
    for block, precision, squares in zip(posterior.blocks, precisions, posterior.squares, strict=True):
        ratio = block.eigenvalues / (noise * precision)
        value += 0.5 * (precision * squares + float(torch.log1p(ratio).sum()))
        share = float((ratio / (1.0 + ratio)).sum())
        slope.append(0.5 * (precision * squares - share))
        informed += share
    if not posterior.classes:
        slope.append(0.5 * (count - misfit / noise - informed))
    return float(value), np.array(slope)


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of parameters: its layer, the layer's scales, the curvature, and the squared norm of the parameters."""

    layer: Layer
    scale: Scales
    curvature: KroneckerBlock | FullBlock
    square: float


def laplace(
    model: nn.Module,
    loader: Iterable[Sequence[Tensor]],
    *,
    likelihood: str = "regression",
    structure: str = "kronecker",
    prior_precision: float | Sequence[float] | None = None,
    noise: float | None = None,
    joint_bias: bool = True,
    scales: Sequence[Scales] | None = None,
) -> Laplace:
    """The Laplace approximation of a trained torch network of linear and convolutional layers.

    The network must be trained to, or near, the maximum of the posterior density. The prior is normal with mean 0 and
    precision delta for all parameters. If delta or the noise variance is not given, it is set by maximising the
    marginal likelihood. The network is copied, not changed.

    Args:
        model: Trained network. Only linear and convolutional layers, each used once in a pass, may have trainable
            parameters; parameters frozen by ``requires_grad_(False)`` are treated as known.
        loader: Batches (x, y), such as a ``DataLoader``, read once. y is either normal targets with the shape of the
            outputs, or integer classes with shape (n,).
        likelihood: "regression" or "classification".
        structure: "kronecker": a Kronecker product for each layer. "last-layer": exact curvature of the last layer
            only. "last-layer-kronecker": a Kronecker product for the last layer only, cheaper for many classes.
        prior_precision: delta, one for all blocks or one for each; None to fit one.
        noise: Variance of the targets around the network; None to fit it.
        joint_bias: Whether a layer's bias is a column of its weights ("homogeneous coordinates"), rather than a
            separate block as in laplace-torch.
        scales: (c_w, c_b) of each layer: the prior applies to W / c_w and b / c_b, as in the tangent parametrisation.

    Raises:
        ValueError: If a setting, a layer or a shape cannot be used, or the loader is empty.

    >>> x = torch.linspace(-1, 1, 20)[:, None]
    >>> net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> mean, variance = laplace(net, [(x, x**2)]).predict(x)
    """
    _check(likelihood, structure)
    twin = copy.deepcopy(model).double().eval()
    pairs = _scaled_layers(twin, scales)
    batches = _read(loader)
    classes = likelihood == "classification"
    misfit, n_targets = _misfit(twin, batches, classes=classes)
    inputs = [x for x, _ in batches]
    chosen: Likelihood = Categorical() if classes else Gaussian()
    if structure == "last-layer" and classes:
        found = [_full_block(twin, *pairs[-1], inputs, chosen)]
    else:  # with one output the factors of the last layer are exact
        pairs = pairs if structure == "kronecker" else pairs[-1:]
        found = _kronecker_blocks(twin, pairs, inputs, chosen, joint_bias=joint_bias)
    posterior = Laplace(
        twin,
        classes,
        tuple(block.layer for block in found),
        tuple(block.curvature for block in found),
        tuple(block.scale for block in found),
        n_targets,
        misfit,
        tuple(block.square for block in found),
        (1.0,) * len(found),
        1.0 if classes else max(misfit / n_targets, 1e-12),
    )
    given = prior_precision is not None and (noise is not None or classes)
    best = posterior if given else posterior.maximised()
    return best.with_hyperparameters(prior_precision=prior_precision, noise=noise)


def _scaled_layers(model: nn.Module, scales: Sequence[Scales] | None) -> list[tuple[Layer, Scales]]:
    """The layers, each with its (c_w, c_b)."""
    layers = curved_layers(model)
    constants = [(1.0, 1.0)] * len(layers) if scales is None else list(scales)
    if len(constants) != len(layers):
        msg = f"expected one pair of scales for each of the {len(layers)} layers, got {len(constants)}"
        raise ValueError(msg)
    return list(zip(layers, constants, strict=True))


def _check(likelihood: str, structure: str) -> None:
    if likelihood not in {"regression", "classification"}:
        msg = f"likelihood must be 'regression' or 'classification', got {likelihood!r}"
        raise ValueError(msg)
    if structure not in STRUCTURES:
        msg = f"structure must be one of {', '.join(STRUCTURES)}, got {structure!r}"
        raise ValueError(msg)


def _read(loader: Iterable[Sequence[Tensor]]) -> list[tuple[Tensor, Tensor]]:
    batches = [(x.double(), y) for x, y in loader]
    if not batches:
        msg = "the loader must yield at least one batch (x, y), got none"
        raise ValueError(msg)
    return batches


@torch.no_grad()
def _misfit(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], *, classes: bool) -> tuple[float, int]:
    """Sum of squared errors and number of targets; for classes, negative log-likelihood and number of rows."""
    total, count = 0.0, 0
    for rows, targets in batches:
        f = model(rows)
        if not classes and targets.numel() != f.numel():
            msg = f"targets must have the shape of the outputs, {tuple(f.shape)}, got {tuple(targets.shape)}"
            raise ValueError(msg)
        if classes:
            total += float(Categorical().negative_log_density(f, targets).sum())
        else:
            total += float((f - targets.double().reshape(f.shape)).square().sum())
        count += len(rows) if classes else f.numel()
    if not math.isfinite(total):
        msg = "outputs or targets are not finite"
        raise ValueError(msg)
    return total, count


def _kronecker_blocks(
    model: nn.Module,
    pairs: Sequence[tuple[Layer, Scales]],
    x: Sequence[Tensor],
    likelihood: Likelihood,
    *,
    joint_bias: bool,
) -> list[_Block]:
    layers, scales = [layer for layer, _ in pairs], [scale for _, scale in pairs]
    factors, n = kronecker_factors(model, x, likelihood, layers=layers, scales=scales)
    found: list[_Block] = []
    for (layer, scale), factor in zip(pairs, factors, strict=True):
        split = layer.bias is not None and not joint_bias
        for columns in (slice(0, -1), slice(-1, None)) if split else (slice(None),):
            block = KroneckerBlock.of(factor, n, columns)
            found.append(_Block(layer, scale, block, _squares(layer, columns, scale)))
    return found


def _full_block(model: nn.Module, layer: Layer, scale: Scales, x: Sequence[Tensor], likelihood: Likelihood) -> _Block:
    size = sum(p.numel() for p in layer.parameters)
    if size > _LARGEST_FULL:
        msg = (
            f"structure 'last-layer' is for up to {_LARGEST_FULL} parameters of the last layer, got {size}: "
            "use 'last-layer-kronecker'"
        )
        raise ValueError(msg)
    total = torch.zeros(size, size, dtype=torch.float64, device=x[0].device)
    for rows in x:
        passed = record(model, [layer], rows, scales=[scale])
        for root in likelihood.roots(passed.output.detach()):
            half = _products(passed.inputs[0], passed.gradients(root)[0])
            total += half.T @ half
    values, vectors = _eigen(total)
    return _Block(layer, scale, FullBlock(vectors, values), _squares(layer, slice(None), scale))


def _squares(layer: Layer, columns: slice, scale: Scales) -> float:
    weight, bias = layer.weight.detach() / scale[0], layer.bias
    values = [weight] if bias is None else [weight, bias.detach() / scale[1]]
    return float(matrix_gradient(layer, values)[:, columns].square().sum())
