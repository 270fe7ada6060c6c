"""Parameters of surrogates with categorical and integer parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Indices
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.parameters import SurrogateParameters

__all__ = ["GroupParameters", "MixedParameters"]


@dataclass(frozen=True, eq=False)
class GroupParameters:
    """A group of levels that share one process.

    Attributes:
        members: Numbers of its levels, ascending.
        columns: Columns of t on which its log-likelihood depends.
        surrogate: Parameters of its process; their ``n`` counts the finite values of its levels.
    """

    members: Indices
    columns: Indices
    surrogate: SurrogateParameters


@dataclass(frozen=True, eq=False)
class MixedParameters:
    """All parameters of a surrogate: the groups of levels and their common parts.

    Attributes:
        groups: The groups, of which each level is in one.
        whitening: Map from continuous columns of t to whitened coordinates.
        n: Number of rows of the dataset in the fit.
        searched: Number of rows when partitions were last searched; 0 if never.
    """

    groups: tuple[GroupParameters, ...]
    whitening: Whitening
    n: int
    searched: int = 0

    @property
    def temperature(self) -> float:
        """The processes model (y - y_max) / temperature."""
        return self.groups[0].surrogate.temperature

    @property
    def exact(self) -> bool:
        """Whether the trends alone explain the data."""
        return all(group.surrogate.exact for group in self.groups)

    @property
    def coarse(self) -> bool:
        """Whether the fit of a group explains deep points by noise of more than a tenth of their depth."""
        return any(group.surrogate.coarse for group in self.groups)

    @property
    def noise(self) -> float:
        """Largest sd of noise detected in the values of a group, in nats; 0 if they are exact."""
        return max(group.surrogate.noise for group in self.groups)

    @property
    def of_outputs(self) -> bool:
        """False, because the surrogate is of the log-likelihood."""
        return False

    def numbers(self) -> dict[str, float]:
        """Numbers for the trace of a run: the largest over all groups, and the sum of the rescues."""
        rows = [group.surrogate.numbers() for group in self.groups]
        out = {name: float(np.nanmax([row[name] for row in rows])) for name in rows[0]}
        return out | {"rescues": float(sum(row["rescues"] for row in rows))}

    def to_arrays(self) -> dict[str, NDArray]:
        """The parameters as arrays of numbers and fixed-width text, without loss."""
        out: dict[str, NDArray] = {
            "kind": np.array("mixed"),
            "counts": np.array([self.n, len(self.groups), self.searched]),
            "centre": self.whitening.centre,
            "forward": self.whitening.forward,
            "backward": self.whitening.backward,
        }
        for i, group in enumerate(self.groups):
            out |= {f"{i}/members": group.members, f"{i}/columns": group.columns}
            out |= {f"{i}/surrogate/{name}": array for name, array in group.surrogate.to_arrays().items()}
        return out

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> MixedParameters:
        """The inverse of ``to_arrays``."""
        n, count, searched = map(int, arrays["counts"])
        groups = []
        for i in range(count):
            start = f"{i}/surrogate/"
            own = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
            surrogate = SurrogateParameters.from_arrays(own)
            groups.append(GroupParameters(arrays[f"{i}/members"], arrays[f"{i}/columns"], surrogate))
        return cls(tuple(groups), Whitening.from_arrays(arrays), n, searched)
