"""Reduction of a simulator's outputs to a few components: whitening, then principal components.

The outputs are first converted to units in which the comparison is about equally sensitive to all of them: residuals of
Gaussian data are whitened by their covariance; other outputs are divided by their spread over the data, one number per
array. The components are found from products of rows, O(n^2 M) for n rows of M numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from surrogate.arrays import Array, Flags
from surrogate.log_density.composite.directions import Directions
from surrogate.problem.gaussian_data import GaussianData
from surrogate.problem.observables import BoundObservables
from surrogate.problem.outputs import Layout

__all__ = ["Reduction", "Rows", "principal_components", "reduce"]


_ROUNDING = 1e-13  # share of the largest squared singular value below which values are rounding errors


_KEPT = 6  # directions that are kept: with logarithms and without, of the last surrogate and of the next one


class Rows:
    """Outputs in units of the comparison; each row is whitened once.

    Rows are whitened one at a time, so that a resumed run is bit for bit equal to an uninterrupted one.

    Attributes:
        target: The target.
    """

    def __init__(self, target: BoundObservables) -> None:
        self.target = target
        self._known: dict[bytes, Array] = {}
        self._directions: list[Directions] = []

    @property
    def smooth(self) -> bool:
        """Whether a comparison without Gaussian data may be approximated by quadratics in the outputs."""
        return self.data is None and bool(getattr(self.target.target.compare, "smooth", False))

    def directions(self, centre: int, x: Array, outputs: Array, layout: Layout, *, logs: bool) -> Directions:
        """Directions about one of the evaluations, those of an earlier call where they are the same.

        Args:
            centre: Number of the evaluation.
            x: Points, with shape (n, d).
            outputs: Outputs, with shape (n, size).
            layout: Their names and shapes.
            logs: Whether arrays that are positive in all rows are described by their logarithms.
        """
        mask: Flags = np.zeros(layout.size, dtype=bool)
        if logs:
            for columns in layout.columns.values():
                mask[columns] = (outputs[:, columns] > 0.0).all()
        for known in self._directions:
            same = np.array_equal(known.x, x[centre]) and np.array_equal(known.logs, mask)
            if same and known.layout == layout and known.suit(outputs):
                return known
        new = Directions(self.target, layout, x[centre], outputs[centre], mask)
        self._directions = [new, *self._directions[: _KEPT - 1]]
        return new

    @property
    def data(self) -> GaussianData | None:
        """The data, if they are Gaussian."""
        compare = self.target.target.compare
        return compare if isinstance(compare, GaussianData) else None

    def of(self, x: Array, outputs: Array, layout: Layout) -> Array:
        """Whitened residuals of outputs (n, size) at x (n, d), or the outputs themselves without Gaussian data."""
        if self.data is None:
            return outputs
        columns, y = self.data.columns(layout), self.data.y
        out = np.empty((len(x), self.data.size))
        for i, (point, row) in enumerate(zip(x, outputs, strict=True)):
            key = point.tobytes()
            if key not in self._known:
                self._known[key] = self.data.whitened((row[columns] - y)[None])[0]
            out[i] = self._known[key]
        return out


@dataclass(frozen=True, eq=False)
class Reduction:
    """A reduction: outputs = centre + basis z, in units of the comparison.

    Attributes:
        layout: Names and shapes of the outputs.
        centre: With shape (M,): the whitened residual of the best row, or the outputs of a good one in their units.
        basis: Columns with shape (M, K), orthonormal unless the comparison is approximated by quadratics.
        scores: Components z of the rows of the data, with shape (n, K).
        logs: Numbers whose logarithm the components describe, a mask with shape (size,); none of Gaussian data.
        unit: Unit of each number, with shape (M,); None for whitened residuals.
    """

    layout: Layout
    centre: Array
    basis: Array
    scores: Array
    logs: Flags
    unit: Array | None = None

    def outputs(self, z: Array) -> Array:
        """Outputs, with shape (m, size), reconstructed from components with shape (m, K).

        Raises:
            ValueError: If the components describe whitened residuals, from which outputs cannot be reconstructed.
        """
        if self.unit is None:
            msg = "outputs cannot be reconstructed from the whitened residuals of data"
            raise ValueError(msg)
        out = (self.centre + z @ self.basis.T) * self.unit
        with np.errstate(over="ignore"):
            return np.where(self.logs, np.exp(np.where(self.logs, out, 0.0)), out) if self.logs.any() else out


def reduce(
    rows: Rows,
    x: Array,
    outputs: Array,
    layout: Layout,
    *,
    best: int,
    logs: frozenset[str] = frozenset(),
    allowed: Array | None = None,
    size: int | None = None,
) -> Reduction:
    """The reduction to ``size`` principal components, or to as many as leave at most ``allowed`` of each row.

    Args:
        rows: Conversion of outputs to units of the comparison.
        x: Points, with shape (n, d).
        outputs: Outputs, with shape (n, size).
        layout: Their names and shapes.
        best: The row that becomes the centre.
        logs: Names of outputs that are described by their logarithms, where there are no Gaussian data.
        allowed: Allowed root sum of squared residuals of each row, in units of the comparison, with shape (n,); None
            for all components above rounding.
        size: Number of components; overrides ``allowed``.

    Returns:
        The reduction; O(n^2 M).
    """
    warped = np.zeros(layout.size, dtype=bool)
    for name in logs:
        warped[layout.columns[name]] = True
    unit = None
    if rows.data is not None:
        values = rows.of(x, outputs, layout)
    else:
        values = np.where(warped, np.log(np.where(warped, outputs, 1.0)), outputs)
        unit = _spread(values, layout)
        values = values / unit
    centre = values[best]
    basis, scores = principal_components(values - centre, allowed=allowed, size=size)
    return Reduction(layout, centre, basis, scores, warped, unit)


def principal_components(
    offset: Array, *, allowed: Array | None = None, size: int | None = None
) -> tuple[Array, Array]:
    """Orthonormal directions of rows with shape (n, M), and the coordinates of the rows along them.

    Args:
        offset: Differences to a centre.
        allowed: See ``reduce``.
        size: See ``reduce``.

    Returns:
        Directions and coordinates, with shapes (M, K) and (n, K), in O(n^2 M).
    """
    gram = offset @ offset.T
    squares, vectors = np.linalg.eigh(gram)
    squares, vectors = squares[::-1], vectors[:, ::-1]
    most = max(1, int((squares > _ROUNDING * max(squares[0], 1e-300)).sum()))
    k = most
    if size is not None:
        k = min(size, most)
    elif allowed is not None:
        scores = vectors[:, :most] * np.sqrt(np.maximum(squares[:most], 0.0))
        left = np.sqrt(np.maximum(np.diag(gram)[:, None] - np.cumsum(scores**2, axis=1), 0.0))
        if (enough := (left <= allowed[:, None]).all(0)).any():
            k = int(np.argmax(enough)) + 1
    root = np.sqrt(np.maximum(squares[:k], 1e-300))
    basis = np.linalg.qr(offset.T @ (vectors[:, :k] / root))[0]
    return basis, offset @ basis


def _spread(values: Array, layout: Layout) -> Array:
    """Root mean square deviation of each array from its mean over the rows, repeated for each of its numbers."""
    unit = np.empty(layout.size)
    for columns in layout.columns.values():
        part = values[:, columns]
        spread = float(np.sqrt(((part - part.mean(0)) ** 2).mean())) if part.size else 0.0
        unit[columns] = spread if spread > 0.0 else 1.0
    return unit
