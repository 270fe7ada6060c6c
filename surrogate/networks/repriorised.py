"""Wide Bayesian networks sampled in coordinates in which the posterior is close to the prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.func import vmap
from torch.nn import functional

from surrogate.rng import torch_generator
from surrogate.samplers.hamiltonian import Chains, hmc, preconditioned_crank_nicolson

__all__ = ["RepriorisedBNN", "RepriorisedDraws", "WideNetwork"]

Form = Literal["auto", "primal", "dual"]
Method = Literal["hmc", "pcn"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "erf": torch.erf,
}


@dataclass(frozen=True)
class WideNetwork:
    """A network with equal hidden layers and one output; its parameters have standard normal priors.

    z_1 = c V_1 x + b_sd b_1 with c = weight_sd / sqrt(inputs), z_{l+1} = c V_{l+1} act(z_l) + b_sd b_{l+1} with c =
    weight_sd / sqrt(width), plus z_l itself if ``residual``. The output is a linear function of the row of features psi
    = (c act(z_L), b_sd). In the limit of infinite width it is a Gaussian process, the NNGP.

    Attributes:
        inputs: Columns d.
        width: Width of every hidden layer.
        depth: Number of hidden layers, at least 1.
        activation: "gelu", "relu", "tanh" or "erf".
        weight_sd: Prior standard deviation of weights, times the square root of the layer's number of inputs.
        bias_sd: Prior standard deviation of biases.
        residual: Whether hidden layers after the first have residual connections.
    """

    inputs: int
    width: int
    depth: int = 1
    activation: str = "gelu"
    weight_sd: float = math.sqrt(2.0)
    bias_sd: float = 0.1
    residual: bool = False

    def __post_init__(self) -> None:
        if min(self.inputs, self.width, self.depth) < 1:
            msg = "inputs, width and depth must be at least 1, "
            msg += f"got {self.inputs}, {self.width} and {self.depth}"
            raise ValueError(msg)
        if self.activation not in _ACTIVATIONS:
            msg = f"activation must be one of {', '.join(_ACTIVATIONS)}, got {self.activation!r}"
            raise ValueError(msg)
        if not (self.weight_sd > 0 and self.bias_sd >= 0):
            msg = f"weight_sd must be positive and bias_sd not negative, got {self.weight_sd} and {self.bias_sd}"
            raise ValueError(msg)

    @property
    def n_hidden(self) -> int:
        """Number of parameters of the hidden layers."""
        return sum(rows * columns + rows for rows, columns in self._shapes())

    @property
    def n_readout(self) -> int:
        """Number of parameters of the output layer, including its bias."""
        return self.width + 1

    def features(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The features psi, with shape (n, width + 1), at x with shape (n, d); ``hidden`` has shape (n_hidden,)."""
        act, z = _ACTIVATIONS[self.activation], x
        for number, (weight, bias) in enumerate(self._layers(hidden)):
            given = act(z) if number else z
            scale = self.weight_sd / math.sqrt(weight.shape[1])
            new = scale * given @ weight.T + self.bias_sd * bias
            z = z + new if self.residual and number else new
        psi = self.weight_sd / math.sqrt(self.width) * act(z)
        return torch.cat([psi, torch.full_like(psi[:, :1], self.bias_sd)], 1)

    def _shapes(self) -> list[tuple[int, int]]:
        return [(self.width, self.inputs)] + [(self.width, self.width)] * (self.depth - 1)

    def _layers(self, hidden: Tensor) -> list[tuple[Tensor, Tensor]]:
        sizes = [size for rows, columns in self._shapes() for size in (rows * columns, rows)]
        parts = hidden.split(sizes)
        shapes = self._shapes()
        return [(parts[2 * k].view(shape), parts[2 * k + 1]) for k, shape in enumerate(shapes)]


