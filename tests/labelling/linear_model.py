"""A model that costs nothing: least squares with the errors of leaving out one row, and the columns as features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from surrogate.labelling.lessons import Fitted
from surrogate.selection.features import linear_features


@dataclass(frozen=True, eq=False)
class LinearMember:
    coefficients: np.ndarray
    precision: np.ndarray

    def predict(self, x):
        basis = with_constant(x)
        return basis @ self.coefficients, 1.0 + np.einsum("ij,jk,ik->i", basis, self.precision, basis)

    def features(self, x):
        return linear_features(torch.as_tensor(x))


def with_constant(x):
    return np.concatenate([np.ones((len(x), 1)), x], axis=1)


def fit_linear(task):
    basis = with_constant(task.x)
    precision = np.linalg.inv(basis.T @ basis + 1e-9 * np.eye(basis.shape[1]))
    member = LinearMember(precision @ basis.T @ task.y, precision)
    mean, variance = member.predict(task.x)
    leverage = np.minimum(variance - 1.0, 0.999)
    error, parts = (task.y - mean) / (1.0 - leverage), np.arange(len(mean))
    return Fitted((member,), error, 1.0 + leverage / (1.0 - leverage), parts)
