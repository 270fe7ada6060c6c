"""What learns the labels: a Gaussian process or networks, with held-out errors and intervals that these calibrate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy import stats

from surrogate.arrays import Array, Flags
from surrogate.labelling.state import Stage
from surrogate.rng import generator

if TYPE_CHECKING:
    import torch
    from torch import nn

    from surrogate.estimators.gp import GPRegressor
    from surrogate.networks.scaling import InputScaling
    from surrogate.networks.uncertainty import Calibration, LastLayer
    from surrogate.selection.features import Features

__all__ = ["MODELS", "FoldModel", "HeldOutErrors", "Member", "Prediction", "fit_folds", "gain_of", "model_name"]


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
class HeldOutErrors:
    """Errors on labelled rows by models that were fitted without them.

    Attributes:
        error: Label minus prediction, with shape (n,).
        variance: That the same model gave, with shape (n,).
        judged: The rows that figures are over, with shape (n,): those of a random sample if there are enough of them.
        is_random: Whether these are a random sample.
    """

    error: Array
    variance: Array
    judged: Flags
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
        gain: Share by which twice the labels lowered the RMSE, and its standard error; None if that was not measured.
    """

    name: str
    members: tuple[Member, ...]
    held_out: HeldOutErrors
    calibration: Calibration
    n_labels: int
    seconds: float
    gain: tuple[float, float] | None = None

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
        gain, gain_error = self.gain or (math.nan, math.nan)
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
            gain=gain,
            gain_error=gain_error,
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
    random: Flags,
    seed: int,
    pool: Array | None = None,
    folds: int = 5,
    device: str | None = None,
) -> FoldModel:
    """Learns labels, and finds the held-out error of every one of them by cross-validation.

    A Gaussian process predicts by one more fit to all labels, so that its held-out errors, of fits to fewer, are rather
    too large. Networks predict by the mean of those of the folds. They stop at one epoch, that of the lowest error over
    all held-out rows: one number chosen by as many errors as there are labels.

    Args:
        name: "gp" or "network".
        x: Rows, with shape (n, d).
        y: Labels, with shape (n,).
        random: Whether a row belongs to a random sample of the table, with shape (n,).
        seed: Of the folds and the networks.
        pool: Rows without labels, with shape (m, d), that help to standardise the columns.
        folds: Number of folds.
        device: Where to fit.
    """
    from surrogate.networks.uncertainty import calibrate

    start = time.perf_counter()
    members, error, variance = MODELS[name](_Lesson(x, y, pool, seed, folds, device))
    held_out = _judged(error, variance, random)
    chosen = held_out.judged
    calibration = calibrate(error[chosen], variance[chosen, None])
    return FoldModel(name, members, held_out, calibration, len(y), time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What is to be learned; see `fit_folds`."""

    x: Array
    y: Array
    pool: Array | None
    seed: int
    folds: int
    device: str | None


def gain_of(before: Array, after: Array, octaves: float) -> tuple[float, float] | None:
    """Share by which twice the labels lower the RMSE, and its standard error, from two models and the same rows.

    The rows share the noise of their labels: the error of the ratio is a fraction of that of either RMSE. By the delta
    method, from the spread of the differences of squared errors over their means.

    Args:
        before: Held-out errors with fewer labels, with shape (k,), NaN where there is none.
        after: With more, with shape (k,).
        octaves: Binary logarithm of the ratio of the numbers of labels.

    Returns:
        None with fewer than 30 rows, or errors of zero.
    """
    known = np.isfinite(before) & np.isfinite(after)
    old, new = before[known] ** 2, after[known] ** 2
    if len(old) < _ENOUGH_RANDOM or not min(old.mean(), new.mean()) > 0.0:
        return None
    factor = math.exp(0.5 * math.log(new.mean() / old.mean()) / octaves)
    spread = float(np.std(new / new.mean() - old / old.mean(), ddof=1))
    return 1.0 - factor, factor * 0.5 * spread / math.sqrt(len(old)) / octaves


def _judged(error: Array, variance: Array, random: Flags) -> HeldOutErrors:
    known = np.isfinite(error)
    enough = int((random & known).sum()) >= _ENOUGH_RANDOM
    return HeldOutErrors(error, variance, known & random if enough else known, enough or bool(random.all()))


Fitted = tuple[tuple[Member, ...], Array, Array]  # members, held-out errors (NaN where none) and variances


# Networks


@dataclass(frozen=True, eq=False)
class _Network:
    """One network, with the maps of inputs and target.

    Attributes:
        last_layer: The network in double precision with the posterior of its last layer.
        single: The network as it was trained.
        scaling: Map of the inputs.
        scales: Constants of the gradient kernel.
        centre: Added to the output times ``unit``.
        unit: Of the target.
        device: Where it is.
    """

    last_layer: LastLayer
    single: nn.Sequential
    scaling: InputScaling
    scales: list[tuple[float, float]]
    centre: float
    unit: float
    device: torch.device

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean of the label, and the last layer's variance relative to the prior's."""
        inputs = self.scaling.tensor(x, self.device)
        mean = self.last_layer.mean(inputs).cpu().numpy()
        return self.centre + self.unit * mean, self.last_layer.variance(inputs).cpu().numpy()

    def features(self, x: Array) -> Features:
        """Gradients of the output with respect to all weights."""
        from surrogate.selection.gradients import GradientFeatures

        return GradientFeatures.of(self.single, self.scaling.tensor(x, self.device), scales=self.scales)


def _fit_networks(task: _Lesson) -> Fitted:
    """One network for each fold."""
    import torch

    from surrogate.networks import fitting
    from surrogate.networks.architecture import Architecture
    from surrogate.networks.scaling import InputScaling
    from surrogate.networks.training import Schedule

    device = torch.device(task.device or "cpu")
    scaling = InputScaling.of(task.x, *([] if task.pool is None else [task.pool]))
    centre, unit = float(task.y.mean()), float(task.y.std())
    y = torch.from_numpy(((task.y - centre) / unit).astype(np.float32)).to(device)
    inputs = scaling.tensor(task.x, device)
    problem = fitting.Task(inputs, y, Architecture(task.x.shape[1]), Schedule(), 1, task.seed)
    fold = max(1, len(y) // task.folds)
    splits = fitting.folds(len(y), fold, min(task.folds, len(y) // fold), task.seed, device)
    groups = fitting.learn(problem, splits, purpose="folds", choose="together")
    members, error, variance = [], np.full(len(y), math.nan), np.full(len(y), math.nan)
    for group in groups:
        (layer,), (single,) = fitting.last_layers(problem, group), group.modules
        member = _Network(layer, single, scaling, problem.architecture.scales(), centre, unit, device)
        away = group.split.unseen.cpu().numpy()
        mean, variance[away] = member.predict(task.x[away])
        error[away] = task.y[away] - mean
        members.append(member)
    return tuple(members), error, variance


# Gaussian process


@dataclass(frozen=True, eq=False)
class _Kernel:
    """The covariance of the fitted process.

    Attributes:
        name: Of the correlation function.
        centre: Taken from the columns first, which changes nothing but rounding; with shape (d,).
        lengthscale: With shape (d,).
        variance: Of the process.
    """

    name: str
    centre: torch.Tensor
    lengthscale: torch.Tensor
    variance: float

    def diag(self, x: torch.Tensor) -> torch.Tensor:
        """The variance, with shape (n,)."""
        return x.new_full((len(x),), self.variance)

    def matrix(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Covariances, with shape (n, m)."""
        from surrogate.linalg.stationary import CORRELATIONS, squared_distance

        r2 = squared_distance(*((x - self.centre) / self.lengthscale for x in (a, b)))
        return self.variance * CORRELATIONS[self.name].correlation(r2)


@dataclass(frozen=True, eq=False)
class _Process:
    """A Gaussian process."""

    regressor: GPRegressor
    kernel: _Kernel

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance of the label."""
        mean, sd = self.regressor.predict(x, return_std=True)
        return np.asarray(mean), np.asarray(sd) ** 2

    def features(self, x: Array) -> Features:
        """The process itself: selection in the space of its kernel, beside the rows that are known."""
        import torch

        from surrogate.selection.features import KernelFeatures

        return KernelFeatures(self.kernel, torch.as_tensor(x, device=self.kernel.lengthscale.device))


def _fit_gp(task: _Lesson) -> Fitted:
    """A process for all labels, and one for each fold whose errors are held out.

    Those of the folds find lengthscales and noise anew. Leaving out one label in closed form would be cheaper, but the
    lengthscales know that label: with 384 labels of 22 columns it claimed an RMSE of 542 where new rows had 777, and
    intervals of 90 % held 82 % of them. The kernel is that of all labels: one choice out of four.
    """
    regressor = _regressor(task, "auto").fit(task.x, task.y)
    part = generator(task.seed, len(task.y), "folds").permutation(np.arange(len(task.y)) % task.folds)
    error, variance = np.empty(len(task.y)), np.empty(len(task.y))
    for fold in range(task.folds):
        away = part == fold
        member = _process(_regressor(task, regressor.kernel_).fit(task.x[~away], task.y[~away]), task)
        mean, variance[away] = member.predict(task.x[away])
        error[away] = task.y[away] - mean
    return (_process(regressor, task),), error, variance


def _regressor(task: _Lesson, kernel: str) -> GPRegressor:
    from surrogate.estimators.gp import GPRegressor

    return GPRegressor(kernel=kernel, device=task.device or "cpu", random_state=task.seed % 2**32)


def _process(regressor: GPRegressor, task: _Lesson) -> _Process:
    import torch

    x = torch.as_tensor(task.x, device=task.device or "cpu")
    scale = torch.as_tensor(regressor.lengthscale_, device=x.device)
    return _Process(regressor, _Kernel(regressor.kernel_, x.mean(dim=0), scale, regressor.output_scale_**2))


MODELS: dict[str, Callable[[_Lesson], Fitted]] = {"gp": _fit_gp, "network": _fit_networks}
