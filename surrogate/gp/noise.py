"""Independent noise of the data: sums of variances with hyperparameters.

    noise = Nugget(1e-6) + Shaped(1e-3) + Given() + Common(0.1)

Variances are in units of y squared. Only the nugget is in units of the squared output scale of the process.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple, Protocol

import numpy as np

from surrogate.arrays import Array
from surrogate.gp.parameters import LogNormal, Parametric, logarithms

__all__ = ["Common", "Given", "Noise", "NoiseColumns", "NoiseSum", "Nugget", "Shaped", "Variances"]


class NoiseColumns(Protocol):
    """Quantities of each datum on which noise may depend, each with the shape of y."""

    @property
    def depth(self) -> Any:
        """Depth of the point below the relevant region, 0 inside it."""

    @property
    def noise_variance(self) -> Any:
        """Known noise variance of the datum."""

    @property
    def unit_variance(self) -> Any:
        """Square of one unit of common noise, in units of y squared."""


class Variances(NamedTuple):
    """Noise variances and their derivatives.

    Attributes:
        relative: In units of the squared output scale: one for all data, or with the shape of y.
        absolute: In units of y squared, with the shape of y; None for zero.
        slopes: For each log-hyperparameter a column with the shape of y and a factor on it. If the column is None the
            derivative is that factor for all data, in units of the squared output scale.
    """

    relative: Any
    absolute: Any
    slopes: tuple[tuple[Any, float], ...]


class Noise(Parametric):
    """Independent noise of each datum."""

    @abstractmethod
    def forward(self, vector: Array, data: NoiseColumns) -> Variances:
        """The variances and their derivatives at log-hyperparameters ``vector``, instead of the noise's own."""

    def raised(self, factor: float) -> Noise:  # noqa: ARG002 - most noises have no nugget
        """A copy with the nugget multiplied by a factor, for covariances that cannot be factored."""
        return self

    def __add__(self, other: Noise) -> NoiseSum:
        mine, theirs = (noise.parts if isinstance(noise, NoiseSum) else (noise,) for noise in (self, other))
        return NoiseSum(*mine, *theirs)


class NoiseSum(Noise):
    """The sum of independent noises."""

    parts: tuple[Noise, ...]

    def __init__(self, *parts: Noise) -> None:
        """Sets the parts, in this order."""
        super().__init__(np.empty(0), parts, ())

    def forward(self, vector: Array, data: NoiseColumns) -> Variances:
        """See ``Noise``."""
        slopes: tuple[tuple[Any, float], ...] = ()
        relative: Any = 0.0
        absolute, start = None, 0
        for part in self.parts:
            own = part.forward(vector[start : start + part.size], data)
            relative = relative + own.relative
            if own.absolute is not None:
                absolute = own.absolute if absolute is None else absolute + own.absolute
            slopes += own.slopes
            start += part.size
        return Variances(relative, absolute, slopes)

    def raised(self, factor: float) -> Noise:
        """See ``Noise``."""
        return NoiseSum(*(part.raised(factor) for part in self.parts))


class Nugget(Noise):
    """A nugget: the same variance for all data, in units of the squared output scale.

    It bounds the condition number of the covariance by about n k(0) / ratio.
    """

    own_names = ("nugget",)

    def __init__(self, ratio: float, *, fitted: bool = False, prior: LogNormal | None = None) -> None:
        """Sets the ratio of noise variance to squared output scale, and whether it is fitted.

        Raises:
            ValueError: If the ratio is negative, or zero and fitted.
        """
        own = logarithms("ratio", ratio) if fitted or ratio != 0.0 else np.empty(0)
        self._fixed = None if fitted else float(ratio)
        self._factor = 1.0
        super().__init__(own if fitted else np.empty(0), (), (prior or LogNormal(low=1e-14),) if fitted else ())

    @property
    def ratio(self) -> float:
        """Noise variance in units of the squared output scale."""
        return self._factor * (float(np.exp(self._own[0])) if self._fixed is None else self._fixed)

    def forward(self, vector: Array, data: NoiseColumns) -> Variances:  # noqa: ARG002 - the same for all data
        """See ``Noise``."""
        if self._fixed is not None:
            return Variances(self._factor * self._fixed, None, ())
        ratio = self._factor * np.exp(vector[0])
        return Variances(ratio, None, ((None, ratio),))

    def raised(self, factor: float) -> Nugget:
        """See ``Noise``."""
        out = self.with_vector(self.vector())
        out._factor = self._factor * factor
        return out


class Given(Noise):
    """Noise with a known sd for each datum."""

    def __init__(self, *, relative: bool = False) -> None:
        """Uses the known standard deviations of the data, in units of the output scale if ``relative``, else of y."""
        self._relative = relative
        super().__init__(np.empty(0), (), ())

    def forward(self, vector: Array, data: NoiseColumns) -> Variances:  # noqa: ARG002 - it has no hyperparameters
        """See ``Noise``."""
        return Variances(data.noise_variance, None, ()) if self._relative else Variances(0.0, data.noise_variance, ())


class Common(Noise):
    """Noise with one sd for all data, multiplied by the unit of each datum."""

    own_names = ("noise",)

    def __init__(self, sd: float, *, prior: LogNormal | None = None) -> None:
        """Sets the standard deviation."""
        super().__init__(logarithms("sd", sd), (), (prior or LogNormal(),))

    def forward(self, vector: Array, data: NoiseColumns) -> Variances:
        """See ``Noise``."""
        variance, unit = np.exp(2.0 * vector[0]), data.unit_variance
        return Variances(0.0, variance * unit, ((unit, 2.0 * variance),))


class Shaped(Noise):
    """Noise with the sd c * depth, so that data far below the relevant region need not be fitted closely."""

    own_names = ("shaping",)

    def __init__(self, coefficient: float, *, prior: LogNormal | None = None) -> None:
        """Sets the sd per unit of depth, c."""
        super().__init__(logarithms("coefficient", coefficient), (), (prior or LogNormal(),))

    def forward(self, vector: Array, data: NoiseColumns) -> Variances:
        """See ``Noise``."""
        sd = np.exp(vector[0]) * data.depth
        variance = sd * sd
        return Variances(0.0, variance, ((variance, 2.0),))
