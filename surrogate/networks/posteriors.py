"""Posteriors of trained networks by name, for regression and classification."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from surrogate.networks.architecture import Architecture
from surrogate.networks.factors import kronecker_factors
from surrogate.networks.laplace_posterior import Laplace, laplace
from surrogate.networks.layers import Scales, curved_layers
from surrogate.networks.likelihoods import Gaussian
from surrogate.networks.swag import SwagMoments, network_of_draw, outputs_of_draws
from surrogate.samplers.hamiltonian import hmc

__all__ = ["KINDS", "Drawn", "Linearised", "Member", "Rows", "alike", "members_of", "swag"]

KINDS = ("last-layer", "kfac", "swag", "ensemble", "mcmc")

_BATCH = 1024  # rows whose gradients are held in memory at once

# SWAG: epochs before the first snapshot, then one snapshot per epoch; together about a quarter of a training of 256
# epochs. The rank is that of the paper.
_WARM_UP, _SNAPSHOTS, _RANK, _SWAG_DRAWS = 20, 40, 20, 30
_SWAG_BATCH = 256

# Settings of the Markov chains; every third draw is kept, and the noise is in standard deviations of the target.
_CHAIN_WARM_UP, _CHAIN_DRAWS, _THIN, _LEAPFROG = 60, 60, 3, 10
_TYPICAL_NOISE = 0.1


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that a network was trained on.

    Attributes:
        x: Scaled inputs, with shape (n, d).
        y: Scaled targets, or classes, with shape (n,).
        architecture: Architecture of the networks.
        classes: Whether targets are classes.
    """

    x: Tensor
    y: Tensor
    architecture: Architecture
    classes: bool

    @property
    def scales(self) -> Sequence[Scales]:
        """(c_w, c_b) of each layer in the tangent parametrisation."""
        return self.architecture.scales()


class Member(Protocol):
    """A network, or draws of its parameters, with its uncertainty."""

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Outputs of m draws, with shape (m, n, c), and their variances or None; in double precision."""

    def networks(self) -> list[nn.Sequential]:
        """The networks of the draws, on the CPU in single precision, without gradients."""


@dataclass(frozen=True, eq=False)
class Linearised:
    """A member with a Laplace approximation: one mean and a variance.

    Attributes:
        posterior: The approximation.
    """

    posterior: Laplace

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the outputs, each with shape (1, n, c)."""
        mean, covariance = self.posterior.outputs(x)
        return mean[None], covariance.diagonal(dim1=1, dim2=2)[None]

    def networks(self) -> list[nn.Sequential]:
        """A single network, with the posterior mean of the parameters."""
        return [_freeze(self.posterior.model)]


