"""Data with Gaussian errors, to be compared with a simulator's outputs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular

from surrogate.arrays import Array, Indices
from surrogate.problem.outputs import Layout

__all__ = ["GaussianData"]


class GaussianData:
    """The log-likelihood -chi^2 / 2 of outputs f, with chi^2 = (f - y)^T C^-1 (f - y), without a constant.

    With templates the data are compared with f + sum_j a_j T_j, where a_j is a (fast) parameter: nuisance amplitudes
    such as foregrounds then cost nothing. Those with a normal prior are integrated out while a run works, and drawn
    from their exact posterior at its end. The covariance is factored once, in O(M^3 / 3) for M numbers.

    Attributes:
        names: Outputs that are compared, ("",) for a simulator that returns a single array.
        size: Number M of data.
        templates: Names of the parameters that multiply templates, p of them.
        vectorized: True: it takes many points in one call.
        constant: What is added to -chi^2 / 2: 0, or the log-determinant of templates that are integrated out.

    >>> data = GaussianData([1.0, 2.0], [0.25, 0.25])
    >>> float(data(np.array([1.0, 2.5]), {}))
    -0.5
    """

    vectorized = True

    def __init__(self, y: Any, covariance: Any, *, templates: Mapping[str, Any] | None = None) -> None:
        """Data, their covariance, and templates.

        Args:
            y: The data, an array with the shape of the output, or a dict of arrays by the names of outputs. Outputs
                that are not in the dict are not compared.
            covariance: Covariance of the M numbers in y, with shape (M, M), or their variances, with shape (M,). If y
                is a dict it may be a dict of either, for independent outputs.
            templates: For each template parameter, by name, what a unit of it adds to the output, in the form of y.

        Raises:
            ValueError: If shapes do not fit, numbers are not finite, or a covariance is not positive definite.
        """
        named = y if isinstance(y, Mapping) else {"": y}
        self.names = tuple(named)
        self._shapes = {name: np.shape(values) for name, values in named.items()}
        self._y = {name: _finite(values, "the data").ravel() for name, values in named.items()}
        self.size = sum(map(len, self._y.values()))
        if isinstance(covariance, Mapping):
            if missing := [name for name in self.names if name not in covariance]:
                msg = f"a dict of covariances needs one for each output; missing: {', '.join(missing)}"
                raise ValueError(msg)
            self._blocks = tuple(_Block((name,), _factor(covariance[name], len(self._y[name]))) for name in self.names)
        else:
            self._blocks = (_Block(self.names, _factor(covariance, self.size)),)
        self.templates = tuple(templates or ())
        self._templates = [self._template(name, values) for name, values in (templates or {}).items()]
        self._integrals: tuple[_Integral, ...] = ()
        self.constant = 0.0

    def integrated(self, priors: Mapping[str, tuple[float, float]]) -> GaussianData:
        """The data with the amplitudes of some templates integrated out over independent normal priors.

        Their covariance grows by sd^2 T T^T for each template T, and their mean moves by that of the prior. O(p^2 M).

        Args:
            priors: Mean and sd of the prior of each amplitude, by name.

        Raises:
            ValueError: If a name is not among the templates.
        """
        if missing := [name for name in priors if name not in self.templates]:
            msg = f"templates are {', '.join(self.templates) or 'none'}; not among them: {', '.join(missing)}"
            raise ValueError(msg)
        out = copy.copy(self)
        for name in ("y", "sd", "template_rows"):  # of this object, cached
            vars(out).pop(name, None)
        rows = [row for name, row in zip(self.templates, self._templates, strict=True) if name in priors]
        mean, sd = np.array([priors[name] for name in self.templates if name in priors]).reshape(-1, 2).T
        y = self.y - mean @ np.array(rows).reshape(-1, self.size)
        ends = np.cumsum([len(self._y[name]) for name in self.names])[:-1]
        out._y = dict(zip(self.names, np.split(y, ends), strict=True))
        kept = [(n, row) for n, row in zip(self.templates, self._templates, strict=True) if n not in priors]
        out.templates, out._templates = tuple(n for n, _ in kept), [row for _, row in kept]
        integral = _Integral.of(self.whitened(sd[:, None] * np.array(rows)), sd[:, None] * np.array(rows))
        out._integrals, out.constant = (*self._integrals, integral), self.constant + integral.constant
        return out

    def __call__(self, observables: Any, parameters: Mapping[str, Any]) -> Array | float:
        """Log-likelihood of outputs, with shape (m,) for outputs with a leading axis of m, a float without it.

        Args:
            observables: Outputs as the simulator returns them, with or without a leading axis.
            parameters: All parameters by name; only template parameters are used.

        Raises:
            ValueError: If an output is missing or has another shape than the data.
        """
        parts, single = [], False
        for name, (shape, y) in ((n, (self._shapes[n], self._y[n])) for n in self.names):
            values = np.asarray(_part(observables, name), dtype=np.float64)
            single = values.shape == shape
            if not single and values.shape[1:] != shape:
                msg = f"the output {name!r} must have the shape {shape} of the data, got {values.shape}"
                raise ValueError(msg)
            parts.append(values.reshape(1 if single else len(values), -1) - y)
        residual = np.concatenate(parts, axis=1)
        for name, template in zip(self.templates, self._templates, strict=True):
            residual = residual + np.asarray(parameters[name], dtype=np.float64).reshape(-1, 1) * template
        with np.errstate(over="ignore"):
            out = self.constant - 0.5 * (self.whitened(residual) ** 2).sum(1)
        return float(out[0]) if single else out

    def columns(self, layout: Layout) -> Indices:
        """Positions of the compared numbers in the vector of all outputs, with shape (M,).

        Raises:
            ValueError: If the simulator does not return the compared outputs.
        """
        of_single = self.names == ("",) and len(layout.names) == 1
        out = []
        for name in self.names:
            known = layout.names[0] if of_single else name
            if known not in layout.names or layout.shapes[layout.names.index(known)] != self._shapes[name]:
                have = dict(zip(layout.names, layout.shapes, strict=True))
                msg = f"the data {name!r} have the shape {self._shapes[name]}, but the simulator returns {have}"
                raise ValueError(msg)
            out.append(np.arange(layout.size)[layout.columns[known]])
        return np.concatenate(out)

    @cached_property
    def y(self) -> Array:
        """All data, with shape (M,)."""
        return np.concatenate([self._y[name] for name in self.names])

    @cached_property
    def sd(self) -> Array:
        """Standard deviations of the data, with shape (M,)."""
        variance = np.concatenate([block.sd for block in self._blocks]) ** 2
        return np.asarray(np.sqrt(variance + sum((part.rows**2).sum(0) for part in self._integrals)))

    @cached_property
    def template_rows(self) -> Array:
        """Change of the whitened residual per unit of each template parameter, with shape (p, M)."""
        return self.whitened(np.array(self._templates).reshape(len(self._templates), self.size))

    def whitened(self, residual: Array) -> Array:
        """Residuals with shape (n, M), transformed so that their errors are independent with unit variance."""
        out, start = np.empty(residual.shape), 0
        for block in self._blocks:
            stop = start + len(block.sd)
            out[:, start:stop] = block.whitened(residual[:, start:stop])
            start = stop
        for part in self._integrals:
            out = part.scaled(out, part.shrink)
        return out

    def correlated(self, rows: Array) -> Array:
        """The inverse of ``whitened``: residuals with shape (n, M) from whitened ones."""
        for integral in reversed(self._integrals):
            rows = integral.scaled(rows, 1.0 / integral.shrink)
        out, start = np.empty(rows.shape), 0
        for block in self._blocks:
            stop = start + len(block.sd)
            part = rows[:, start:stop]
            out[:, start:stop] = part * block.factor if block.factor.ndim == 1 else part @ block.factor.T
            start = stop
        return out

    def _template(self, name: str, values: Any) -> Array:
        named = values if isinstance(values, Mapping) else {"": values}
        if any(np.shape(part) != self._shapes.get(key) for key, part in named.items()):
            have = {key: np.shape(part) for key, part in named.items()}
            msg = f"the template of {name!r} must have the shapes of the data, {self._shapes}, got {have}"
            raise ValueError(msg)
        zero = {key: np.zeros(shape) for key, shape in self._shapes.items()}
        return np.concatenate([_finite(part, "a template").ravel() for part in (zero | dict(named)).values()])


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of data that is independent of all others.

    Attributes:
        names: Outputs in the block.
        factor: Lower Cholesky factor of the covariance, or the sds.
    """

    names: tuple[str, ...]
    factor: Array

    @property
    def sd(self) -> Array:
        return self.factor if self.factor.ndim == 1 else np.sqrt((self.factor**2).sum(1))

    def whitened(self, residual: Array) -> Array:
        if self.factor.ndim == 1:
            return residual / self.factor
        return np.asarray(solve_triangular(self.factor, residual.T, lower=True, check_finite=False).T)


