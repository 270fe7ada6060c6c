"""Additive models by basis functions: one pass over the data, then O(M^3) for each value of the hyperparameters.

    y = s (F sqrt(P) b + sqrt(eta) e),    b ~ N(0, I),    e ~ N(0, I),

with the M functions F of all components, which do not depend on hyperparameters, and their prior covariance P. For any
n the evidence needs only the sums F^T F, F^T y and y.y over the data.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp import optimise
from surrogate.gp.additive import Component, Weights, total_kernel
from surrogate.gp.noise import Nugget
from surrogate.gp.parameters import LogNormal, Priors
from surrogate.gp.process import Process
from surrogate.gp.scales import scale_terms

__all__ = ["AdditiveBasis", "AdditivePosterior", "Sums", "fit_additive", "posterior_at"]

_BLOCK = 4_000_000  # features computed at a time: 32 MB in float64
_TRUNCATION = 0.1  # share of the prior variance that sines may miss inside the box
ETA = LogNormal(math.log(0.1), 3.0, 1e-8, 1e3)
"""Prior of the noise variance in units of the squared output scale."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over the data from which the evidence follows.

    Attributes:
        gram: F^T F, with shape (M, M).
        projection: F^T y, with shape (M,).
        totals: Sums of the functions over the points, with shape (M,).
        square: y.y.
        n: Number of points.
    """

    gram: Tensor
    projection: Tensor
    totals: Tensor
    square: float
    n: int

    @classmethod
    def of(cls, features: Callable[[Tensor], Tensor], u: Tensor, y: Tensor, size: int) -> Sums:
        """The sums, by one pass over the points in blocks: O(n M^2) time, O(M^2) memory plus a block of features."""
        gram, projection, totals = u.new_zeros(size, size), u.new_zeros(size), u.new_zeros(size)
        for index in torch.arange(len(u), device=u.device).split(max(1, _BLOCK // max(1, size))):
            f = features(u[index])
            gram.addmm_(f.T, f)
            projection.addmv_(f.T, y[index])
            totals += f.sum(0)
        return cls(gram, projection, totals, float(y.square().sum()), len(u))

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.gram + other.gram,
            self.projection + other.projection,
            self.totals + other.totals,
            self.square + other.square,
            self.n + other.n,
        )

    def without(self, other: Sums) -> Sums:
        """The sums over the points that are not in ``other``."""
        return Sums(
            self.gram - other.gram,
            self.projection - other.projection,
            self.totals - other.totals,
            self.square - other.square,
            self.n - other.n,
        )

    def chosen(self, index: Tensor) -> Sums:
        """The sums restricted to some of the functions."""
        return replace(
            self, gram=self.gram[index][:, index], projection=self.projection[index], totals=self.totals[index]
        )


@dataclass(frozen=True, eq=False)
class AdditiveBasis:
    """Components and the sums of their basis functions over the data.

    Its vector is the concatenated hyperparameters of the components, followed by log eta.

    Attributes:
        components: The components.
        sums: Sums over the data.
    """

    components: tuple[Component, ...]
    sums: Sums

    @classmethod
    def of(cls, components: Sequence[Component], u: Tensor, y: Tensor) -> AdditiveBasis:
        """The model after one pass over points u with shape (n, d) and values y with shape (n,): O(n M^2).

        Raises:
            ValueError: If there are no components.
        """
        parts = tuple(components)
        if not parts:
            msg = "an additive model needs a component, got none"
            raise ValueError(msg)
        size = sum(part.size for part in parts)
        return cls(parts, Sums.of(lambda rows: torch.cat([p.features(rows) for p in parts], 1), u, y, size))

    @cached_property
    def process(self) -> Process:
        """The exact process that the basis functions approximate, with the same hyperparameters and profiled scale."""
        return Process(total_kernel(self.components), noise=Nugget(0.1, fitted=True, prior=ETA), scale=None)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Slices of each component's functions."""
        ends = np.cumsum([component.size for component in self.components]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))

    @cached_property
    def _entries(self) -> tuple[slice, ...]:
        ends = np.cumsum([component.kernel.size for component in self.components]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))

    def vectors(self, vector: Array) -> list[Array]:
        """Entries of the vector for each component."""
        return [vector[entries] for entries in self._entries]

    def features(self, u: Tensor) -> Tensor:
        """All functions without weights, with shape (m, M)."""
        return torch.cat([component.features(u) for component in self.components], 1)

    def weights(self, vector: Array) -> list[Weights]:
        """Prior sds of the coefficients of each component.

        Raises:
            ValueError: If the box and the functions are not accurate for a lengthscale.
        """
        pairs = zip(self.components, self.vectors(vector), strict=True)
        return [component.weights(own, self.sums.gram) for component, own in pairs]

    def weighted(self, weights: Sequence[Weights], columns: Tensor) -> Tensor:
        """A matrix with shape (k, M) times sqrt(P)."""
        pairs = zip(weights, self.slices, strict=True)
        return torch.cat([weight.times(columns[:, part]) for weight, part in pairs], 1)

    def solve(self, vector: Array, factor: float = 1.0, sums: Sums | None = None) -> _Solution:
        """The coefficients at these hyperparameters and a factor on eta: O(M^3).

        Raises:
            torch.linalg.LinAlgError: If the matrix is not positive definite in floating point.
        """
        sums = self.sums if sums is None else sums
        weights, eta = self.weights(vector), factor * math.exp(vector[-1])
        z = self.weighted(weights, self.weighted(weights, sums.gram).T)
        projection = self.weighted(weights, sums.projection[None])[0]
        z.diagonal().add_(eta)
        lower = torch.linalg.cholesky(z)
        c = torch.cholesky_solve(projection[:, None], lower)[:, 0]
        q = max((sums.square - float(projection @ c)) / eta, 0.0)
        s2, terms, _ = scale_terms(q, sums.n, eta, None)
        log_determinant = (sums.n - len(c)) * math.log(eta) + 2.0 * float(lower.diagonal().log().sum())
        return _Solution(weights, lower, c, q, s2, eta, terms + 0.5 * log_determinant)

    def objective(self, vector: Array, factor: float = 1.0) -> tuple[float, Array]:
        """Negative log evidence with eta multiplied by a factor, and its gradient with shape (size,): O(M^3).

        With H = I - eta Z^-1 - c c^T / s^2, the derivative with respect to any parameter of P is half of the trace of H
        P^-1/2 dP P^-1/2.

        Raises:
            torch.linalg.LinAlgError: If the matrix is not positive definite in floating point.
        """
        found = self.solve(vector, factor)
        inverse = torch.cholesky_inverse(found.lower)
        eta, n, c = found.eta, self.sums.n, found.coefficients
        trace = float(inverse.diagonal().sum())
        by_eta = 0.5 * (n - len(c) + eta * trace + (float(c @ c) - found.q) / found.s2)
        h = inverse.mul_(-eta)
        h.diagonal().add_(1.0)
        h.addr_(c, c, alpha=-1.0 / found.s2)
        rows = zip(self.components, self.vectors(vector), found.weights, self.slices, strict=True)
        slopes = [component.pullback(own, weight, h[part, part]) for component, own, weight, part in rows]
        return found.value, np.concatenate([*slopes, [by_eta]])

    def condition(self, vector: Array | None = None) -> AdditivePosterior:
        """The posterior at these hyperparameters, by default those of ``process``.

        Warns where a lengthscale makes its evidence differ from that of the exact process, see ``Component.inexact``.

        Raises:
            ValueError: If the box and the functions are not accurate for a lengthscale.
            FloatingPointError: If the matrix cannot be factored with any noise.
        """
        own = self.process.vector() if vector is None else np.asarray(vector, dtype=np.float64)
        posterior = posterior_at(self, own)
        pairs = zip(self.components, self.vectors(own), strict=True)
        if reasons := [reason for component, part in pairs if (reason := component.inexact(part))]:
            msg = f"the evidence may differ from that of the exact process by more than 0.2 nats: {'; '.join(reasons)}"
            warnings.warn(msg, RuntimeWarning, stacklevel=2)
        return posterior

    def only(self, kept: Sequence[int]) -> AdditiveBasis:
        """The model with only some of the components, without a pass over the data."""
        parts = [np.arange(self.slices[k].start, self.slices[k].stop) for k in kept]
        index = torch.as_tensor(np.concatenate(parts), device=self.sums.gram.device)
        return AdditiveBasis(tuple(self.components[k] for k in kept), self.sums.chosen(index))


