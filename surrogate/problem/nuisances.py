"""Amplitudes of templates with normal priors, which a run integrates out and draws at its end.

With data y, outputs f, templates T and amplitudes a ~ N(m, S) the whitened residual is r + T^T a. The likelihood with a
integrated out is that of Gaussian data with a larger covariance; given the outputs a is normal with precision
S^-1 + T T^T and mean (S^-1 + T T^T)^-1 (S^-1 m - T r).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from surrogate.arrays import Array, Indices
from surrogate.problem.dataset import OK, Dataset
from surrogate.problem.gaussian_data import GaussianData
from surrogate.problem.observables import BoundObservables
from surrogate.problem.prior import Prior
from surrogate.problem.target import Posterior

__all__ = ["Nuisances"]


@dataclass(frozen=True, eq=False)
class Nuisances:
    """The p amplitudes of a target that are integrated out.

    Attributes:
        posterior: The target with all d parameters.
        columns: Positions of the amplitudes among these, with shape (p,).
    """

    posterior: Posterior
    columns: Indices

    @classmethod
    def of(cls, posterior: Posterior) -> Nuisances | None:
        """The amplitudes with normal priors; None if there are none."""
        target = posterior.observables
        if target is None or not isinstance(target.target.compare, GaussianData):
            return None
        normal = np.isfinite(posterior.prior.normal).all(1)
        normal[target.columns] = False
        for columns in posterior.prior.orders:  # the integral of one that is in an order is not that of a normal
            normal[columns] = False
        names = target.target.compare.templates
        columns = np.array([j for j, name in enumerate(target.names) if normal[j] and name in names], dtype=np.int64)
        return cls(posterior, columns) if len(columns) else None

    @property
    def target(self) -> BoundObservables:
        """Simulator and comparison, with all parameters."""
        if self.posterior.observables is None:
            msg = "amplitudes need a target with a simulator"
            raise TypeError(msg)
        return self.posterior.observables

    @property
    def data(self) -> GaussianData:
        """The data, with all templates."""
        data: GaussianData = self.target.target.compare  # type: ignore[assignment]  # see ``of``
        return data

    @property
    def kept(self) -> Indices:
        """Positions of the other parameters."""
        return np.setdiff1d(np.arange(self.posterior.prior.d), self.columns)

    @cached_property
    def marginal(self) -> Posterior:
        """The target with the amplitudes integrated out."""
        prior, target = self.posterior.prior, self.target
        priors = {prior.names[j]: (mean, sd) for j, (mean, sd) in zip(self.columns, self._normal, strict=True)}
        slow = [target.names[j] for j in target.columns]
        other = replace(target.target, compare=self.data.integrated(priors), slow=slow)
        return Posterior(other, Prior(tuple(prior.parameters[j] for j in self.kept)))

    @property
    def _normal(self) -> Array:
        """Mean and sd of the prior of each amplitude, with shape (p, 2)."""
        return self.posterior.prior.normal[self.columns]

    @cached_property
    def rows(self) -> Array:
        """Whitened templates of the amplitudes, with shape (p, M)."""
        names = [self.target.names[j] for j in self.columns]
        return self.data.template_rows[[self.data.templates.index(name) for name in names]]

    @cached_property
    def _factor(self) -> Array:
        """Lower Cholesky factor of the precision of the amplitudes given the outputs, with shape (p, p)."""
        precision = np.diag(self._normal[:, 1] ** -2) + self.rows @ self.rows.T
        return np.asarray(np.linalg.cholesky(precision), dtype=np.float64)

    def mean(self, products: Array) -> Array:
        """Means of the amplitudes given products r T^T of whitened residuals and templates; both have shape (m, p)."""
        mean, sd = self._normal.T
        return np.asarray(cho_solve((self._factor, True), (mean / sd**2 - products).T).T)

    def draw(self, products: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """Random amplitudes given such products, both with shape (m, p), and their log densities, with shape (m,)."""
        normal = rng.standard_normal(products.shape)
        a = self.mean(products) + solve_triangular(self._factor, normal.T, lower=True, trans="T").T
        constant = np.log(np.diag(self._factor)).sum() - 0.5 * len(self.columns) * np.log(2.0 * np.pi)
        return a, constant - 0.5 * (normal**2).sum(1)

    def joined(self, x: Array, amplitudes: Array) -> Array:
        """All parameters, with shape (m, d), from the others and the amplitudes."""
        out = np.empty((len(x), self.posterior.prior.d))
        out[:, self.kept], out[:, self.columns] = x, amplitudes
        return out

    def covers(self, data: Dataset) -> bool:
        """Whether the amplitudes can be integrated out: each evaluation with a finite value needs its outputs."""
        return bool(data.has_outputs[data.finite].all())

    def reduced(self, data: Dataset) -> Dataset:
        """Evaluations of the full target, converted to those of the marginal target."""
        return self._valued(_at(data, data.x[:, self.kept]), self.marginal)

    def expanded(self, data: Dataset) -> Dataset:
        """Evaluations of the marginal target with the most probable amplitudes, and the log-likelihood there."""
        a = np.repeat(self._normal[None, :, 0], len(data), axis=0)
        rows = data.has_outputs
        if rows.any() and data.layout is not None:
            outputs = data.outputs[rows][:, self.data.columns(data.layout)]
            a[rows] = self.mean(self._residual(outputs, data.x[rows]) @ self.rows.T)
        return self._valued(_at(data, self.joined(data.x, a)), self.posterior)

    def _residual(self, outputs: Array, x: Array) -> Array:
        """Whitened residuals of outputs with shape (m, M), without the templates that are integrated out."""
        out = self.data.whitened(outputs - self.data.y)
        prior = self.marginal.prior
        for name, row in zip(self.data.templates, self.data.template_rows, strict=True):
            if name in prior.names:
                out += x[:, prior.names.index(name), None] * row
        return out

    @staticmethod
    def _valued(data: Dataset, posterior: Posterior) -> Dataset:
        """The evaluations with log-likelihoods computed by a target, in place of those recorded with the outputs."""
        rows, target = data.has_outputs & (data.status == OK), posterior.observables
        if target is None or data.layout is None or not rows.any():
            return data
        y = data.y.copy()
        y[rows] = target.compare(data.layout, data.outputs[rows], data.x[rows])
        return replace(data, y=y)


def _at(data: Dataset, x: Array) -> Dataset:
    """The evaluations at other parameters x with shape (n, e), without derivatives."""
    return replace(data, x=x, gradient=np.full(x.shape, np.nan))
