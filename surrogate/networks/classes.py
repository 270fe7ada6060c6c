"""Class probabilities from networks and their posteriors, with a temperature fitted on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from surrogate.arrays import Array
from surrogate.networks.posteriors import Member

__all__ = ["Logits", "Temperature", "fit_temperature", "outputs_of"]

# Bounds on the logarithms of the temperature and of the variance factor. Beyond them probabilities are equal or
# certain, which a few hundred rows cannot distinguish.
_LEAST, _MOST = np.array([-2.0, -12.0]), np.array([4.0, 6.0])


@dataclass(frozen=True, eq=False)
class Logits:
    """Means and variances of the logits, for all draws of all members.

    Attributes:
        mean: With shape (m, n, c).
        variance: Variance of each logit, with shape (m, n, c); zero for draws without a variance.
    """

    mean: Tensor
    variance: Tensor

    @property
    def uncertain(self) -> bool:
        """Whether the logits have an uncertainty: any variance is positive."""
        return bool((self.variance > 0).any())

    def means(self) -> Logits:
        """The same means, without variance."""
        return Logits(self.mean, torch.zeros_like(self.variance))


def outputs_of(members: Sequence[Member], x: Tensor) -> Logits:
    """Logits at x of all draws of all members."""
    parts = [member.outputs(x) for member in members]
    variances = [torch.zeros_like(mean) if variance is None else variance for mean, variance in parts]
    return Logits(torch.cat([mean for mean, _ in parts]), torch.cat(variances))


@dataclass(frozen=True)
class Temperature:
    """Class probabilities: the mean over draws of softmax(f / (T sqrt(1 + pi / 8 a v))) for logits f of variance v.

    Attributes:
        temperature: T.
        inflation: a, the factor of the variance.

    References:
        Guo, Pleiss, Sun & Weinberger (2017), https://arxiv.org/abs/1706.04599, for T; MacKay (1992),
        https://doi.org/10.1162/neco.1992.4.5.720, for the square root.
    """

    temperature: float = 1.0
    inflation: float = 1.0

    def log_probabilities(self, logits: Logits) -> Tensor:
        """Logarithms of the classes' probabilities, with shape (n, c)."""
        widened = (1.0 + math.pi / 8.0 * self.inflation * logits.variance).sqrt()
        each = (logits.mean / (self.temperature * widened)).log_softmax(2)
        return each.logsumexp(0) - math.log(len(each))


def fit_temperature(logits: Sequence[Logits], classes: Sequence[Tensor]) -> Temperature:
    """The maximum-likelihood temperature, with the variance factor if the logits have variances.

    Args:
        logits: Logits of held-out rows, for each group of networks.
        classes: Classes as integers from 0, with shape (n,), for each group.
    """
    free = 2 if any(part.uncertain for part in logits) else 1

    def chosen(theta: Array) -> Temperature:
        return Temperature(*(float(v) for v in np.exp(np.clip(theta, _LEAST[:free], _MOST[:free]))))

    def cost(theta: Array) -> float:
        found = chosen(theta)
        pairs = zip(logits, classes, strict=True)
        return float(sum(functional.nll_loss(found.log_probabilities(f), y, reduction="sum") for f, y in pairs))

    # Where the variance is almost constant the two are nearly degenerate, so the search uses no derivatives.
    return chosen(minimize(cost, np.zeros(free), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-4}).x)