@dataclass(frozen=True, eq=False)
class _Solution:
    """Coefficients c of weighted functions and intermediate results; Z = L L^T, ``value`` is -log evidence."""

    weights: list[Weights]
    lower: Tensor
    coefficients: Tensor
    q: float
    s2: float
    eta: float
    value: float


@dataclass(frozen=True, eq=False)
class AdditivePosterior:
    """An additive model given data.

    Attributes:
        basis: Components and sums.
        vector: Log-hyperparameters.
    """

    basis: AdditiveBasis
    vector: Array
    _solution: _Solution

    @property
    def log_evidence(self) -> float:
        """Log marginal likelihood in nats."""
        return -self._solution.value

    @property
    def scale(self) -> float:
        """Output scale s."""
        return math.sqrt(self._solution.s2)

    @property
    def noise_variance(self) -> float:
        """s^2 eta."""
        return self._solution.s2 * self._solution.eta

    @property
    def status(self) -> str:
        """A description of how the linear system was solved."""
        sizes = len(self._solution.coefficients), len(self.basis.components)
        return f"{sizes[0]} basis functions of {sizes[1]} components, eta = {self._solution.eta:.3g}"

    def _weighted(self, u: Tensor) -> Tensor:
        return self.basis.weighted(self._solution.weights, self.basis.features(u))

    def mean(self, u: Tensor) -> Tensor:
        """Posterior mean at u with shape (m, d), with shape (m,): O(m M)."""
        return self._weighted(u) @ self._solution.coefficients

    def variance(self, u: Tensor) -> Tensor:
        """Posterior variance of the function without noise, with shape (m,): O(m M^2).

        If the functions miss more than a tenth of a component's prior variance, the missing part is added: all of it
        outside the box and for unseen categories. Sines miss a few percent everywhere.
        """
        f = self._weighted(u)
        half = torch.linalg.solve_triangular(self._solution.lower, f.T, upper=False)
        pairs = zip(self.basis.components, self.basis.vectors(self.vector), self.basis.slices, strict=True)
        missing = torch.zeros_like(f[:, 0])
        for component, own, part in pairs:
            lost = 1.0 - f[:, part].square().sum(1) / component.prior_variance(own, u)
            unknown = ((lost - _TRUNCATION) / (1.0 - _TRUNCATION)).clamp(min=0.0)
            missing += unknown * component.prior_variance(own, u)
        return self.noise_variance * half.square().sum(0) + self._solution.s2 * missing

    def component_means(self, u: Tensor) -> Tensor:
        """Posterior means of the components at u, with shape (m, k); they add up to the mean."""
        f, c = self._weighted(u), self._solution.coefficients
        return torch.stack([f[:, part] @ c[part] for part in self.basis.slices], 1)

    def component_variances(self, u: Tensor) -> Tensor:
        """Posterior variances of the components at u, without what the functions miss, with shape (m, k)."""
        f, inverse = self._weighted(u), torch.cholesky_inverse(self._solution.lower)
        parts = [((f[:, part] @ inverse[part, part]) * f[:, part]).sum(1) for part in self.basis.slices]
        return self.noise_variance * torch.stack(parts, 1)

    def explained(self) -> Array:
        """Variance over the data of the posterior mean of each component, with shape (k,), in units of y^2: O(M^2)."""
        c = self._solution.coefficients
        out = []
        for weight, part in zip(self._solution.weights, self.basis.slices, strict=True):
            rows = weight.times(torch.eye(part.stop - part.start, dtype=c.dtype, device=c.device)) @ c[part]
            sums = self.basis.sums
            mean = float(sums.totals[part] @ rows) / sums.n
            out.append(max(float(rows @ sums.gram[part, part] @ rows) / sums.n - mean**2, 0.0))
        return np.array(out)

    def shares(self) -> Array:
        """Shares of the components and, last, of the noise in the variance of the data, with shape (k + 1,).

        They add up to one. Components with common columns are correlated over the data; a share is the component's own
        variance divided by the sum of all variances.
        """
        variances = np.append(self.explained(), self.noise_variance)
        return variances / variances.sum()

    def squared_error(self, sums: Sums) -> float:
        """Mean squared error over points given by their sums: O(M^2)."""
        rows = self.coefficients()
        total = sums.square - 2.0 * float(sums.projection @ rows) + float(rows @ sums.gram @ rows)
        return max(total, 0.0) / sums.n

    def coefficients(self) -> Tensor:
        """Posterior means of the coefficients of the functions without weights, with shape (M,)."""
        c = self._solution.coefficients
        parts = []
        for weight, part in zip(self._solution.weights, self.basis.slices, strict=True):
            r = len(weight.lower)
            parts.append(((c[part].reshape(-1, r) @ weight.lower.T) * weight.log.exp()[:, None]).reshape(-1))
        return torch.cat(parts)


def posterior_at(basis: AdditiveBasis, vector: Array) -> AdditivePosterior:
    """The posterior of the model of basis functions at these hyperparameters; no warning about its accuracy.

    Raises:
        ValueError: If the box and the functions are not accurate for a lengthscale.
        FloatingPointError: If the matrix cannot be factored with any noise.
    """
    return AdditivePosterior(basis, vector, optimise.rescue(lambda factor: basis.solve(vector, factor)).value)


def fit_additive(basis: AdditiveBasis, *, start: Array | None = None, max_evaluations: int = 100) -> AdditivePosterior:
    """The posterior at the maximum of evidence times priors, found by L-BFGS-B: O(M^3) per evaluation.

    Args:
        basis: Components, and sums over centred data.
        start: Initial vector, with shape (size,); by default that of the process.
        max_evaluations: Limit of the optimiser.

    Raises:
        FloatingPointError: If the matrix cannot be factored with any noise.
    """
    process = basis.process
    begin = process.vector() if start is None else start
    found = optimise.maximise(
        basis.objective, begin, Priors.of(process.priors), max_evaluations=max_evaluations, tolerance=1e-7
    )
    return posterior_at(basis, found.vector)
