"""Parameters of scalar surrogates, and the relevant depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array, Flags
from surrogate.gp.trended import Hyperparameters
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.symmetry import Symmetry
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.peaks import Peaks

__all__ = ["Division", "Structure", "SurrogateParameters", "relevant_depth", "trend_size"]


_EXACT_LOG_AMPLITUDE = -2.5  # of the residual, in units of the output scale; below it only corrects the trend
_EXACT_SHAPING = 1e-3  # noise per nat of depth below which the trend counts as exact
_COARSE_SHAPING = 0.1  # noise per nat of depth above which deep points hardly count


def trend_size(d: int) -> int:
    """Number of coefficients of a quadratic in d dimensions, (d + 1)(d + 2) / 2."""
    return (d + 1) * (d + 2) // 2


def relevant_depth(d: int) -> float:
    """Depth Delta below the maximum down to which a log-density matters to its posterior, 20 + 4 d."""
    return 20.0 + 4.0 * d


@dataclass(frozen=True)
class Division:
    """A quadratic trend divided by a power of a positive parameter.

    If the noise sd s is a parameter of a regression, the log-likelihood is -n log s - RSS(b) / (2 s^2): a slope in log
    s, and a quadratic of the other parameters b divided by s^2. The parameter has the warp "log".

    Attributes:
        parameter: Number of the dividing parameter.
        power: Exponent of the parameter that multiplies the quadratic: -2 for an sd, -1 for a variance.
        axes: Whether to add undivided linear and quadratic terms of each parameter, which data on single parameters, or
            a prior inside the likelihood, produce.
    """

    parameter: int
    power: int
    axes: bool = False

    def size(self, d: int) -> int:
        """Number of coefficients of the trend in d coordinates."""
        return (1 + 2 * d if self.axes else 2) + trend_size(d - 1)


@dataclass(frozen=True, eq=False)
class Structure:
    """The discrete choices of a surrogate.

    Attributes:
        kernel: Name of the kernel of the residual.
        trend: Name of the trend.
        output: Scale of the output warp, see ``OutputWarp``.
        warp: Input warp.
        division: Division of a quadratic trend by a parameter, or None.
        peaks: Peaks of a sum of Gaussians, each of which has a quadratic trend of its own, or None.
    """

    kernel: str
    trend: str
    output: float
    warp: InputWarp
    division: Division | None = None
    peaks: Peaks | None = None

    @classmethod
    def plain(cls, low: Array, high: Array, periodic: Flags | None = None) -> Structure:
        """The plain structure: a quadratic trend and an RBF residual without warps, on a support from low to high."""
        return cls("rbf", "quadratic", 0.0, InputWarp.identity(low, high, periodic))

    def same(self, other: Structure) -> bool:
        """Whether both structures are equal."""
        mine = (self.kernel, self.trend, self.output, self.division)
        theirs = (other.kernel, other.trend, other.output, other.division)
        return self.peaks is other.peaks and mine == theirs and self.warp.same(other.warp)

    @property
    def cost(self) -> float:
        """Nats by which a structure must be more probable than the plain one.

        The cost is 2 per warped parameter and for each coefficient of several peaks, as log(n) / 2 of the Bayesian
        information criterion; 3 for an output warp, for a division, for a shifted end and for each coefficient of
        couplings; and 8 for a rough kernel, because few points of a steep function look rough, and a rough kernel
        learns slowly. Without this cost ring-shaped posteriors needed 50 % more evaluations.
        """
        others = (self.output != 0.0) + (self.division is not None) + self.warp.n_shifted
        others += 0 if self.warp.couplings is None else len(self.warp.couplings.vector)
        of_peaks = 0 if self.peaks is None else self.size
        return 2.0 * float(self.warp.chosen + of_peaks) + 3.0 * others + 8.0 * (self.kernel != "rbf")

    @property
    def size(self) -> int:
        """Number of coefficients of a quadratic trend, or of one for each peak."""
        if self.division is not None:
            return self.division.size(self.warp.size)
        return trend_size(self.warp.size) * (1 if self.peaks is None else len(self.peaks))


@dataclass(frozen=True, eq=False)
class SurrogateParameters:
    """All parameters of a scalar surrogate, which together with the data define it.

    Attributes:
        hyper: Hyperparameters of the process.
        whitening: Map from warped to whitened coordinates.
        structure: Structure of the surrogate.
        temperature: The process models (y - y_max) / temperature; 1 once the run learns the posterior itself.
        n: Number of rows of the dataset in the fit.
        score: Log density of the relevant points given the far ones, with the Jacobian of the output warp, the prior of
            the hyperparameters and the cost of the structure.
        rescues: Number of times that the fit had to raise the nugget.
        feasibility: Kind of classifier of feasible points, one of ``surrogate.log_density.feasibility.choice.KINDS``.
    """

    hyper: Hyperparameters
    whitening: Whitening
    structure: Structure
    temperature: float
    n: int
    score: float = float("nan")
    rescues: int = 0
    feasibility: str = "process"

    @property
    def exact(self) -> bool:
        """Whether the trend explains the data, that is, amplitude and shaping are both small."""
        small = self.hyper.log_amplitude < _EXACT_LOG_AMPLITUDE and self.hyper.log_shaping < np.log(_EXACT_SHAPING)
        return self.structure.trend == "quadratic" and bool(small)

    @property
    def noise(self) -> float:
        """Sd of the noise detected in the values, in units of the log-likelihood; 0 if they are exact."""
        return 0.0 if self.hyper.log_noise is None else float(np.exp(self.hyper.log_noise))

    @property
    def coarse(self) -> bool:
        """Whether the fit explains deep points by noise of more than a tenth of their depth."""
        return self.hyper.log_shaping > np.log(_COARSE_SHAPING)

    @property
    def of_outputs(self) -> bool:
        """False, because the surrogate is of the log-likelihood itself."""
        return False

    def numbers(self) -> dict[str, float]:
        """Numbers for the trace of a run."""
        log_scale = self.hyper.log_scale
        return {
            "amplitude": float(np.exp(self.hyper.log_amplitude)),
            "shaping": float(np.exp(self.hyper.log_shaping)),
            "output_scale": float("nan") if log_scale is None else float(np.exp(log_scale)),
            "rescues": float(self.rescues),
        }

    def to_arrays(self) -> dict[str, NDArray]:
        """The parameters as arrays of numbers and fixed-width text, without loss."""
        warp, division = self.structure.warp, self.structure.division
        optional = {} if warp.couplings is None else {"warp/couplings": warp.couplings.to_array()}
        optional |= {} if warp.symmetry is None else {"warp/symmetry": warp.symmetry.to_array()}
        optional |= {} if warp.shifted is None else {"warp/shifted": warp.shifted}
        optional |= {} if self.structure.peaks is None else {"peaks": self.structure.peaks.to_array()}
        if division is not None:
            optional["division"] = np.array([division.parameter, division.power, int(division.axes)])
        return optional | {
            "kind": np.array("scalar"),
            "hyper": self.hyper.vector(),
            "centre": self.whitening.centre,
            "forward": self.whitening.forward,
            "backward": self.whitening.backward,
            "numbers": np.array([self.temperature, self.score, self.structure.output]),
            "counts": np.array([self.n, self.rescues]),
            "names": np.array([self.structure.kernel, self.structure.trend, self.feasibility]),
            "warp/kinds": warp.kinds,
            "warp/support": np.stack([warp.low, warp.high]),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> SurrogateParameters:
        """The inverse of ``to_arrays``; arrays of earlier versions without a kind of feasibility mean "process"."""
        temperature, score, output = map(float, arrays["numbers"])
        couplings = Couplings.of_array(arrays["warp/couplings"]) if "warp/couplings" in arrays else None
        low, high = arrays["warp/support"]
        symmetry = Symmetry.of_array(arrays["warp/symmetry"]) if "warp/symmetry" in arrays else None
        shifted = arrays.get("warp/shifted")
        if shifted is not None and not (shifted.shape == (2, len(low)) and (shifted[0] < shifted[1]).all()):
            msg = f"warp/shifted must be lower and upper ends with shape (2, {len(low)}), got shape {shifted.shape}"
            raise ValueError(msg)
        warp = InputWarp(arrays["warp/kinds"], low, high, couplings, symmetry, shifted)
        kernel, trend, *kind = map(str, arrays["names"])
        division = None
        if "division" in arrays:
            parameter, power, axes = map(int, arrays["division"])
            division = Division(parameter, power, bool(axes))
        peaks = Peaks.from_array(arrays["peaks"]) if "peaks" in arrays else None
        return cls(
            hyper=Hyperparameters.of(arrays["hyper"], warp.size),
            whitening=Whitening.from_arrays(arrays),
            structure=Structure(kernel, trend, output, warp, division, peaks),
            temperature=temperature,
            n=int(arrays["counts"][0]),
            score=score,
            rescues=int(arrays["counts"][1]),
            feasibility=kind[0] if kind else "process",
        )
