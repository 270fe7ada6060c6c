"""Densities of a target given the outputs of a network, and their curvature with respect to the outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Likelihood"]


class Likelihood(Protocol):
    """The density of targets given outputs f with shape (n, c), with a Hessian in f independent of the target."""

    def negative_log_density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log p(y | f) of each row, with shape (n,)."""

    def sampled_gradients(self, outputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """Gradients of -log p(y | f) with respect to f, with shape (n, c), at targets y drawn from p(y | f)."""

    def roots(self, outputs: Tensor) -> list[Tensor]:
        """Arrays s_1, s_2, ... with shape (n, c) each; row by row, sum_j s_j s_j^T is the Hessian of -log p(y | f)."""

    def curvature(self, outputs: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """a^T H b of each row for the Hessian H of -log p(y | f), with shape (n,); a and b have shape (n, c)."""


@dataclass(frozen=True)
class Gaussian:
    """Independent normal targets around the outputs.

    Attributes:
        variance: Variance of each target. With c / 2 for c outputs the mean negative log-density is ``nn.MSELoss`` plus
            a constant, and its curvature that of ``nn.MSELoss``.
    """

    variance: float = 1.0

    def __post_init__(self) -> None:
        if not self.variance > 0:
            msg = f"variance must be positive, got {self.variance}"
            raise ValueError(msg)

    def negative_log_density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log p(y | f) of each row, with shape (n,)."""
        constant = 0.5 * outputs.shape[1] * math.log(2.0 * math.pi * self.variance)
        return (outputs - targets.reshape(outputs.shape)).square().sum(1) / (2.0 * self.variance) + constant

    def sampled_gradients(self, outputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """Standard normal draws divided by the standard deviation, with shape (n, c)."""
        noise = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype, device=outputs.device)
        return noise / self.variance**0.5

    def roots(self, outputs: Tensor) -> list[Tensor]:
        """The c unit vectors divided by the standard deviation."""
        unit = torch.eye(outputs.shape[1], dtype=outputs.dtype, device=outputs.device) / self.variance**0.5
        return [row.expand_as(outputs) for row in unit]

    def curvature(self, outputs: Tensor, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG002
        """a^T b / variance, with shape (n,)."""
        return (a * b).sum(1) / self.variance


@dataclass(frozen=True)
class Categorical:
    """Classes 0 to c - 1 with probabilities softmax(f); their mean loss is ``nn.CrossEntropyLoss``."""

    def negative_log_density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log p(y | f) of each row, with shape (n,); targets are classes, integers with shape (n,)."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def sampled_gradients(self, outputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """softmax(f) minus the indicator of a class drawn from it, with shape (n, c)."""
        p = outputs.softmax(1)
        drawn = torch.multinomial(p, 1, generator=generator).squeeze(1)
        return p - functional.one_hot(drawn, p.shape[1]).to(p)

    def roots(self, outputs: Tensor) -> list[Tensor]:
        """sqrt(p_j) (e_j - p) for each class j, the columns of a root of diag(p) - p p^T."""
        p = outputs.softmax(1)
        unit = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
        return [p[:, j : j + 1].sqrt() * (unit[j] - p) for j in range(p.shape[1])]

    def curvature(self, outputs: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """a^T (diag(p) - p p^T) b, with shape (n,)."""
        p = outputs.softmax(1)
        return (p * a * b).sum(1) - (p * a).sum(1) * (p * b).sum(1)


@dataclass(frozen=True)
class Bernoulli:
    """Independent targets in {0, 1} with probabilities sigmoid(f).

    Attributes:
        weight: Factor of the log-density. With 1 / c for c outputs the mean is ``nn.BCEWithLogitsLoss``.
    """

    weight: float = 1.0

    def negative_log_density(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``weight`` times -log p(y | f) of each row, with shape (n,); targets may lie between 0 and 1."""
        target = targets.reshape(outputs.shape).to(outputs)
        return self.weight * functional.binary_cross_entropy_with_logits(outputs, target, reduction="none").sum(1)

    def sampled_gradients(self, outputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """sqrt(weight) (sigmoid(f) - y) with y drawn from p(y | f), with shape (n, c)."""
        p = outputs.sigmoid()
        return self.weight**0.5 * (p - torch.bernoulli(p, generator=generator))

    def roots(self, outputs: Tensor) -> list[Tensor]:
        """Vectors with the single nonzero entry sqrt(weight p (1 - p)), one for each output."""
        p = outputs.sigmoid()
        size = (self.weight * p * (1.0 - p)).sqrt()
        unit = torch.eye(p.shape[1], dtype=p.dtype, device=p.device)
        return [size * row for row in unit]

    def curvature(self, outputs: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """``weight`` times the sum of p (1 - p) a b over outputs, with shape (n,)."""
        p = outputs.sigmoid()
        return self.weight * (p * (1.0 - p) * a * b).sum(1)
