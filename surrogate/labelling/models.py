"""What learns the labels: a Gaussian process or networks, with held-out errors and intervals that these calibrate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from surrogate.labelling.state import Stage
from surrogate.rng import generator

if TYPE_CHECKING:
    from surrogate.acquisition.features import Features
    from surrogate.models.networks.uncertainty import Calibration

__all__ = ["MODELS", "FoldModel", "HeldOut", "Member", "Prediction", "fit_folds", "model_name"]

Array = NDArray[np.float64]

MOST_FOR_GP = 500  # labels: beyond, networks; the cost of the process grows with the cube
_BLOCK = 20_000  # rows that are predicted at a time
_ENOUGH_RANDOM = 30  # rows of a random sample that held-out errors may be taken over


class Member(Protocol):
    """A fitted regressor."""

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance at x with shape (m, d), each with shape (m,); the variance up to a factor."""

    def features(self, x: Array) -> Features:
        """What batches are selected by, at x with shape (m, d)."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Errors on labelled rows by models that were fitted without them.

    Attributes:
        error: Label minus prediction, with shape (n,).
        variance: That the same model gave, with shape (n,).
        judged: The rows that figures are over, with shape (n,): those of a random sample if there are enough of them.
        is_random: Whether these are a random sample.
    """

    error: Array
    variance: Array
    judged: NDArray[np.bool_]
    is_random: bool

    @property
    def rmse(self) -> float:
        """Root mean squared error."""
        return float(np.sqrt(np.mean(self.error[self.judged] ** 2)))

    @property
    def rmse_error(self) -> float:
        """Standard error of it, from the spread of the squared errors."""
        squares = self.error[self.judged] ** 2
        return float(squares.std(ddof=1) / math.sqrt(len(squares)) / (2.0 * max(self.rmse, 1e-300)))

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.mean(np.abs(self.error[self.judged])))


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of rows.

    Attributes:
        mean: With shape (m,).
        sd: Standard deviation sized by held-out errors, with shape (m,).
        low: Lower end of the interval, with shape (m,).
        high: Upper end, with shape (m,).
        level: Probability of the interval.
    """

    mean: Array
    sd: Array
    low: Array
    high: Array
    level: float

    def table(self) -> Array:
        """Mean, sd and both ends in columns, with shape (m, 4)."""
        return np.stack([self.mean, self.sd, self.low, self.high], axis=1)


@dataclass(frozen=True, eq=False)
class FoldModel:
    """A regressor with the held-out errors of its labels.

    Attributes:
        name: "gp" or "network".
        members: What predicts; their mean is the prediction.
        held_out: Errors on rows that the model that made them had not seen.
        calibration: Sizes of errors as a function of the members' variance.
        n_labels: Labels that were learned.
        seconds: That fitting took.
    """

    name: str
    members: tuple[Member, ...]
    held_out: HeldOut
    calibration: Calibration
    n_labels: int
    seconds: float

    def predict(self, x: Array, *, level: float = 0.9) -> Prediction:
        """Mean, sd and an interval for rows with shape (m, d).

        The interval is conformal: on rows like those that were judged it holds the label with at least this probability
        (Lei et al. 2018, https://arxiv.org/abs/1604.04173; the members of a fold model have each seen a part of the
        labels, so that their mean is rather better than the errors that it is sized by).
        """
        blocks = [self._mean_and_variance(x[i : i + _BLOCK]) for i in range(0, len(x), _BLOCK)]
        mean, variance = (np.concatenate([*parts]) for parts in zip(*blocks, strict=True)) if blocks else (x[:, 0],) * 2
        size = self.calibration.size(variance[:, None])
        half = self.calibration.quantile(level) * size
        return Prediction(mean, self.sd_scale * size, mean - half, mean + half, level)

    @property
    def sd_scale(self) -> float:
        """Sd in sizes: such that 1.645 of it hold 90 % of the held-out errors."""
        return self.calibration.quantile(0.9) / float(stats.norm.ppf(0.95))

    def features(self, x: Array) -> Features:
        """What batches are selected by: the features of the first member."""
        return self.members[0].features(x)

    def stage(self) -> Stage:
        """The point of the learning curve."""
        held_out = self.held_out
        return Stage(
            n_labels=self.n_labels,
            model=self.name,
            rmse=held_out.rmse,
            rmse_error=held_out.rmse_error,
            mae=held_out.mae,
            n_held_out=int(held_out.judged.sum()),
            is_random=held_out.is_random,
            sd_scale=self.sd_scale,
            seconds=round(self.seconds, 2),
        )

    def _mean_and_variance(self, x: Array) -> tuple[Array, Array]:
        pairs = [member.predict(x) for member in self.members]
        return np.mean([mean for mean, _ in pairs], axis=0), np.mean([variance for _, variance in pairs], axis=0)


def model_name(wanted: str, n_labels: int) -> str:
    """The model that is meant: "auto" is a Gaussian process for up to 500 labels and networks for more.

    Raises:
        ValueError: If there is no such model.
    """
    if wanted == "auto":
        return "gp" if n_labels <= MOST_FOR_GP else "network"
    if wanted not in MODELS:
        msg = f"model must be 'auto' or one of {', '.join(map(repr, MODELS))}, got {wanted!r}"
        raise ValueError(msg)
    return wanted


def fit_folds(
    name: str,
    x: Array,
    y: Array,
    *,
    random: NDArray[np.bool_],
    seed: int,
    folds: int = 5,
    device: str | None = None,
) -> FoldModel:
    """Learns labels, and finds the held-out error of every one of them by cross-validation.

    Networks predict by the mean of those of the folds, which are then used twice; a Gaussian process by one more fit to
    all labels.

    Args:
        name: "gp" or "network".
        x: Rows, with shape (n, d).
        y: Labels, with shape (n,).
        random: Whether a row belongs to a random sample of the table, with shape (n,).
        seed: Of the folds and the networks.
        folds: Number of folds, at most n.
        device: Where to fit.
    """
    from surrogate.models.networks.uncertainty import calibrate

    start = time.perf_counter()
    fit = MODELS[name]
    part = _parts(len(y), folds, seed)
    members, error, variance = [], np.empty(len(y)), np.empty(len(y))
    for fold in range(int(part.max()) + 1):
        away = part == fold
        member = fit(x[~away], y[~away], seed + fold, device)
        mean, variance[away] = member.predict(x[away])
        error[away] = y[away] - mean
        members.append(member)
    if name == "gp":
        members = [fit(x, y, seed, device)]
    held_out = _judged(error, variance, random)
    chosen = held_out.judged
    calibration = calibrate(error[chosen], variance[chosen, None])
    return FoldModel(name, tuple(members), held_out, calibration, len(y), time.perf_counter() - start)


def _parts(n: int, folds: int, seed: int) -> NDArray[np.int64]:
    """The fold of each row: equal parts at random."""
    part = np.arange(n) % min(folds, n)
    return generator(seed, n, "folds").permutation(part)


def _judged(error: Array, variance: Array, random: NDArray[np.bool_]) -> HeldOut:
    enough = int(random.sum()) >= _ENOUGH_RANDOM
    judged = random if enough else np.ones(len(error), dtype=bool)
    return HeldOut(error, variance, judged, enough or bool(random.all()))


# The regressors


@dataclass(frozen=True, eq=False)
class _Network:
    """One network with the posterior of its last layer."""

    regressor: object
    last_layer: object

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean of the label, and the last layer's variance relative to the prior's."""
        inputs = self.regressor.transform_inputs(x)  # type: ignore[attr-defined]
        variance = self.last_layer.variance(inputs).cpu().numpy()  # type: ignore[attr-defined]
        return np.asarray(self.regressor.predict(x)), variance  # type: ignore[attr-defined]

    def features(self, x: Array) -> Features:
        """Gradients of the output with respect to all weights."""
        from surrogate.acquisition.features import GradientFeatures

        regressor = self.regressor
        inputs = regressor.transform_inputs(x)  # type: ignore[attr-defined]
        module, scales = regressor.modules_[0], regressor.kernel_scales_  # type: ignore[attr-defined]
        return GradientFeatures.of(module, inputs, scales=scales)


def _fit_network(x: Array, y: Array, seed: int, device: str | None) -> Member:
    from surrogate.models.networks.regressor import NetworkRegressor
    from surrogate.models.networks.uncertainty import LastLayer

    regressor = NetworkRegressor(calibration=None, random_state=seed % 2**32, device=device).fit(x, y)
    inputs = regressor.transform_inputs(x)
    layer = LastLayer.of(regressor.modules_[0], regressor.kernel_scales_[-1], inputs)
    return _Network(regressor, layer)


MODELS: dict[str, Callable[[Array, Array, int, str | None], Member]] = {"network": _fit_network}
