"""Computation-aware Gaussian processes: given projections of the data, with the projection's error in the variance.

With actions S, with shape (n, k), the process is conditioned only on S^T y:

    mean k(x, X) C y,    variance k(x, x) - k(x, X) C k(X, x),    C = S (S^T (K + eta R) S)^-1 S^T.

The variance is that given all data plus the uncertainty due to the projection: the *combined* uncertainty, which
decreases with every action and is never below the exact one. Pivots as actions give a partial Cholesky factor (a subset
of the data), residuals give conjugate gradients, columns k(X, Z) inducing points, and blocks average over neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from surrogate.gp.scales import Observations, ScaledProcess
from surrogate.linalg.lowrank import accelerated_cholesky, pivoted_cholesky
from surrogate.linalg.operators import KernelOperator, Operator

__all__ = [
    "POLICIES",
    "ComputationAware",
    "actions_of",
    "computation_aware",
    "evidence_bound",
    "residual_actions",
    "train_blocks",
]

POLICIES = ("pivots", "greedy", "blocks", "inducing", "residuals")
_TILE = 4_000_000


@dataclass(frozen=True, eq=False)
class ComputationAware:
    """A process conditioned on projections of the data.

    Attributes:
        process: Kernel and hyperparameters.
        x: Points, with shape (n, d).
        directions: D = S L^-T, with shape (n, k), orthonormal in the inner product of K + eta R, so that D D^T takes
            the place of (K + eta R)^-1.
        projected: D^T (y - constant), with shape (k,).
        constant: Constant of the mean.
        residual: Relative residual of the full system, that is, the part of y not explained by the projections.
        status: How it was computed.

    References:
        Wenger, Pleiss, Pfortner, Hennig & Cunningham (2022), arXiv:2205.15449; Wenger, Wu, Hennig, Gardner, Pleiss &
        Cunningham (2024), arXiv:2411.01036
    """

    process: ScaledProcess
    x: Tensor
    directions: Tensor
    projected: Tensor
    constant: float
    residual: float = float("nan")
    status: str = ""

    def first(self, k: int) -> ComputationAware:
        """The posterior with only the first k actions, without its residual.

        Raises:
            ValueError: If there are fewer than k.
        """
        if not 0 <= k <= len(self.projected):
            msg = f"k must be in 0..{len(self.projected)}, got {k}"
            raise ValueError(msg)
        return replace(
            self, directions=self.directions[:, :k], projected=self.projected[:k], residual=math.nan, status=""
        )

    def _half(self, new: Tensor) -> Tensor:
        """D^T k(X, x), with shape (k, b)."""
        return self.process.operator(self.x).cross(new).matmul(self.directions).T

    def mean(self, new: Tensor) -> Tensor:
        """Posterior mean at new points, with shape (b,): O(b n (d + k)), or O(b n d) if only the mean is needed."""
        weights = self.directions @ self.projected
        return self.constant + self.process.operator(self.x).cross(new).matmul(weights)

    def variance(self, new: Tensor) -> Tensor:
        """Combined variance of the function without noise, with shape (b,): O(b n (d + k))."""
        prior = self.process.kernel.diagonal(new)
        return self.process.variance * (prior - self._half(new).square().sum(0)).clamp(min=0.0)

    def covariance(self, new: Tensor) -> Tensor:
        """Combined covariance of the function without noise, with shape (b, b): O(b n (d + k) + b^2 k)."""
        half = self._half(new)
        return self.process.variance * (self.process.operator(new).dense() - half.T @ half)

    def variances(self, new: Tensor) -> Tensor:
        """Combined variances after 0, 1, ..., k actions, with shape (k + 1, b)."""
        squares = self._half(new).square()
        sums = torch.cat([torch.zeros_like(squares[:1]), squares.cumsum(0)])
        return self.process.variance * (self.process.kernel.diagonal(new) - sums).clamp(min=0.0)


def actions_of(
    policy: str, process: ScaledProcess, data: Observations, k: int, *, generator: torch.Generator
) -> Tensor:
    """Actions S chosen by a policy, with shape (n, k) or fewer columns.

    The policies are

    - "pivots": unit vectors of the points drawn by a randomly pivoted Cholesky factorisation, in that order;
    - "greedy": unit vectors of the points with the largest remaining variance;
    - "blocks": the values of y in one of k clusters of neighbours, zero elsewhere, so that S has n nonzero entries;
    - "inducing": the span of the columns k(X, z) for the points drawn by "pivots", with rows divided by the noise if it
      varies. A Cholesky factor represents the span, because more than some dozens of the columns themselves are
      linearly dependent up to rounding;
    - "residuals": residuals of conjugate gradients. Once the residual is small they explore no further, and the
      variance no longer decreases.

    Fewer than k actions are returned if the kernel matrix is exhausted. On 300 points in four dimensions with a squared
    exponential kernel, 40 actions left 0.015 (inducing), 0.024 (residuals), 0.036 (blocks), 0.045 (pivots) and 0.057
    (greedy) more variance than all data, in units of the prior variance.

    Raises:
        ValueError: If the policy is not one of ``POLICIES`` or k is not in 1..n.
    """
    if policy not in POLICIES:
        msg = f"policy must be one of {POLICIES}, got {policy!r}"
        raise ValueError(msg)
    x, rest = data.x, data.y - data.level(process.eta)
    if not 1 <= k <= len(x):
        msg = f"k must be in 1..{len(x)}, got {k}"
        raise ValueError(msg)
    operator = process.operator(x)
    if policy == "residuals":
        return residual_actions(operator, rest, k, noise=data.noise(process.eta))
    if policy == "blocks":
        return _blocks(operator.scaled if isinstance(operator, KernelOperator) else x / x.std(0), rest, k)
    if policy == "inducing":
        factor = accelerated_cholesky(operator, k, generator=generator).factor
        return factor if data.relative_noise is None else factor / data.relative_noise[:, None]
    pivots = _pivots(operator, k, greedy=policy == "greedy", generator=generator)
    actions = x.new_zeros(len(x), len(pivots))
    actions[pivots, torch.arange(len(pivots), device=x.device)] = 1.0
    return actions


def _pivots(operator: Operator, k: int, *, greedy: bool, generator: torch.Generator) -> Tensor:
    if greedy:
        return pivoted_cholesky(operator, k)[1]
    pivots = accelerated_cholesky(operator, k, generator=generator).pivots
    if pivots is None:
        msg = "a factor made of columns needs pivots"
        raise RuntimeError(msg)
    return pivots


def _blocks(scaled: Tensor, y: Tensor, k: int) -> Tensor:
    """Block actions: y restricted to the cells of a tree that halves the points k - 1 times along the widest axis."""
    cells = [torch.arange(len(y), device=y.device)]
    while len(cells) < k:
        cell = cells.pop(max(range(len(cells)), key=lambda i: len(cells[i])))
        points = scaled[cell]
        axis = int((points.max(0).values - points.min(0).values).argmax())
        order = cell[points[:, axis].argsort()]
        cells += [order[: len(order) // 2], order[len(order) // 2 :]]
    actions = y.new_zeros(len(y), k)
    for j, cell in enumerate(cells):
        values = y[cell]
        actions[cell, j] = torch.where(values == 0.0, 1e-3, values)
    return actions


def residual_actions(operator: Operator, y: Tensor, k: int, *, noise: float | Tensor) -> Tensor:
    """Residuals y - (K + noise) v of k steps of conjugate gradients, made conjugate in two passes.

    Fewer are returned if the residual is exhausted. Costs k products with K and O(n k^2).

    Returns:
        Directions that are orthonormal in the inner product of K + noise, with shape (n, at most k).
    """
    directions = y.new_zeros(len(y), k)
    products = y.new_zeros(len(y), k)
    residual = y.clone()
    for i in range(k):
        d, basis, image = residual.clone(), directions[:, :i], products[:, :i]
        for _ in range(2):  # a single pass loses orthogonality as the residual falls
            d = d - basis @ (image.T @ d)
        image_d = operator.matmul(d) + noise * d
        size = float(d @ image_d)
        if not size > 1e-14 * float(y @ y):
            return directions[:, :i]
        directions[:, i], products[:, i] = d / math.sqrt(size), image_d / math.sqrt(size)
        residual = residual - products[:, i] * (directions[:, i] @ y)
    return directions


def computation_aware(process: ScaledProcess, data: Observations, actions: Tensor) -> ComputationAware:
    """The posterior given actions^T y: k products with K and O(n k^2).

    A missing scale is that of maximum likelihood of the projections.

    Args:
        process: Kernel and hyperparameters.
        data: All the points.
        actions: S, with shape (n, k), of full column rank.

    Raises:
        ValueError: If the actions are numerically dependent, or have a wrong shape.
    """
    x, y = data.x, data.y
    if actions.ndim != 2 or len(actions) != len(y):
        msg = f"actions must have shape ({len(y)}, k), got {tuple(actions.shape)}"
        raise ValueError(msg)
    constant = data.level(process.eta)
    image = process.operator(x).matmul(actions) + data.times_noise(actions, process.eta)
    gram = actions.T @ image
    lower, info = torch.linalg.cholesky_ex(0.5 * (gram + gram.T))
    if int(info) != 0:
        msg = f"actions must be linearly independent, got one that depends on earlier ones: number {int(info)}"
        raise ValueError(msg)
    directions = torch.linalg.solve_triangular(lower, actions.T, upper=False).T
    rest = y - constant
    projected = directions.T @ rest
    if process.scale is None:
        process = process.with_(scale=math.sqrt(max(float(projected.square().mean()), 1e-300)))
    left = rest - image @ torch.linalg.solve_triangular(lower.T, projected[:, None], upper=True)[:, 0]
    residual = float(left.norm() / rest.norm().clamp(min=1e-300))
    status = f"{len(projected)} projections of {len(y)} values, which leave {residual:.1e} of them"
    return ComputationAware(process, x, directions, projected, constant, residual, status)


def train_blocks(
    process: ScaledProcess, data: Observations, blocks: Tensor, *, steps: int = 50, rate: float = 0.1
) -> tuple[ScaledProcess, Tensor, list[float]]:
    """A process and block actions trained by Adam to maximise the evidence lower bound.

    The bound is log p(y | process) minus the divergence from the computation-aware posterior of g(X) to the exact one;
    it needs only S^T K S and marginal variances. The lengthscales are not changed.

    Args:
        process: Process with a scale. Kernel and lengthscales are kept.
        data: Points with equal noise. K is not stored; a step costs O(n^2 (d + k)) time and O(n k) memory.
        blocks: Initial actions, with shape (n, k), with one nonzero entry per row.
        steps: Number of steps of Adam.
        rate: Learning rate of Adam.

    Returns:
        The process with its new noise and scale, the actions, and the bound in nats after each step.

    Raises:
        ValueError: If the noise of the points differs.

    References:
        Wenger et al. (2024), arXiv:2411.01036, eq. 11
    """
    if data.relative_noise is not None:
        msg = "the noise must be the same for all points, got one value per point"
        raise ValueError(msg)
    x, operator, rest = data.x, process.operator(data.x), data.y - data.y.mean()
    mask = blocks != 0.0
    entries = blocks[mask].clone().requires_grad_()
    logs = torch.log(torch.tensor([process.eta, process.variance], dtype=x.dtype, device=x.device)).requires_grad_()
    rates = (rate * float(blocks[mask].std()), rate)
    groups: list[dict[str, Any]] = [
        {"params": [part], "lr": lr} for part, lr in zip((entries, logs), rates, strict=True)
    ]
    optimiser = torch.optim.Adam(groups)
    trace = []
    for _ in range(steps):
        optimiser.zero_grad()
        actions = torch.zeros_like(blocks).masked_scatter(mask, entries)
        bound = evidence_bound(operator, rest, actions, eta=logs[0].exp(), variance=logs[1].exp())
        (-bound).backward()
        optimiser.step()
        trace.append(float(bound.detach()))
    eta, variance = logs.detach().exp().tolist()
    trained = torch.zeros_like(blocks).masked_scatter(mask, entries.detach())
    return process.with_(eta=eta, scale=math.sqrt(variance)), trained, trace


class _Product(torch.autograd.Function):
    """K S as a differentiable product with an operator: the derivative with respect to S is a product with K^T."""

    @staticmethod
    def forward(ctx: Any, actions: Tensor, operator: Operator) -> Tensor:
        ctx.operator = operator
        return operator.matmul(actions)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.operator.matmul(gradient[0]), None


def evidence_bound(operator: Operator, y: Tensor, actions: Tensor, *, eta: Tensor, variance: Tensor) -> Tensor:
    """Evidence lower bound E_q log p(y | g) - KL(q || prior) in nats, for the computation-aware posterior q of s g(X).

    One product of K with k columns; differentiable with respect to the actions, eta and the variance.

    With c = (S^T K S + eta S^T S)^-1 S^T y the mean at X is K S c, and the divergence of q from the prior is
    1/2 {c^T S^T K S c / s^2 - tr(G^-1 S^T K S) + log|G| - log|eta S^T S|}, G = S^T K S + eta S^T S.

    Args:
        operator: K in units of s^2, with shape (n, n), symmetric.
        y: Centred values, with shape (n,).
        actions: S, with shape (n, k).
        eta: Noise variance in units of s^2.
        variance: s^2.
    """
    n, k = actions.shape
    image = _Product.apply(actions, operator)
    signal, square = actions.T @ image, actions.T @ actions
    lower = torch.linalg.cholesky(signal + eta * square)
    c = torch.cholesky_solve((actions.T @ y)[:, None], lower)[:, 0]
    half = torch.linalg.solve_triangular(lower, image.T, upper=False)
    marginal = variance * (operator.diag() - half.square().sum(0))
    noise = eta * variance
    fit = ((y - image @ c).square() + marginal).sum() / noise + n * torch.log(2.0 * math.pi * noise)
    trace = torch.cholesky_solve(signal, lower).diagonal().sum()
    log_g = 2.0 * lower.diagonal().log().sum()
    log_s = 2.0 * torch.linalg.cholesky(square).diagonal().log().sum() + k * torch.log(eta)
    divergence = c @ signal @ c / variance - trace + log_g - log_s
    return -0.5 * (fit + divergence)
