"""SWAG: a normal posterior of a network's parameters from the iterates of stochastic gradient descent."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.swa_utils import update_bn

__all__ = ["Swag", "SwagMoments", "network_of_draw", "outputs_of_draws"]

_LEAST_VARIANCE = 1e-30  # smallest variance of a parameter, as in the reference code
_BLOCK = 512  # rows evaluated by all drawn networks at once


@dataclass(frozen=True, eq=False)
class Swag:
    """The posterior N(mean, (diag(variance) + D^T D / (k - 1)) / 2) of the parameters.

    This is the covariance of the paper; the authors' code draws from twice this covariance at its default ``scale=1``.

    Attributes:
        model: A copy of the network in evaluation mode, which gives the architecture.
        mean: Mean of the snapshots, with shape (p,), in the order of ``parameters()``.
        variance: Variances of each parameter over all snapshots, with shape (p,).
        deviations: D: deviations of the last k snapshots from the running mean at the time, with shape (k, p).

    References:
        Maddox, Garipov, Izmailov, Vetrov & Wilson (2019), https://arxiv.org/abs/1902.02476, algorithm 1.
    """

    model: nn.Module
    mean: Tensor
    variance: Tensor
    deviations: Tensor

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draws of the parameters, with shape (n, p), in O(n k p) time."""
        k = len(self.deviations)
        first = torch.randn(n, len(self.mean), generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        second = torch.randn(n, k, generator=generator, dtype=self.mean.dtype, device=self.mean.device)
        spread = self.variance.sqrt() * first + second @ self.deviations / (k - 1) ** 0.5
        return self.mean + spread / 2.0**0.5

    def outputs(self, x: Tensor, draws: Tensor) -> Tensor:
        """Outputs of networks with these parameters, with shape (m, n, ...), computed together by ``vmap``.

        Networks with batch normalisation need new running averages for each draw: use `networks`.

        Args:
            x: Inputs, with shape (n, ...).
            draws: Parameters, with shape (m, p).

        Raises:
            ValueError: If the network has buffers that depend on the data.
        """
        return outputs_of_draws(self.model, x, draws)

    def networks(self, draws: Tensor, loader: Iterable[object] | None = None) -> Iterator[nn.Module]:
        """Networks for parameters with shape (m, p), with normalisation statistics recomputed on a loader."""
        for row in draws:
            twin = network_of_draw(self.model, row)
            if loader is not None:
                update_bn(loader, twin)
            yield twin.eval()


def network_of_draw(model: nn.Module, draw: Tensor) -> nn.Module:
    """A copy of the network with these parameters, with shape (p,)."""
    twin = copy.deepcopy(model)
    vector_to_parameters(draw.to(next(twin.parameters()).dtype), twin.parameters())
    return twin


def outputs_of_draws(model: nn.Module, x: Tensor, draws: Tensor) -> Tensor:
    """Outputs at x of networks like ``model`` with parameters of shape (m, p), with shape (m, n, ...).

    Raises:
        ValueError: If the network has buffers that depend on the data.
    """
    if any(True for _ in model.buffers()):
        msg = (
            "the network holds running averages (such as batch norm), which differ for each draw: "
            "use networks(draws, loader)"
        )
        raise ValueError(msg)
    stacked = _unflatten(model, draws)
    each = vmap(lambda values, rows: functional_call(model, values, (rows,)), (0, None))
    with torch.no_grad():
        return torch.cat([each(stacked, rows.to(draws.dtype)) for rows in x.split(_BLOCK)], 1)


def _unflatten(model: nn.Module, draws: Tensor) -> dict[str, Tensor]:
    """Parameters by name, each with shape (m, ...)."""
    named = dict(model.named_parameters())
    parts = draws.split([p.numel() for p in named.values()], 1)
    return {name: part.reshape(-1, *p.shape) for (name, p), part in zip(named.items(), parts, strict=True)}


class SwagMoments:
    """Moments of a network's parameters over snapshots, collected during training.

        moments = SwagMoments(model, rank=20)
        for epoch in range(40):
            train_one_epoch(model)  # by SGD with a constant, high learning rate
            moments.collect()
        posterior = moments.posterior()

    Attributes:
        count: Number of snapshots so far.
    """

    def __init__(self, model: nn.Module, *, rank: int = 20) -> None:
        """Prepares to collect snapshots of a network, with the last ``rank`` deviations: O(rank p) memory.

        Raises:
            ValueError: If the rank is below 2.
        """
        if rank < 2:
            msg = f"rank must be at least 2, got {rank}"
            raise ValueError(msg)
        self.count = 0
        self._model = model
        self._mean = torch.zeros_like(self._now())
        self._centred = torch.zeros_like(self._mean)
        self._deviations: deque[Tensor] = deque(maxlen=rank)

    def _now(self) -> Tensor:
        return parameters_to_vector(self._model.parameters()).detach().double()

    def collect(self) -> None:
        """Adds the current network as a snapshot.

        Raises:
            FloatingPointError: If a parameter is not finite.
        """
        now = self._now()
        if not bool(now.isfinite().all()):
            msg = "parameters are not finite: train with a lower learning rate"
            raise FloatingPointError(msg)
        self.count += 1
        before = now - self._mean
        self._mean = self._mean + before / self.count
        after = now - self._mean
        self._centred += before * after  # Welford's method avoids the cancellation in a difference of mean squares
        self._deviations.append(after)

    def posterior(self) -> Swag:
        """The posterior, in double precision.

        The low-rank part is divided by the number of deviations minus one.

        Raises:
            ValueError: If there are fewer than two snapshots.
        """
        if self.count < 2:
            msg = f"a posterior needs at least 2 snapshots, got {self.count}"
            raise ValueError(msg)
        model = copy.deepcopy(self._model).eval()
        variance = (self._centred / self.count).clamp(min=_LEAST_VARIANCE)
        return Swag(model, self._mean.clone(), variance, torch.stack([*self._deviations]))
