"""Symmetry: points in place of their images under exchanges of parameters that leave the log-likelihood unchanged."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from surrogate.arrays import Array, Indices

__all__ = ["Symmetry"]


_ROUNDS = 3  # rounds of moving draws next to the reference and measuring their widths
_THIN = 1e-12  # variance below which all draws are equal
_TILT = 1e-9  # by which coordinates of a reference differ, lest it be its own image


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The map of each point to that of its images which is nearest to a reference.

    A surrogate of the mapped points is symmetric, and learns from each evaluation at all images. In the region of the
    points nearest to the reference, a Dirichlet domain of the group, k equal modes are one, and a kink where two
    exchanged parameters are equal lies on its border. Draws are moved between images in the same way by Stephens
    (2000), doi:10.1111/1467-9868.00265.

    Attributes:
        orders: Permutations of the d parameters, which form a group, the identity first, with shape (k, d).
        reference: Point in unit coordinates, with shape (d,).
        weights: Weights of squared distances along the parameters, equal for those that are exchanged, with shape (d,).
    """

    orders: Indices
    reference: Array
    weights: Array

    @classmethod
    def about(cls, orders: Indices, best: Array, draws: Array | None) -> Symmetry:
        """The symmetry with the best point as its reference, in units of the widths of the draws moved next to it.

        Args:
            orders: As above.
            best: Point in unit coordinates, with shape (d,).
            draws: Draws of the posterior, with shape (m, d); None for the units of the prior.
        """
        found = cls(orders, best + _TILT * np.arange(len(best)), np.ones(len(best)))
        if draws is None:
            return found
        for _ in range(_ROUNDS):
            variance = found.forward(draws).var(0)[orders].mean(0)  # the mean over parameters that are exchanged
            found = cls(orders, found.reference, 1.0 / np.maximum(variance, _THIN))
        return found

    def forward(self, t: Array) -> Array:
        """The image of each point that is nearest to the reference; t and the images have shape (m, d); O(k m d).

        Weighted squared distances of the images differ only by their products with the reference.
        """
        best = (t @ self.directions.T).argmax(1)
        return np.take_along_axis(t, self.orders[best], 1)

    @cached_property
    def directions(self) -> Array:
        """The weighted reference as each image meets it, with shape (k, d): t[order] . w r = t . direction."""
        out = np.empty(self.orders.shape)
        np.put_along_axis(out, self.orders, np.broadcast_to(self.weights * self.reference, out.shape), 1)
        return out

    def to_array(self) -> Array:
        """All numbers as an array with shape (k + 2, d)."""
        return np.concatenate([self.orders.astype(np.float64), [self.reference, self.weights]])

    @classmethod
    def of_array(cls, array: Array) -> Symmetry:
        """The inverse of ``to_array``.

        Raises:
            ValueError: If a row does not hold the numbers of the parameters.
        """
        orders, d = array[:-2].astype(np.int64), array.shape[1]
        if not len(orders) or (np.sort(orders, 1) != np.arange(d)).any():
            msg = "a symmetry must hold permutations of the parameters"
            raise ValueError(msg)
        return cls(orders, array[-2], array[-1])
