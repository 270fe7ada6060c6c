"""Kronecker factors of a network's curvature, shared by the optimiser, posteriors and selection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from surrogate.networks.layers import Layer, Pass, Scales, curved_layers, record
from surrogate.networks.likelihoods import Likelihood

__all__ = ["Damped", "Kronecker", "kronecker_factors", "pass_factors"]


@dataclass(frozen=True, eq=False)
class Kronecker:
    """Curvature of one layer's parameters, averaged over rows, as a Kronecker product A (x) G.

    Exact for a single linear layer with a Gaussian likelihood. Otherwise it assumes that inputs and gradients are
    independent, and so are several uses of the same weights within a row, as in a convolution ("expand").

    Attributes:
        inputs: A, the mean of a a^T over rows and uses, with shape (a, a); a bias counts as a last input of 1.
        gradients: G, the mean over rows of the sum over uses of g g^T, with shape (b, b).

    References:
        Martens & Grosse (2015), https://arxiv.org/abs/1503.05671; Grosse & Martens (2016),
        https://arxiv.org/abs/1602.01407; Eschenhagen et al. (2023), https://arxiv.org/abs/2311.00636
    """

    inputs: Tensor
    gradients: Tensor

    def mixed(self, other: Kronecker, share: float) -> Kronecker:
        """The weighted average with other factors, in which these have the weight ``share``."""
        return Kronecker(
            torch.lerp(other.inputs, self.inputs, share), torch.lerp(other.gradients, self.gradients, share)
        )

    def damped(self, damping: float) -> Damped:
        """Cholesky factors of A + pi sqrt(damping) I and G + sqrt(damping) / pi I, in double precision.

        The Kronecker product of the damped matrices is A (x) G + damping I plus cross terms. pi is the square root of
        the ratio of the mean eigenvalues of A and G, which keeps the cross terms small (Martens & Grosse 2015, section
        6.3).
        """
        a, g = self.inputs.double(), self.gradients.double()
        means = a.diagonal().mean(), g.diagonal().mean()
        balanced = bool(min(means) > 0)
        pi = float((means[0] / means[1]).sqrt()) if balanced else 1.0
        return Damped(_cholesky(a, pi * damping**0.5), _cholesky(g, damping**0.5 / pi))


@dataclass(frozen=True, eq=False)
class Damped:
    """Cholesky factors of damped Kronecker factors.

    Attributes:
        inputs: Lower Cholesky factor of the damped A, with shape (a, a), double precision.
        gradients: Lower Cholesky factor of the damped G, with shape (b, b).
    """

    inputs: Tensor
    gradients: Tensor

    def solve(self, matrix: Tensor) -> Tensor:
        """G^-1 M A^-1 for a matrix of parameters with shape (b, a), in its own precision."""
        left = torch.cholesky_solve(matrix.double(), self.gradients)
        return torch.cholesky_solve(left.T, self.inputs).T.to(matrix)

    def whitened(self, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Rows L_A^-1 u and L_G^-1 v for rows u and v, with shapes (n, a) and (n, b), in their own precision.

        Inner products of such pairs are u^T A^-1 u' times v^T G^-1 v'.
        """
        left = torch.linalg.solve_triangular(self.inputs, inputs.double().T, upper=False).T
        right = torch.linalg.solve_triangular(self.gradients, gradients.double().T, upper=False).T
        return left.to(inputs), right.to(gradients)


def _cholesky(matrix: Tensor, damping: float) -> Tensor:
    damped = matrix.clone()
    damped.diagonal().add_(damping)
    factor, info = torch.linalg.cholesky_ex(damped)
    if int(info) or not bool(factor.isfinite().all()):
        msg = f"a Kronecker factor with damping {damping:.2g} is not positive definite: use a larger damping"
        raise ValueError(msg)
    return factor


def pass_factors(
    passed: Pass, likelihood: Likelihood, *, sampled: bool = False, generator: torch.Generator | None = None
) -> list[Kronecker]:
    """Kronecker factors of each layer from one evaluation of the network.

    Args:
        passed: The evaluation, n rows.
        likelihood: Likelihood of the outputs.
        sampled: Whether to use gradients at one target per row, drawn from the model: one backward pass, and the Fisher
            matrix in expectation. Otherwise the factors are exact, at the cost of one backward pass for each of the c
            outputs.
        generator: Generator for drawing targets.
    """
    f = passed.output.detach()
    directions = [likelihood.sampled_gradients(f, generator)] if sampled else likelihood.roots(f)
    totals: list[Tensor] = []
    for left, direction in zip(range(len(directions) - 1, -1, -1), directions, strict=True):
        grams = [_gram(value) for value in passed.gradients(direction, keep=left > 0)]
        totals = [total + gram for total, gram in zip(totals, grams, strict=True)] if totals else grams
    n = len(f)
    return [
        Kronecker(_gram(value) / (value.shape[0] * value.shape[1]), total / n)
        for value, total in zip(passed.inputs, totals, strict=True)
    ]


def _gram(value: Tensor) -> Tensor:
    rows = value.detach().flatten(0, 1)
    return rows.T @ rows


def kronecker_factors(
    model: nn.Module,
    batches: Iterable[Tensor],
    likelihood: Likelihood,
    *,
    layers: Sequence[Layer] | None = None,
    scales: Sequence[Scales] | None = None,
) -> tuple[list[Kronecker], int]:
    """Exact Kronecker factors of each layer over batches of inputs, and the number n of rows.

    The sum over rows of the Hessian of -log p with respect to a layer's parameters (the generalised Gauss-Newton
    matrix, equal to the Fisher matrix) is approximately n A (x) G. Costs c backward passes for c outputs, and O(n (a^2
    + b^2)) for each layer.

    Args:
        model: A network of linear and convolutional layers, in evaluation mode.
        batches: Inputs, each with shape (m, ...).
        likelihood: Likelihood of the outputs.
        layers: Layers to treat; by default `curved_layers`.
        scales: Factors (c_w, c_b) of each layer, see `record`.

    Raises:
        ValueError: If there is no batch, or a layer cannot be treated.
    """
    chosen = curved_layers(model) if layers is None else layers
    mean: list[Kronecker] = []
    n = 0
    for x in batches:
        new = pass_factors(record(model, chosen, x, scales=scales), likelihood)
        share = len(x) / (n + len(x))
        mean = [b.mixed(a, share) for a, b in zip(mean, new, strict=True)] if mean else new
        n += len(x)
    if not n:
        msg = "factors need at least one batch of inputs, got none"
        raise ValueError(msg)
    return mean, n