@dataclass(frozen=True, eq=False)
class RepriorisedBNN:
    """The posterior of a wide network given data with normal noise of known size.

    In the new coordinates phi, those of the hidden layers are the parameters themselves, and those of the readout (the
    output layer) whiten its exact normal posterior given the hidden layers. The energy is then

        |phi|^2 / 2 + y' K^-1 y / 2 + log det K / 2,    K = Psi Psi' + noise^2 I,

    with the features Psi of the rows. The readout is standard normal and independent of the rest, so only the hidden
    layers need a Markov chain. As the width grows their energy tends to |phi|^2 / 2 plus a constant, so the posterior
    approaches the prior, which is easy to sample. The map is exact at every width.

    One evaluation costs O(n w min(n, w)) for the features' Gram matrix and O(min(n, w)^3), which suits up to about 2000
    rows. Use double precision.

    Attributes:
        network: The network and its prior.
        x: Inputs, with shape (n, d).
        y: Targets, with shape (n,), centred on 0 and on the scale of the prior.
        noise: Standard deviation of the noise.
        form: "primal" factors the matrix of the readout, (w + 1) x (w + 1), "dual" that of the rows, n x n; "auto"
            the smaller one. The readout's coordinates differ between the two by a rotation.

    Raises:
        ValueError: If shapes disagree, the noise is not positive, or a value is not finite.

    References:
        Hron, Novak, Pennington & Sohl-Dickstein (2022), https://arxiv.org/abs/2206.07673. The dual form is not in the
        paper; it uses the square root of a posterior covariance by Andrews (1968), doi:10.2514/3.4728. The paper
        samples the readout with the rest; here it is drawn exactly.
    """

    network: WideNetwork
    x: Tensor
    y: Tensor
    noise: float
    form: Form = "auto"

    def __post_init__(self) -> None:
        n = len(self.x)
        if self.x.ndim != 2 or self.x.shape[1] != self.network.inputs or self.y.shape != (n,) or n == 0:
            msg = f"x and y must have shapes (n, {self.network.inputs}) and (n,), "
            msg += f"got {tuple(self.x.shape)} and {tuple(self.y.shape)}"
            raise ValueError(msg)
        if not (bool(self.x.isfinite().all()) and bool(self.y.isfinite().all())):
            msg = "x and y must be finite"
            raise ValueError(msg)
        if not self.noise > 0:
            msg = f"noise must be positive, got {self.noise}"
            raise ValueError(msg)
        if self.form not in {"auto", "primal", "dual"}:
            msg = f"form must be 'auto', 'primal' or 'dual', got {self.form!r}"
            raise ValueError(msg)

    @property
    def dual(self) -> bool:
        """Whether the n x n matrix of the rows is factored."""
        return self.form == "dual" or (self.form == "auto" and len(self.x) < self.network.n_readout)

    @property
    def n_parameters(self) -> int:
        """Number of coordinates D: those of the hidden layers, then those of the readout."""
        return self.network.n_hidden + self.network.n_readout

    def potential(self, hidden: Tensor) -> Tensor:
        """Negative log marginal likelihood of hidden parameters with shape (n_hidden,), minus n log(2 pi) / 2.

        Infinite where the factorisation fails.
        """
        psi = self.network.features(hidden, self.x)
        return (self._dual_evidence if self.dual else self._primal_evidence)(psi)

    def energy(self, phi: Tensor) -> Tensor:
        """Negative log posterior density at new coordinates with shape (D,), up to a constant."""
        return 0.5 * phi.square().sum() + self.potential(phi[: self.network.n_hidden])

    def energy_of_parameters(self, theta: Tensor) -> Tensor:
        """Negative log posterior density at original parameters with shape (D,), up to a constant."""
        hidden, readout = self._split(theta)
        residual = self.y - self.network.features(hidden, self.x) @ readout
        return 0.5 * theta.square().sum() + 0.5 * residual.square().sum() / self.noise**2

    def parameters(self, phi: Tensor) -> Tensor:
        """The network's parameters at new coordinates, each with shape (D,)."""
        hidden, whitened = self._split(phi)
        psi = self.network.features(hidden, self.x)
        return torch.cat([hidden, (self._dual_readout if self.dual else self._primal_readout)(psi, whitened)])

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """Outputs of the network, with shape (m,), for parameters with shape (D,) at inputs with shape (m, d)."""
        hidden, readout = self._split(theta)
        return self.network.features(hidden, x) @ readout

    def log_jacobian(self, phi: Tensor) -> Tensor:
        """Log determinant of the Jacobian of the map from new coordinates to parameters."""
        psi = self.network.features(self._split(phi)[0], self.x)
        lam = self.noise**2
        if self.dual:
            factor = _factor(psi @ psi.T, lam)[0]
            return len(self.x) * math.log(self.noise) - factor.diagonal().log().sum()
        factor = _factor(psi.T @ psi, lam)[0]
        return self.network.n_readout * math.log(self.noise) - factor.diagonal().log().sum()

    def sample(
        self,
        *,
        n_draws: int = 250,
        n_chains: int = 8,
        n_warmup: int = 200,
        method: Method = "hmc",
        n_steps: int = 8,
        seed: int = 0,
    ) -> RepriorisedDraws:
        """Draws of the posterior from Markov chains that start at draws of the prior.

        Args:
            n_draws: Draws of each chain.
            n_chains: Number of chains, run as one batch.
            n_warmup: Warm-up draws of each chain, which tune the step size and are discarded.
            method: "hmc", or "pcn" for preconditioned Crank-Nicolson, which needs no gradients and suits very wide
                networks.
            n_steps: Leapfrog steps, or proposals, per draw.
            seed: Seed of all random numbers.
        """
        stream = torch_generator(seed, "repriorised", device=self.x.device)
        start = self._normal((n_chains, self.network.n_hidden), stream)
        if method == "hmc":
            chains = hmc(
                lambda hidden: 0.5 * hidden.square().sum() + self.potential(hidden),
                start,
                n_draws=n_draws,
                n_warmup=n_warmup,
                n_leapfrog=n_steps,
                generator=stream,
            )
        elif method == "pcn":
            chains = preconditioned_crank_nicolson(
                self.potential, start, n_draws=n_draws, n_warmup=n_warmup * n_steps, thin=n_steps, generator=stream
            )
        else:
            msg = f"method must be 'hmc' or 'pcn', got {method!r}"
            raise ValueError(msg)
        return RepriorisedDraws(self, chains, self._normal((n_draws, n_chains, self.network.n_readout), stream))

    def _normal(self, shape: tuple[int, ...], stream: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=stream, dtype=self.x.dtype, device=self.x.device)

    def _split(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        return vector[: self.network.n_hidden], vector[self.network.n_hidden :]

    def _dual_evidence(self, psi: Tensor) -> Tensor:
        factor, failed = _factor(psi @ psi.T, self.noise**2)
        half = _solve(factor, self.y[:, None])
        value = 0.5 * half.square().sum() + factor.diagonal().log().sum()
        return torch.where(failed, torch.inf, value)

    def _primal_evidence(self, psi: Tensor) -> Tensor:
        factor, failed = _factor(psi.T @ psi, self.noise**2)
        half = _solve(factor, (psi.T @ self.y)[:, None])
        fit = 0.5 * (self.y.square().sum() - half.square().sum()) / self.noise**2
        spare = len(self.x) - self.network.n_readout
        value = fit + factor.diagonal().log().sum() + spare * math.log(self.noise)
        return torch.where(failed, torch.inf, value)

    def _primal_readout(self, psi: Tensor, whitened: Tensor) -> Tensor:
        factor, _ = _factor(psi.T @ psi, self.noise**2)
        half = _solve(factor, (psi.T @ self.y)[:, None])
        right = self.noise * whitened[:, None] + half
        return torch.linalg.solve_triangular(factor.T, right, upper=True).squeeze(1)

    def _dual_readout(self, psi: Tensor, whitened: Tensor) -> Tensor:
        """Psi' K^-1 y + (I - Psi' L^-T (L + noise I)^-1 Psi) phi with K = L L'."""
        factor, _ = _factor(psi @ psi.T, self.noise**2)
        shifted = factor + self.noise * torch.eye(len(factor), dtype=factor.dtype, device=factor.device)
        right = _solve(factor, self.y[:, None]) - _solve(shifted, (psi @ whitened)[:, None])
        return whitened + psi.T @ torch.linalg.solve_triangular(factor.T, right, upper=True).squeeze(1)


@dataclass(frozen=True, eq=False)
class RepriorisedDraws:
    """Draws of the posterior of a wide network.

    Attributes:
        model: The posterior.
        chains: Draws of the hidden layers' parameters.
        whitened: Draws of the readout's coordinates, with shape (s, chains, width + 1).
    """

    model: RepriorisedBNN
    chains: Chains
    whitened: Tensor

    @cached_property
    def parameters(self) -> Tensor:
        """Draws of all parameters, with shape (s, chains, D)."""
        phi = torch.cat([self.chains.x, self.whitened], 2)
        return vmap(vmap(self.model.parameters), chunk_size=_CHUNK)(phi)

    def outputs(self, x: Tensor) -> Tensor:
        """Draws of the function at inputs with shape (m, d), with shape (s, chains, m), for checks of convergence."""
        return vmap(vmap(lambda theta: self.model.outputs(theta, x)), chunk_size=_CHUNK)(self.parameters)

    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance of the function at inputs with shape (m, d), each with shape (m,).

        The readout is integrated exactly for each draw of the hidden layers. The variance excludes the noise.
        """
        means, variances = vmap(lambda hidden: self._conditional(hidden, x), chunk_size=_CHUNK)(self.chains.draws)
        return means.mean(0), variances.mean(0) + means.var(0, correction=0)

    def _conditional(self, hidden: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the function given the hidden layers."""
        model, lam = self.model, self.model.noise**2
        psi, new = (model.network.features(hidden, points) for points in (model.x, x))
        if model.dual:
            factor, _ = _factor(psi @ psi.T, lam)
            half = _solve(factor, psi @ new.T)
            return half.T @ _solve(factor, model.y[:, None])[:, 0], new.square().sum(1) - half.square().sum(0)
        factor, _ = _factor(psi.T @ psi, lam)
        half = _solve(factor, new.T)
        return half.T @ _solve(factor, (psi.T @ model.y)[:, None])[:, 0], lam * half.square().sum(0)


_CHUNK = 64  # draws at a time: a few hundred megabytes for 1000 rows of width 512


def _factor(gram: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Lower Cholesky factor of gram + lam I, and whether the factorisation failed."""
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, info = torch.linalg.cholesky_ex(gram + lam * eye)
    return factor, info != 0


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(factor, right, upper=False)
