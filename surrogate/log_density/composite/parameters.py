"""Parameters of composite surrogates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array, Flags, Indices
from surrogate.gp.means import Polynomial
from surrogate.gp.trended import Hyperparameters, HyperPrior, Trended
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.coordinates.whitening import Whitening

__all__ = ["CompositeParameters", "SharedKernel", "family"]


_EXACT_LOG_AMPLITUDE = (
    -4.0
)  # log amplitude of residuals, in units of their output scale, below which they only correct the trend (2 %)
_EXACT_SHAPING = 1e-3  # noise per unit of distance, as for a scalar surrogate
_COARSE_SHAPING = 0.1


@dataclass(frozen=True, eq=False)
class SharedKernel:
    """Components that share a kernel and a trend, with separate output scales.

    Attributes:
        columns: Numbers of the components.
        kernel: Name of the correlation function.
        trend: Name of the trend.
        hyper: Hyperparameters, with the output scale profiled.
    """

    columns: Indices
    kernel: str
    trend: str
    hyper: Hyperparameters

    @property
    def family(self) -> Trended:
        """The family of processes, without hyperparameters."""
        return family(self.kernel, self.trend)


def family(kernel: str, trend: str) -> Trended:
    """The family of processes with a kernel and a trend."""
    return Trended(kernel, Polynomial(trend), nugget=NUGGET, prior=HyperPrior(amplitude_bounds=(1e-3, 1e3)))


NUGGET = 1e-6
"""Noise variance of a component in units of its squared output scale, for rounding of the simulator."""


@dataclass(frozen=True, eq=False)
class CompositeParameters:
    """All parameters of a composite surrogate, which together with the data define it.

    Attributes:
        groups: The processes of the components.
        whitening: Map from warped slow parameters to whitened coordinates.
        warp: Input warp of the slow parameters.
        temperature: Values are (y - y_max) / temperature.
        n: Number of rows of the dataset in the fit.
        size: Number of components.
        score: Log density of the components of the data.
        rescues: Number of times that the fit had to raise a nugget.
        feasibility: Kind of classifier of feasible points.
        logs: Names of outputs that are described by their logarithms.
        active: Mask of the slow parameters on which the outputs depend, as far as the data show, with shape (s,); None
            for all. They are whitened among themselves, and each of the others is only scaled.
    """

    groups: tuple[SharedKernel, ...]
    whitening: Whitening
    warp: InputWarp
    temperature: float
    n: int
    size: int
    score: float = float("nan")
    rescues: int = 0
    feasibility: str = "process"
    logs: frozenset[str] = frozenset()
    active: Flags | None = None

    @property
    def columns(self) -> Indices:
        """Positions of the active parameters among the whitened coordinates."""
        return np.arange(self.warp.size) if self.active is None else np.flatnonzero(self.active)

    def seen(self, u: Array) -> Array:
        """The whitened coordinates, with shape (m, s), on which the outputs depend."""
        return u if self.active is None else np.ascontiguousarray(u[:, self.active])

    @property
    def flat(self) -> Flags:
        """Mask of the whitened coordinates on which the outputs do not depend, with shape (s,)."""
        return np.zeros(self.warp.size, dtype=bool) if self.active is None else ~self.active

    @property
    def exact(self) -> bool:
        """Whether the outputs are polynomials, judged by small amplitudes of all residuals and little shaping."""
        return all(
            group.hyper.log_amplitude < _EXACT_LOG_AMPLITUDE and group.hyper.log_shaping < np.log(_EXACT_SHAPING)
            for group in self.groups
        )

    @property
    def linear(self) -> bool:
        """Whether the outputs are linear in the parameters, as far as the data show."""
        return self.exact and all(group.trend == "linear" for group in self.groups)

    @property
    def coarse(self) -> bool:
        """Whether the fit explains deep points by noise of more than a tenth of their distance."""
        return any(group.hyper.log_shaping > np.log(_COARSE_SHAPING) for group in self.groups)

    @property
    def noise(self) -> float:
        """0, because log-likelihoods of outputs are exact."""
        return 0.0

    @property
    def of_outputs(self) -> bool:
        """True."""
        return True

    def numbers(self) -> dict[str, float]:
        """Numbers for the trace of a run: the largest amplitude and shaping of all components."""
        return {
            "amplitude": max(float(np.exp(group.hyper.log_amplitude)) for group in self.groups),
            "shaping": max(float(np.exp(group.hyper.log_shaping)) for group in self.groups),
            "output_scale": float("nan"),
            "rescues": float(self.rescues),
        }

    def to_arrays(self) -> dict[str, NDArray]:
        """The parameters as arrays of numbers and fixed-width text, without loss."""
        of_column = np.empty(self.size, dtype=np.int64)
        for number, group in enumerate(self.groups):
            of_column[group.columns] = number
        return {
            "kind": np.array("composite"),
            "hyper": np.array([group.hyper.vector() for group in self.groups]),
            "names": np.array([[group.kernel, group.trend] for group in self.groups]),
            "of_column": of_column,
            "centre": self.whitening.centre,
            "forward": self.whitening.forward,
            "backward": self.whitening.backward,
            "numbers": np.array([self.temperature, self.score]),
            "counts": np.array([self.n, self.rescues]),
            "feasibility": np.array(self.feasibility),
            "logs": np.array(sorted(self.logs), dtype=np.str_),
            "active": self.columns,
            "warp/kinds": self.warp.kinds,
            "warp/support": np.stack([self.warp.low, self.warp.high]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> CompositeParameters:
        """The inverse of ``to_arrays``."""
        temperature, score = map(float, arrays["numbers"])
        low, high = arrays["warp/support"]
        warp = InputWarp(arrays["warp/kinds"], low, high)
        of_column, columns = arrays["of_column"], arrays.get("active", np.arange(warp.size))
        groups = tuple(
            SharedKernel(
                np.flatnonzero(of_column == number), str(kernel), str(trend), Hyperparameters.of(row, len(columns))
            )
            for number, (row, (kernel, trend)) in enumerate(zip(arrays["hyper"], arrays["names"], strict=True))
        )
        return cls(
            groups=groups,
            whitening=Whitening.from_arrays(arrays),
            warp=warp,
            temperature=temperature,
            n=int(arrays["counts"][0]),
            size=len(of_column),
            score=score,
            rescues=int(arrays["counts"][1]),
            feasibility=str(arrays["feasibility"]),
            logs=frozenset(map(str, arrays["logs"])),
            active=None if len(columns) == warp.size else np.isin(np.arange(warp.size), columns),
        )