def alike(members: Sequence[Member], others: Sequence[Member]) -> list[Member]:
    """The members with hyperparameters of Laplace approximations set to the geometric mean over ``others``.

    The marginal likelihood of a single network is a noisy estimate, especially of the noise if the network fits its
    rows exactly. Common hyperparameters make variances of different networks comparable, so that the errors of some can
    calibrate the variances of others.
    """
    found = [other.posterior for other in others if isinstance(other, Linearised)]
    if not found:
        return [*members]
    precisions = np.exp(np.mean([np.log(each.prior_precision) for each in found], 0))
    noise = float(np.exp(np.mean([np.log(each.noise) for each in found])))

    def changed(member: Member) -> Member:
        if not isinstance(member, Linearised):
            return member
        sizes = [float(value) for value in precisions]
        return Linearised(member.posterior.with_hyperparameters(prior_precision=sizes, noise=noise))

    return [changed(member) for member in members]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A member whose networks are posterior draws of the parameters.

    Attributes:
        model: Network that gives the architecture.
        draws: Parameters, with shape (m, p).
    """

    model: nn.Module
    draws: Tensor

    def outputs(self, x: Tensor) -> tuple[Tensor, None]:
        """Outputs of each network, with shape (m, n, c)."""
        return outputs_of_draws(self.model, x, self.draws), None

    def networks(self) -> list[nn.Sequential]:
        """One network for each draw."""
        return [_freeze(network_of_draw(self.model, row)) for row in self.draws]


@dataclass(frozen=True, eq=False)
class _Alone:
    """A member without a posterior: one network in double precision."""

    module: nn.Module

    @torch.no_grad()
    def outputs(self, x: Tensor) -> tuple[Tensor, None]:
        return self.module(x.double())[None], None

    def networks(self) -> list[nn.Sequential]:
        return [_freeze(self.module)]


def _freeze(module: nn.Module) -> nn.Sequential:
    """A copy on the CPU in single precision."""
    return copy.deepcopy(module).cpu().float().requires_grad_(False)  # type: ignore[return-value]


def members_of(
    kind: str, modules: Sequence[nn.Sequential], rows: Rows, generators: Sequence[torch.Generator]
) -> list[Member]:
    """The networks as members, each with its posterior.

    Args:
        kind: One of `KINDS`; with "ensemble" the only uncertainty is the disagreement between networks.
        modules: Trained networks.
        rows: Rows that they were trained on.
        generators: One for each network, on the CPU.
    """
    if kind == "mcmc":
        return [_chains(modules, rows, generators[0])]
    make: dict[str, Callable[[nn.Sequential, torch.Generator], Member]] = {
        "last-layer": partial(_last_layer, rows),
        "kfac": partial(_kfac, rows),
        "swag": partial(swag, rows),
        "ensemble": lambda module, _: _Alone(copy.deepcopy(module).double()),
    }
    return [make[kind](module, generator) for module, generator in zip(modules, generators, strict=True)]


def _last_layer(rows: Rows, module: nn.Sequential, _: torch.Generator) -> Linearised:
    return Linearised(_laplace(rows, module, "last-layer-kronecker" if rows.classes else "last-layer"))


def _kfac(rows: Rows, module: nn.Sequential, _: torch.Generator) -> Linearised:
    """The K-FAC posterior with a prior precision per layer; a common one is far too small for wide first layers."""
    return Linearised(_laplace(rows, module, "kronecker").maximised(per_block=True))


def _laplace(rows: Rows, module: nn.Sequential, structure: str) -> Laplace:
    return laplace(
        module,
        list(zip(rows.x.split(_BATCH), rows.y.split(_BATCH), strict=True)),
        likelihood="classification" if rows.classes else "regression",
        structure=structure,
        scales=rows.scales,
    )


def swag(rows: Rows, module: nn.Sequential, generator: torch.Generator) -> Drawn:
    """Draws of SWAG: continues training with a constant step and fits a normal distribution to the snapshots.

    The step is half the inverse of the mean squared gradient of the outputs in the tangent parametrisation. The
    curvature of the mean square error is at most twice that mean, so the iterates wander but stay near the minimum.
    Incomplete batches are dropped: gradients of a few rows are noisier, so networks trained on different numbers of
    rows would not be comparable.
    """
    twin = copy.deepcopy(module)
    optimizer = torch.optim.SGD(_groups(twin, rows), lr=0.0)
    moments = SwagMoments(twin, rank=_RANK)
    loss = nn.functional.cross_entropy if rows.classes else nn.functional.mse_loss
    batch = min(_SWAG_BATCH, len(rows.x))
    for epoch in range(_WARM_UP + _SNAPSHOTS):
        order = torch.randperm(len(rows.x), generator=generator).to(rows.x.device)
        for some in order.split(batch)[: len(order) // batch]:
            optimizer.zero_grad()
            f = twin(rows.x[some])
            loss(f if rows.classes else f.squeeze(-1), rows.y[some]).backward()
            optimizer.step()
        if epoch >= _WARM_UP:
            moments.collect()
    posterior = moments.posterior()
    draws = posterior.sample(_SWAG_DRAWS, _on(generator, rows.x.device))
    return Drawn(posterior.model, draws)


def _on(generator: torch.Generator, device: torch.device) -> torch.Generator:
    """The generator itself if it is on the CPU, otherwise a new one seeded from it."""
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(2**62, (1,), generator=generator))
    return torch.Generator(device=device).manual_seed(seed)


def _groups(module: nn.Sequential, rows: Rows) -> list[dict[str, object]]:
    """Parameter groups with step sizes c^2 times those of V for W = c V, as gradient and step each gain a factor c."""
    twin, sample = copy.deepcopy(module), rows.x[:_BATCH]
    factors, _ = kronecker_factors(twin, [sample], Gaussian(), scales=rows.scales)
    outputs = len(factors[-1].gradients)
    size = sum(float(f.inputs.trace() * f.gradients.trace()) for f in factors) / outputs
    groups: list[dict[str, object]] = []
    for layer, constants in zip(curved_layers(module), rows.scales, strict=True):
        groups += [{"params": [p], "lr": 0.5 / size * c**2} for p, c in zip(layer.parameters, constants, strict=True)]
    return groups


def _chains(modules: Sequence[nn.Sequential], rows: Rows, generator: torch.Generator) -> Drawn:
    """Draws by Hamiltonian Monte Carlo over all parameters, with K-FAC's prior precision for each layer.

    One chain starts at each trained network. The standard deviation of the normal noise is sampled too; its prior is
    log-normal around a tenth of the targets' standard deviation. Chains of this length explore the surroundings of the
    networks, not all modes.
    """
    model = copy.deepcopy(modules[0]).double()
    names, shapes = zip(*((name, p.shape) for name, p in model.named_parameters()), strict=True)
    constants = _prior_sizes(modules, rows)
    x, y = rows.x.double(), rows.y if rows.classes else rows.y.double()

    def parameters(position: Tensor) -> list[Tensor]:
        parts = position[:-1].split([math.prod(shape) for shape in shapes])
        return [c * part.reshape(shape) for c, part, shape in zip(constants, parts, shapes, strict=True)]

    def energy(position: Tensor) -> Tensor:
        f = functional_call(model, dict(zip(names, parameters(position), strict=True)), (x,))
        prior = 0.5 * position.square().sum()
        if rows.classes:
            return prior + nn.functional.cross_entropy(f, y, reduction="sum")
        noise = _TYPICAL_NOISE * position[-1].exp()
        return prior + 0.5 * (f.squeeze(-1) - y).square().sum() / noise**2 + len(y) * noise.log()

    start = torch.stack([_scaled_parameters(module, constants) for module in modules])
    chains = hmc(
        energy,
        torch.cat([start, torch.zeros_like(start[:, :1])], 1),
        n_draws=_CHAIN_DRAWS,
        n_warmup=_CHAIN_WARM_UP,
        n_leapfrog=_LEAPFROG,
        generator=_on(generator, x.device),
    )
    kept = chains.x[_THIN - 1 :: _THIN].flatten(0, 1)
    draws = torch.stack([torch.cat([p.flatten() for p in parameters(draw)]) for draw in kept])
    return Drawn(model, draws)


def _prior_sizes(modules: Sequence[nn.Sequential], rows: Rows) -> list[float]:
    """Prior standard deviations of weights and biases, layer by layer."""
    each = [_laplace(rows, module, "kronecker").maximised(per_block=True).prior_precision for module in modules]
    precisions = np.exp(np.log(each).mean(0))
    return [c / float(delta) ** 0.5 for pair, delta in zip(rows.scales, precisions, strict=True) for c in pair]


def _scaled_parameters(module: nn.Module, constants: Sequence[float]) -> Tensor:
    """Parameters in units of their prior standard deviations, as one vector."""
    values = zip(module.parameters(), constants, strict=True)
    return torch.cat([p.detach().double().flatten() / c for p, c in values])
