"""Samplers for many parameters, with all chains in one batch: Hamiltonian Monte Carlo and Crank-Nicolson."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

__all__ = ["Chains", "hmc", "preconditioned_crank_nicolson"]

Energy = Callable[[Tensor], Tensor]

# Relative random variation of a trajectory's step size; with constant steps some frequencies return to where they
# started (Neal 2011, section 3.2).
_JITTER = 0.2
# A trajectory that gains more energy than this is divergent (as in Stan).
_DIVERGENT = 1000.0


@dataclass(frozen=True, eq=False)
class Chains:
    """Draws of several Markov chains after warm-up.

    Attributes:
        x: Draws with shape (s, w, d): draws, chains, parameters, as ``samplers.diagnostics`` takes them.
        acceptance: Mean acceptance probability of each chain after the warm-up, with shape (w,).
        step_size: Step size found during the warm-up.
        n_evaluations: Evaluations of the energy for each chain, including warm-up; with gradients for ``hmc``.
        n_divergent: Number of rejections after the warm-up because the energy was not finite or rose by more than 1000.
            If there are many, the chains cannot enter a part of the target.
    """

    x: Tensor
    acceptance: Tensor
    step_size: float
    n_evaluations: int
    n_divergent: int

    @property
    def draws(self) -> Tensor:
        """The draws of all chains, with shape (s w, d)."""
        return self.x.flatten(0, 1)


@dataclass(frozen=True)
class _DualAveraging:
    """Dual averaging: an adaptive search for the step size that gives a target acceptance rate.

    Hoffman & Gelman (2014), https://arxiv.org/abs/1111.4246, section 3.2, with their constants.
    """

    target: float
    centre: float  # log step size towards which the search is shrunk
    log_step: float
    log_mean: float = 0.0
    excess: float = 0.0
    count: int = 0

    @classmethod
    def of(cls, target: float, step: float) -> _DualAveraging:
        return cls(target, math.log(10.0 * step), math.log(step))

    def told(self, acceptance: float) -> _DualAveraging:
        """The updated search after a trajectory with this mean acceptance."""
        t = self.count + 1
        excess = self.excess + (self.target - acceptance - self.excess) / (t + 10.0)
        log_step = self.centre - math.sqrt(t) / 0.05 * excess
        weight = t**-0.75
        return replace(
            self,
            log_step=log_step,
            log_mean=weight * log_step + (1.0 - weight) * self.log_mean,
            excess=excess,
            count=t,
        )

    @property
    def settled(self) -> float:
        """The final, averaged step size."""
        return math.exp(self.log_mean if self.count else self.log_step)


@dataclass(frozen=True, eq=False)
class _States:
    """Positions of all chains, with shape (w, d), their energies, with shape (w,), and gradients, with shape (w, d)."""

    x: Tensor
    energy: Tensor
    gradient: Tensor

    def where(self, moved: Tensor, other: _States) -> _States:
        """A copy in which the chains that moved have the other state."""
        return _States(
            torch.where(moved[:, None], other.x, self.x),
            torch.where(moved, other.energy, self.energy),
            torch.where(moved[:, None], other.gradient, self.gradient),
        )


def hmc(
    energy: Energy,
    start: Tensor,
    *,
    n_draws: int,
    generator: torch.Generator,
    n_warmup: int = 200,
    n_leapfrog: int = 8,
    target_acceptance: float = 0.8,
    step_size: float | None = None,
) -> Chains:
    """Draws by Hamiltonian Monte Carlo, with all chains in one batch of ``torch.func.vmap``.

    The mass matrix is the identity, so scale the parameters to similar widths first. The warm-up tunes the step size. A
    draw costs ``n_leapfrog`` gradients.

    Args:
        energy: Negative log density, up to a constant, of one position with shape (d,); must work under ``vmap`` and
            ``grad``. Infinity is allowed.
        start: Starting points of the chains, with shape (w, d), which also set dtype and device. Use double precision
            unless the energy is smooth in single precision.
        n_draws: Number of draws of each chain after warm-up.
        generator: Torch generator, on the device of ``start``.
        n_warmup: Warm-up draws of each chain, which tune the step size and are discarded.
        n_leapfrog: Leapfrog steps of a trajectory.
        target_acceptance: Acceptance rate to which the step size is tuned; 0.65 is the most efficient in many
            dimensions, 0.8 is safer.
        step_size: Initial step size of the search, by default a rough guess; the step size itself if ``n_warmup`` is 0.

    Raises:
        ValueError: If a number is out of range, or the energy at the start is not finite.

    References:
        Neal (2011), https://arxiv.org/abs/1206.1901
        Hoffman & Gelman (2014), https://arxiv.org/abs/1111.4246, for the step
    """
    _check(start, n_draws, n_warmup, n_leapfrog, target_acceptance)
    evaluate = _evaluator(energy)
    state, evaluations = evaluate(start.detach()), 1
    _check_start(state.energy)
    if step_size is None:
        step_size, extra = _rough_step(evaluate, state, generator)
        evaluations += extra
    search = _DualAveraging.of(target_acceptance, step_size)
    for _ in range(n_warmup):
        state, accepted, _ = _trajectory(evaluate, state, math.exp(search.log_step), n_leapfrog, generator)
        search = search.told(float(accepted.mean()))
    draws, acceptance, divergent = [], torch.zeros_like(state.energy), 0
    for _ in range(n_draws):
        state, accepted, failed = _trajectory(evaluate, state, search.settled, n_leapfrog, generator)
        draws.append(state.x)
        acceptance, divergent = acceptance + accepted / n_draws, divergent + int(failed.sum())
    evaluations += (n_warmup + n_draws) * n_leapfrog
    return Chains(torch.stack(draws), acceptance, search.settled, evaluations, divergent)


def preconditioned_crank_nicolson(
    potential: Energy,
    start: Tensor,
    *,
    n_draws: int,
    generator: torch.Generator,
    n_warmup: int = 200,
    thin: int = 1,
    target_acceptance: float = 0.4,
    step_size: float = 0.1,
) -> Chains:
    """Draws from exp(-potential(x) - |x|^2 / 2), with proposals that leave the standard normal invariant.

    A proposal is sqrt(1 - b^2) x + b z with z standard normal and a step b in (0, 1]. Its acceptance depends only on
    the change of the potential, so the step need not shrink when parameters are added that the data do not constrain.
    It needs no gradients.

    Args:
        potential: Energy of the target minus |x|^2 / 2, for one position with shape (d,); must work under ``vmap``.
        start: Starting points of the chains, with shape (w, d).
        n_draws: Number of draws of each chain after warm-up.
        generator: Torch generator, on the device of ``start``.
        n_warmup: Warm-up proposals of each chain, which tune the step size and are discarded.
        thin: Number of proposals per draw.
        target_acceptance: Acceptance rate to which the step is tuned. If more are accepted even at b = 1, the step
            stays 1.
        step_size: Initial step of the search; the step itself if ``n_warmup`` is 0.

    Raises:
        ValueError: If a number is out of range, or the potential at the start is not finite.

    References:
        Cotter, Roberts, Stuart & White (2013), https://arxiv.org/abs/1202.0709
        Pezzetti, Favaro & Peluchetti (2024), https://arxiv.org/abs/2408.14325, for wide networks
    """
    _check(start, n_draws, n_warmup, thin, target_acceptance)
    if not 0.0 < step_size <= 1.0:
        msg = f"step_size must be in (0, 1], got {step_size}"
        raise ValueError(msg)
    evaluate = vmap(potential)
    x = start.detach()
    value = evaluate(x).detach()
    _check_start(value)
    search = _DualAveraging.of(target_acceptance, step_size)
    for _ in range(n_warmup):
        x, value, accepted, _ = _crank_nicolson(evaluate, x, value, min(math.exp(search.log_step), 1.0), generator)
        search = search.told(float(accepted.mean()))
    step = min(search.settled, 1.0)
    draws, acceptance, divergent = [], torch.zeros_like(value), 0
    for number in range(1, n_draws * thin + 1):
        x, value, accepted, failed = _crank_nicolson(evaluate, x, value, step, generator)
        acceptance, divergent = acceptance + accepted / (n_draws * thin), divergent + int(failed.sum())
        if number % thin == 0:
            draws.append(x)
    return Chains(torch.stack(draws), acceptance, step, 1 + n_warmup + n_draws * thin, divergent)


def _evaluator(energy: Energy) -> Callable[[Tensor], _States]:
    batched = vmap(grad_and_value(energy))

    def evaluate(x: Tensor) -> _States:
        gradient, value = batched(x)
        return _States(x, value.detach(), gradient.detach())

    return evaluate


def _trajectory(
    evaluate: Callable[[Tensor], _States], state: _States, step: float, n_leapfrog: int, generator: torch.Generator
) -> tuple[_States, Tensor, Tensor]:
    """The states after one trajectory, with acceptance probabilities and a mask of divergences, both (w,)."""
    jitter = torch.rand(len(state.x), 1, generator=generator, dtype=state.x.dtype, device=state.x.device)
    steps = step * (1.0 + _JITTER * (2.0 * jitter - 1.0))
    momentum = _normal_like(state.x, generator)
    new, speed = _leapfrog(evaluate, state, momentum, steps, n_leapfrog)
    gain = new.energy - state.energy + 0.5 * (speed.square() - momentum.square()).sum(1)
    return _accept(state, new, gain, generator)


def _leapfrog(
    evaluate: Callable[[Tensor], _States], state: _States, momentum: Tensor, steps: Tensor, count: int
) -> tuple[_States, Tensor]:
    """States and momenta after ``count`` leapfrog steps, with one gradient per step."""
    momentum = momentum - 0.5 * steps * state.gradient
    for number in range(1, count + 1):
        state = evaluate(state.x + steps * momentum)
        momentum = momentum - (1.0 if number < count else 0.5) * steps * state.gradient
    return state, momentum


def _accept(state: _States, new: _States, gain: Tensor, generator: torch.Generator) -> tuple[_States, Tensor, Tensor]:
    probability, failed = _probability(gain)
    moved = torch.rand(gain.shape, generator=generator, dtype=gain.dtype, device=gain.device) < probability
    return state.where(moved, new), probability, failed


def _probability(gain: Tensor) -> tuple[Tensor, Tensor]:
    """Metropolis acceptance probabilities for gains of energy, 0 where these are divergent or not finite."""
    failed = ~(gain < _DIVERGENT)  # also true for nan
    return torch.where(failed, 0.0, torch.exp(-gain.clamp(min=0.0))), failed


def _crank_nicolson(
    evaluate: Energy, x: Tensor, value: Tensor, step: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    proposal = math.sqrt(1.0 - step**2) * x + step * _normal_like(x, generator)
    new = evaluate(proposal).detach()
    probability, failed = _probability(new - value)
    moved = torch.rand(value.shape, generator=generator, dtype=x.dtype, device=x.device) < probability
    return torch.where(moved[:, None], proposal, x), torch.where(moved, new, value), probability, failed


def _rough_step(evaluate: Callable[[Tensor], _States], state: _States, generator: torch.Generator) -> tuple[float, int]:
    """The power of two at which about half of the single leapfrog steps are accepted, and the evaluations used."""
    step, direction, evaluations = 1.0, 0, 0
    momentum = _normal_like(state.x, generator)
    for _ in range(60):  # down to 2^-60, where the position no longer changes
        steps = torch.full_like(state.x[:, :1], step)
        new, speed = _leapfrog(evaluate, state, momentum, steps, 1)
        evaluations += 1
        gain = new.energy - state.energy + 0.5 * (speed.square() - momentum.square()).sum(1)
        wanted = 1 if float(_probability(gain)[0].mean()) > 0.5 else -1
        if direction and wanted != direction:
            break
        direction, step = wanted, step * 2.0**wanted
    return step, evaluations


def _normal_like(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)


def _check(start: Tensor, n_draws: int, n_warmup: int, count: int, target: float) -> None:
    if start.ndim != 2 or not start.is_floating_point():
        msg = f"start must be floating-point numbers with shape (chains, d), got {start.dtype} {tuple(start.shape)}"
        raise ValueError(msg)
    if n_draws < 1 or n_warmup < 0 or count < 1:
        msg = "n_draws and the steps per draw must be at least 1 and n_warmup at least 0, "
        msg += f"got {n_draws}, {count} and {n_warmup}"
        raise ValueError(msg)
    if not 0.0 < target < 1.0:
        msg = f"target_acceptance must be between 0 and 1, got {target}"
        raise ValueError(msg)


def _check_start(energy: Tensor) -> None:
    if not bool(energy.isfinite().all()):
        bad = (~energy.isfinite()).nonzero().squeeze(1).tolist()
        msg = f"every chain must start where the energy is finite; it is not for chains {bad}"
        raise ValueError(msg)