@dataclass(frozen=True, eq=False)
class _Integral:
    """Templates that are integrated out, in units of the sds of their amplitudes.

    Attributes:
        rows: The templates, with shape (k, M).
        basis: Orthonormal directions of the whitened templates, with shape (M, k).
        shrink: Factors on whitened residuals along these, with shape (k,).
    """

    rows: Array
    basis: Array
    shrink: Array

    @classmethod
    def of(cls, white: Array, rows: Array) -> _Integral:
        """From whitened templates and the templates themselves, both with shape (k, M)."""
        basis, size, _ = np.linalg.svd(white.T, full_matrices=False)
        return cls(rows, basis, 1.0 / np.sqrt(1.0 + size**2))

    @property
    def constant(self) -> float:
        """Half the log of the ratio of the determinants of both covariances."""
        return float(np.log(self.shrink).sum())

    def scaled(self, residual: Array, factor: Array) -> Array:
        """Residuals with shape (n, M), multiplied along the basis by factors with shape (k,)."""
        return np.asarray(residual + ((residual @ self.basis) * (factor - 1.0)) @ self.basis.T)


def _part(observables: Any, name: str) -> Any:
    """An output by name, or the single output."""
    if not isinstance(observables, Mapping):
        if name != "":
            msg = f"the data name the output {name!r}, but the simulator returns a single array"
            raise ValueError(msg)
        return observables
    if name == "" and len(observables) == 1:
        return next(iter(observables.values()))
    if name not in observables:
        msg = f"there is no output {name!r}; the simulator returns {', '.join(map(repr, observables))}"
        raise ValueError(msg)
    return observables[name]


def _finite(values: ArrayLike, what: str) -> Array:
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        msg = f"{what} must be finite numbers"
        raise ValueError(msg)
    return array


def _factor(covariance: ArrayLike, size: int) -> Array:
    """Sds of independent data, or the lower Cholesky factor of a covariance."""
    array = _finite(covariance, "a covariance")
    if array.shape == (size,):
        if (array <= 0.0).any():
            msg = "variances must be positive"
            raise ValueError(msg)
        return np.sqrt(array)
    if array.shape != (size, size):
        msg = f"the covariance of {size} numbers must have shape ({size}, {size}) or ({size},), got {array.shape}"
        raise ValueError(msg)
    try:
        return np.asarray(np.linalg.cholesky(0.5 * (array + array.T)), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        msg = "the covariance is not positive definite"
        raise ValueError(msg) from error
