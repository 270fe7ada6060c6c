"""Names of before, for modules that are not yet written with ``surrogate.gp.trended``."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from surrogate.arrays import Array
from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.trended import Trended
from surrogate.linalg.stationary import Stationary

TrainingSet = Data


@dataclass(frozen=True)
class GPRecipe:
    """What kind of process."""

    kernel: Stationary
    trend: Polynomial
    nugget: float = 1e-6
    device: torch.device = torch.device("cpu")


def negative_log_marginal(
    recipe: GPRecipe, data: Data, theta: Array, *, given: Data | None = None
) -> tuple[float, Array]:
    """See ``Trended.negative_log_evidence``."""
    family = Trended(recipe.kernel.name, recipe.trend, recipe.nugget)
    return family.negative_log_evidence(data, theta, given=given)
