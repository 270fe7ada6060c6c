"""Fits of ``GPRegressor`` to tables with categories: a process of all columns and an additive model."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from surrogate.arrays import Array
from surrogate.estimators.scales import location_and_scale
from surrogate.estimators.tables import Columns
from surrogate.gp.additive_basis import AdditivePosterior
from surrogate.gp.additive_reduction import Reduction
from surrogate.gp.categories import CategoryKernel
from surrogate.gp.composition import Kernel
from surrogate.gp.mixed import MixedData, chosen_additive, chosen_process, noise_variance, relevance
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.rng import torch_generator

__all__ = ["Alike", "ComponentShare", "MixedFit"]

MOST_EXACT = 6000
"""Points up to which "auto" uses the process of all columns: matrices of 0.3 GB, 4 GB in total."""
FUNCTIONS = 600
"""Default number of basis functions of the additive model."""

_PROBES = 500  # rows over which differences between categories are averaged
_BLOCK = 20_000  # rows predicted at a time


@dataclass(frozen=True)
class ComponentShare:
    """One component of the additive model.

    Attributes:
        name: Name of its column, or of its two columns.
        columns: Positions of the columns.
        share: Share of the variance of y; the shares of all components and the noise add up to one.
    """

    name: str
    columns: tuple[int, ...]
    share: float


@dataclass(frozen=True, eq=False)
class Alike:
    """Similarities between the categories of a column.

    Attributes:
        words: The categories.
        difference: Root mean square difference between predictions with either category, over rows of the data, in
            units of y, with shape (c, c).
        correlation: Learned correlations between functions of two categories, with shape (c, c); None if the solver
            learns none.
    """

    words: tuple[str, ...]
    difference: Array
    correlation: Array | None


@dataclass(frozen=True, eq=False)
class MixedFit:
    """A model fitted to a table with categories.

    Attributes:
        columns: Encoding of the table as numbers.
        posterior: Posterior for predictions.
        reduction: The additive model.
        offset: Mean of y.
        unit: Sd of y.
        solver: "cholesky" or "basis".
        noise: Sd of the noise, in units of y.
        device: Device of the tensors.
        n: Number of rows.
    """

    columns: Columns
    posterior: CholeskyPosterior | AdditivePosterior
    reduction: Reduction
    offset: float
    unit: float
    solver: str
    noise: float
    device: str
    n: int

    @classmethod
    def of(
        cls,
        X: Any,  # noqa: N803  # scikit-learn's name
        y: Array,
        *,
        categorical: Collection[str | int] | str,
        solver: str,
        noise: float | None,
        rank: int | None,
        device: str,
        seed: int,
    ) -> MixedFit:
        """The fit to a table with values y, with shape (n,); ``noise`` is the noise sd if known.

        Raises:
            ValueError: If a column is invalid.
            FloatingPointError: If a covariance cannot be factored with any noise.
        """
        columns = Columns.of(X, categorical)
        u = torch.as_tensor(columns.encode(X), device=device)
        offset, unit = map(float, location_and_scale(y))
        values = torch.as_tensor((y - offset) / unit, device=device)
        known = None if noise is None else noise / unit
        data = MixedData(u, values, columns.counts, columns.names, known)
        size = FUNCTIONS if rank is None else rank
        reduction = chosen_additive(data, torch_generator(seed, "interactions"), most=size)
        way = ("cholesky" if len(y) <= MOST_EXACT else "basis") if solver == "auto" else solver
        posterior: CholeskyPosterior | AdditivePosterior = reduction.posterior
        if way == "cholesky":
            posterior = chosen_process(data, torch_generator(seed, "hyperparameters"))
        sd = math.sqrt(noise_variance(posterior)) if noise is None else noise / unit
        return cls(columns, posterior, reduction, offset, unit, way, unit * sd, device, len(y))

    @property
    def status(self) -> str:
        """How the fit was found, as text."""
        names = [component.name for component in self.reduction.posterior.basis.components]
        return f"{self.posterior.status}; components: {', '.join(names)}"

    @property
    def log_evidence(self) -> float:
        """Log marginal likelihood of y, in nats."""
        return self.posterior.log_evidence - self.n * math.log(self.unit)

    @property
    def kernel(self) -> Kernel:
        """Kernel of the encoded columns, in units of the squared output scale."""
        posterior = self.posterior
        if isinstance(posterior, CholeskyPosterior):
            return posterior.process.kernel
        return posterior.basis.process.with_vector(posterior.vector).kernel

    @property
    def scale(self) -> float:
        """Output scale, in units of y."""
        return self.unit * float(self.posterior.scale)

    def predict(self, X: Any, *, return_std: bool, include_noise: bool) -> Any:  # noqa: N803
        """Means, with shape (m,), and if requested the sds of observations or of the function without noise."""
        u = torch.as_tensor(self.columns.encode(X), device=self.device)
        blocks = u.split(_BLOCK)
        mean = self.offset + self.unit * torch.cat([self.posterior.mean(rows) for rows in blocks]).cpu().numpy()
        if not return_std:
            return mean
        variance = self.unit**2 * torch.cat([self.posterior.variance(rows) for rows in blocks]).cpu().numpy()
        return mean, np.sqrt(variance + (self.noise**2 if include_noise else 0.0))

    def components(self) -> tuple[ComponentShare, ...]:
        """Components of the additive model, in descending order of their shares."""
        posterior = self.reduction.posterior
        shares = posterior.shares()[:-1]
        parts = posterior.basis.components
        rows = [
            ComponentShare(part.name, (*part.numbers, *part.categories), float(share))
            for part, share in zip(parts, shares, strict=True)
        ]
        return tuple(sorted(rows, key=lambda row: -row.share))

    def relevance(self) -> Array:
        """Share of the explained variance that involves each column, with shape (d,)."""
        return relevance(self.reduction.posterior, len(self.columns.names))

    def alike(self, X: Any) -> dict[str, Alike]:  # noqa: N803
        """Similarities between the categories of each column, averaged over some rows of the table."""
        u = torch.as_tensor(self.columns.encode(X), device=self.device)
        probes = u[:: max(1, len(u) // _PROBES)]
        out = {}
        for j, words in enumerate(self.columns.words):
            if words is not None:
                out[self.columns.names[j]] = Alike(
                    words, self._differences(probes, j, len(words)), self._correlation(j)
                )
        return out

    def _differences(self, probes: torch.Tensor, j: int, count: int) -> Array:
        predicted = []
        for code in range(count):
            moved = probes.clone()
            moved[:, j] = float(code)
            predicted.append(self.posterior.mean(moved))
        means = self.unit * torch.stack(predicted).cpu().numpy()
        return np.sqrt(np.square(means[:, None] - means[None]).mean(2))

    def _correlation(self, j: int) -> Array | None:
        if self.solver != "cholesky":
            return None
        count = self.columns.counts[j]
        found = [table for table in _tables(self.kernel, (j,)) if table.count == count and table.size]
        words = self.columns.words[j]
        size = count if words is None else len(words)
        return found[0].similarity()[:size, :size] if found else None


def _tables(kernel: Any, columns: tuple[int, ...]) -> list[CategoryKernel]:
    """The category kernels of a column."""
    if getattr(kernel, "columns", None) == columns and isinstance(kernel.parts[0], CategoryKernel):
        return [kernel.parts[0]]
    return [table for part in kernel.parts for table in _tables(part, columns)]
