"""Scaling of a network's inputs: standardised, with bounded outliers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array

__all__ = ["InputScaling"]


@dataclass(frozen=True, eq=False)
class InputScaling:
    """The map x -> b tanh((x - mean) / (b scale)) of each column with b = 5, which is linear except for outliers.

    Attributes:
        mean: With shape (d,).
        scale: Standard deviations, with shape (d,); 1 where a column is constant.
        bound: b.
    """

    mean: Array
    scale: Array
    bound: float = 5.0

    @classmethod
    def of(cls, *tables: Array) -> InputScaling:
        """The scaling by means and standard deviations over the rows of all tables, each with shape (n_i, d)."""
        count = sum(len(table) for table in tables)
        mean = sum(table.sum(0) for table in tables) / count
        variance = sum(((table - mean) ** 2).sum(0) for table in tables) / count
        scale = np.sqrt(variance)
        constant = scale <= 1e-12 * np.abs(mean)  # variation from rounding only
        return cls(mean, np.where(constant, 1.0, scale))

    def __call__(self, x: Array) -> Array:
        """Scaled inputs, with shape (n, d)."""
        return self.bound * np.tanh((x - self.mean) / (self.bound * self.scale))

    def tensor(self, x: Array, device: torch.device) -> Tensor:
        """Scaled inputs in single precision, with shape (n, d)."""
        return torch.from_numpy(self(x).astype(np.float32)).to(device)
