"""Additive models of counts, binary data and numbers, by sampling the weights of basis functions.

    f = A(theta) z,    z ~ N(0, I),    y ~ N(f, noise^2), Poisson(exposure e^f), or Bernoulli(1 / (1 + e^-f))

with the basis functions times their prior sds, and a constant, as columns of A. The hyperparameters theta maximise the
evidence in Laplace's approximation; Hamiltonian Monte Carlo then draws z in coordinates whitened by the curvature at
the mode, where the target is nearly a standard normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp import optimise
from surrogate.gp.additive import Component
from surrogate.gp.parameters import LogNormal, Prior, Priors
from surrogate.samplers.diagnostics import rank_rhat
from surrogate.samplers.hamiltonian import Chains, hmc

__all__ = ["OBSERVATIONS", "WeightDraws", "sample_weights"]

OBSERVATIONS = ("gaussian", "poisson", "bernoulli")
"""What y may be: numbers with equal noise, counts, or 0 and 1."""

_CONSTANT_SD = 3.0  # of the constant, in units of f: logarithms for counts, logits for 0 and 1
_NOISE = LogNormal(-1.0, 1.5, 1e-4, 1e2)  # of the sd of the noise, in units of the sd of y
_NEWTON = 50  # steps to the mode at most: the energy is convex, and half a dozen suffice
_AT_MODE = 1e-9  # gain of energy of a step, in nats, that ends the search


@dataclass(frozen=True, eq=False)
class WeightDraws:
    """Draws of an additive model given data and hyperparameters.

    Attributes:
        components: The components.
        coefficients: Draws of the coefficients of the functions without weights, with shape (s, M).
        constant: Draws of the constant, with shape (s,).
        vector: Concatenated log-hyperparameters of the components, with shape (p,).
        noise: Sd of the noise of numbers; nan for counts and binary data.
        log_evidence: Laplace's approximation of the log marginal likelihood, in nats; exact for numbers.
        chains: The chains, with diagnostics.
    """

    components: tuple[Component, ...]
    coefficients: Tensor
    constant: Tensor
    vector: Array
    noise: float
    log_evidence: float
    chains: Chains

    @property
    def rhat(self) -> float:
        """Largest rank-normalised R-hat of all parameters; below 1.01 to 1.05 the chains agree."""
        return float(np.max(rank_rhat(self.chains.x.numpy())))

    def latent(self, u: Tensor) -> Tensor:
        """Draws of f at u with shape (m, d), with shape (s, m)."""
        return self.constant[:, None] + self.component_draws(u).sum(2)

    def component_draws(self, u: Tensor) -> Tensor:
        """Draws of the components at u, with shape (s, m, k)."""
        out, start = [], 0
        for component in self.components:
            part = self.coefficients[:, start : start + component.size]
            out.append(part @ component.features(u).T)
            start += component.size
        return torch.stack(out, 2)


@dataclass(frozen=True, eq=False)
class _Model:
    """The energy of an additive model as a function of its weights, which have standard normal priors."""

    components: tuple[Component, ...]
    features: Tensor
    y: Tensor
    observations: str
    exposure: Tensor

    @property
    def priors(self) -> tuple[Prior, ...]:
        own = tuple(prior for component in self.components for prior in component.kernel.priors)
        return own + ((_NOISE,) if self.observations == "gaussian" else ())

    def sds(self, theta: Tensor) -> Tensor:
        """Prior sds of all coefficients and of the constant, with shape (M + 1,)."""
        at, out = 0, []
        for component in self.components:
            count = len(component.numbers)
            log = theta[at : at + 1]
            if component.basis is not None:
                lengthscale = theta[at + 1 : at + 1 + count].exp()
                log = log + component.basis.log_weights(lengthscale)[0]  # type: ignore[arg-type]  # a tensor, for its gradient
            out.append((log.exp()[:, None] * torch.as_tensor(component.spreads)).reshape(-1))
            at += 1 + count
        return torch.cat([*out, theta.new_full((1,), _CONSTANT_SD)])

    def matrix(self, theta: Tensor) -> Tensor:
        """A, with shape (n, M + 1)."""
        return torch.cat([self.features, torch.ones_like(self.y)[:, None]], 1) * self.sds(theta)

    def misfit(self, f: Tensor, theta: Tensor) -> Tensor:
        """Negative log likelihood."""
        if self.observations == "gaussian":
            rest = (self.y - f) * (-theta[-1]).exp()
            return 0.5 * rest.square().sum() + len(self.y) * (theta[-1] + 0.5 * math.log(2.0 * math.pi))
        if self.observations == "poisson":
            log_rate = f + self.exposure.log()
            return (log_rate.exp() - self.y * log_rate + torch.lgamma(self.y + 1.0)).sum()
        return (torch.nn.functional.softplus(f) - self.y * f).sum()

    def slopes(self, f: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivatives of the misfit with respect to f, each with shape (n,)."""
        if self.observations == "gaussian":
            precision = (-2.0 * theta[-1]).exp()
            return (f - self.y) * precision, precision.expand_as(f)
        if self.observations == "poisson":
            rate = self.exposure * f.exp()
            return rate - self.y, rate
        share = torch.sigmoid(f)
        return share - self.y, share * (1.0 - share)

    def energy(self, z: Tensor, matrix: Tensor, theta: Tensor) -> Tensor:
        """Negative log posterior density of the weights, up to the constant of their prior."""
        return self.misfit(matrix @ z, theta) + 0.5 * z.square().sum()

    def step(self, z: Tensor, matrix: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Newton's step, and the Cholesky factor of the curvature."""
        slope, curvature = self.slopes(matrix @ z, theta)
        hessian = matrix.T @ (curvature[:, None] * matrix) + torch.eye(len(z), dtype=z.dtype)
        lower = torch.linalg.cholesky(hessian)
        return -torch.cholesky_solve((matrix.T @ slope + z)[:, None], lower)[:, 0], lower

    def mode(self, theta: Tensor) -> Tensor:
        """The weights with the largest density, by Newton steps halved until the energy falls: O(n M^2) each."""
        matrix = self.matrix(theta)
        z = matrix.new_zeros(matrix.shape[1])
        energy = self.energy(z, matrix, theta)
        for _ in range(_NEWTON):
            step, _ = self.step(z, matrix, theta)
            new = self.energy(z + step, matrix, theta)
            while not bool(new <= energy) and float(step.abs().max()) > 1e-12:
                step = 0.5 * step
                new = self.energy(z + step, matrix, theta)
            z, gain, energy = z + step, float(energy - new), new
            if gain < _AT_MODE:
                break
        return z

    def evidence(self, vector: Array, factor: float = 1.0) -> tuple[float, Array]:  # noqa: ARG002 - see ``optimise``
        """Negative log evidence in Laplace's approximation, and its gradient.

        One more Newton step with a constant curvature has the derivative of the mode itself.
        """
        with torch.no_grad():
            theta = torch.as_tensor(vector)
            z = self.mode(theta)
            lower = self.step(z, self.matrix(theta), theta)[1]
        theta = torch.as_tensor(vector).requires_grad_(True)
        matrix = self.matrix(theta)
        slope, _ = self.slopes(matrix @ z, theta)
        moved = z - torch.cholesky_solve((matrix.T @ slope + z)[:, None], lower)[:, 0]
        _, curvature = self.step(moved, matrix, theta)
        value = self.energy(moved, matrix, theta) + curvature.diagonal().log().sum()
        (gradient,) = torch.autograd.grad(value, theta)
        return float(value.detach()), gradient.numpy()


@dataclass(frozen=True, eq=False)
class _Whitened:
    """A model about the mode of its standard-normal weights z, in coordinates in which the curvature there is 1.

    Attributes:
        model: The model.
        theta: Its hyperparameters.
        mode: Mode of z, with shape (M + 1,).
        root: Square root of the inverse curvature: z = mode + root @ v.
        matrix: A @ root, with shape (n, M + 1).
        middle: A @ mode, with shape (n,).
    """

    model: _Model
    theta: Tensor
    mode: Tensor
    root: Tensor
    matrix: Tensor
    middle: Tensor

    @classmethod
    def of(cls, model: _Model, theta: Tensor) -> _Whitened:
        """The model about its mode."""
        matrix, mode = model.matrix(theta), model.mode(theta)
        lower = model.step(mode, matrix, theta)[1]
        root = torch.linalg.solve_triangular(lower.T, torch.eye(len(mode), dtype=mode.dtype), upper=True)
        return cls(model, theta, mode, root, matrix @ root, matrix @ mode)

    def energy(self, v: Tensor) -> Tensor:
        """Negative log density at v with shape (M + 1,), up to a constant."""
        f = self.middle + self.matrix @ v
        return self.model.misfit(f, self.theta) + 0.5 * (self.mode + self.root @ v).square().sum()

    def weights(self, v: Tensor) -> Tensor:
        """Weights of the features and the constant at v, each with shape (m, M + 1)."""
        return (self.mode + v @ self.root.T) * self.model.sds(self.theta)


def sample_weights(
    components: Sequence[Component],
    u: Tensor,
    y: Tensor,
    observations: str,
    *,
    generator: torch.Generator,
    exposure: Tensor | None = None,
    vector: Array | None = None,
    n_chains: int = 4,
    n_draws: int = 250,
    n_warmup: int = 100,
    n_leapfrog: int = 2,
) -> WeightDraws:
    """Draws of the weights of an additive model, at ``n_leapfrog`` products of O(n M) per draw.

    Args:
        components: Components with fixed tables (``ZeroSum``) for their categories.
        u: Columns, with shape (n, d).
        y: Observations, with shape (n,).
        observations: One of ``OBSERVATIONS``.
        generator: Draws the chains; on the CPU.
        exposure: Positive factors on the rates of counts, with shape (n,).
        vector: Concatenated log-hyperparameters of the components; with "gaussian" followed by the log noise sd, and
            all in units of the sd of y. None for the maximum of evidence times priors.
        n_chains: Number of chains, run as one batch.
        n_draws: Draws of each chain.
        n_warmup: Warm-up draws of each chain, which are discarded.
        n_leapfrog: Steps per trajectory, each of about 0.8 sds. Two make a quarter of a period, after which draws of a
            normal target are independent; four make half a period and lead to the mirror image.

    Raises:
        ValueError: If ``observations`` is unknown, values of y are impossible, or a table has hyperparameters.
        FloatingPointError: If the curvature cannot be factored.

    References:
        Rasmussen & Williams (2006), section 3.4; Riutort-Mayol et al. (2022), arXiv:2004.11408
    """
    parts = tuple(components)
    _check(parts, y, observations)
    level, unit = (float(y.mean()), float(y.std())) if observations == "gaussian" else (0.0, 1.0)
    features = torch.cat([component.features(u) for component in parts], 1)
    model = _Model(
        parts, features, (y - level) / unit, observations, torch.ones_like(y) if exposure is None else exposure
    )
    theta = _fit(model) if vector is None else np.asarray(vector, dtype=np.float64)
    value, _ = model.evidence(theta)
    about = _Whitened.of(model, torch.as_tensor(theta))
    start = torch.randn(n_chains, len(about.mode), dtype=torch.float64, generator=generator)
    lengths = {"n_draws": n_draws, "n_warmup": n_warmup, "n_leapfrog": n_leapfrog}
    chains = hmc(about.energy, start, generator=generator, step_size=0.4, **lengths)
    weights = about.weights(chains.draws) * unit
    noise, own = math.nan, theta
    if observations == "gaussian":
        noise, own = unit * math.exp(theta[-1]), theta[:-1]
    log_evidence = -value - len(y) * math.log(unit)
    return WeightDraws(parts, weights[:, :-1], level + weights[:, -1], own, noise, log_evidence, chains)


def _fit(model: _Model) -> Array:
    own = [component.kernel.vector() for component in model.components]
    start = np.concatenate([*own, [_NOISE.centre]] if model.observations == "gaussian" else own)
    return optimise.maximise(model.evidence, start, Priors.of(model.priors), tolerance=1e-7).vector


def _check(components: Sequence[Component], y: Tensor, observations: str) -> None:
    if observations not in OBSERVATIONS:
        msg = f"observations must be one of {OBSERVATIONS}, got {observations!r}"
        raise ValueError(msg)
    if learned := [part.name for part in components if any(table.size for table in part.tables)]:
        msg = f"sampling needs tables without hyperparameters, such as ZeroSum; components {learned} have others"
        raise ValueError(msg)
    if observations == "poisson" and not bool(((y >= 0.0) & (y == y.round())).all()):
        msg = "observations='poisson' needs counts 0, 1, 2, ..., got other values of y"
        raise ValueError(msg)
    if observations == "bernoulli" and not bool(((y == 0.0) | (y == 1.0)).all()):
        msg = "observations='bernoulli' needs values 0 and 1, got other values of y"
        raise ValueError(msg)
