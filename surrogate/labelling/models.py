"""Models of labels with held-out errors, which calibrate the intervals of their predictions."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from surrogate.arrays import Array, Flags
from surrogate.labelling.learners import LEARNERS, constant_errors, fit_ridge
from surrogate.labelling.lessons import Fitted, Lesson, Member
from surrogate.labelling.state import Stage

if TYPE_CHECKING:
    from surrogate.networks.uncertainty import Calibration
    from surrogate.selection.features import Features

__all__ = ["FoldModel", "HeldOutErrors", "Prediction", "fit_folds", "gain_of", "model_name"]


MOST_FOR_GP = 500  # labels above which networks replace the process, whose cost is cubic
_BLOCK = 20_000  # rows predicted at a time
_ENOUGH_RANDOM = 30  # smallest random sample over which held-out errors are estimated


@dataclass(frozen=True, eq=False)
class HeldOutErrors:
    """Cross-validation errors: errors on labelled rows of models fitted without them.

    Attributes:
        error: Label minus prediction, with shape (n,).
        variance: Variance predicted by the same model, with shape (n,).
        judged: Mask of the rows used in summary figures, with shape (n,): those of a random sample if there are enough.
        is_random: Whether the judged rows are a random sample.
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
        """Standard error of ``rmse``, from the scatter of the squared errors."""
        squares = self.error[self.judged] ** 2
        return float(squares.std(ddof=1) / math.sqrt(len(squares)) / (2.0 * max(self.rmse, 1e-300)))

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.mean(np.abs(self.error[self.judged])))


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted labels, with standard deviations and intervals.

    Attributes:
        mean: Predicted labels, with shape (m,).
        sd: Standard deviations calibrated by held-out errors, with shape (m,).
        low: Lower ends of the intervals, with shape (m,).
        high: Upper ends, with shape (m,).
        level: Probability of the intervals.
    """

    mean: Array
    sd: Array
    low: Array
    high: Array
    level: float

    def table(self) -> Array:
        """Columns mean, sd, low and high, with shape (m, 4)."""
        return np.stack([self.mean, self.sd, self.low, self.high], axis=1)


@dataclass(frozen=True, eq=False)
class FoldModel:
    """A regressor with the held-out errors of its labels.

    Attributes:
        name: "gp", "network" or "ridge".
        members: Regressors whose mean is the prediction.
        held_out: Cross-validation errors.
        calibration: Scale of errors as a function of the members' variance.
        n_labels: Number of labels in the fit.
        seconds: Time of the fit.
        gain: Relative reduction of the RMSE by doubling the labels, and its standard error; None if not measured.
        constant: Held-out RMSE of predicting the mean label, with the same folds and rows.
        ridge: Held-out RMSE of a ridge regression, likewise.
        categories: Ranges (start, stop) of the one-hot inputs, one for each categorical column.
    """

    name: str
    members: tuple[Member, ...]
    held_out: HeldOutErrors
    calibration: Calibration
    n_labels: int
    seconds: float
    gain: tuple[float, float] | None = None
    constant: float = math.nan
    ridge: float = math.nan
    categories: tuple[tuple[int, int], ...] = ()

    def predict(self, x: Array, *, level: float = 0.9) -> Prediction:
        """Mean, sd and an interval for rows with shape (m, d).

        The interval is conformal: on rows similar to the held-out ones it contains the label with at least this
        probability (Lei et al. 2018, https://arxiv.org/abs/1604.04173). It is slightly conservative, because the mean
        of all members is more accurate than the single members whose errors set its width. A row with a category not in
        the table gets the prior uncertainty: the variance of a process, or that of all labels.
        """
        blocks = [self._mean_and_variance(x[i : i + _BLOCK]) for i in range(0, len(x), _BLOCK)]
        mean, variance = (np.concatenate([*parts]) for parts in zip(*blocks, strict=True)) if blocks else (x[:, 0],) * 2
        size = self.calibration.size(variance[:, None])
        unknown = self._unknown(x)
        before = np.sqrt(variance[unknown]) if self.name == "gp" else self.constant
        size[unknown] = np.maximum(size[unknown], before / self.sd_scale)
        half = self.calibration.quantile(level) * size
        return Prediction(mean, self.sd_scale * size, mean - half, mean + half, level)

    def _unknown(self, x: Array) -> Flags:
        """Mask of rows with a category not in the table, with shape (m,)."""
        out = np.zeros(len(x), dtype=bool)
        for start, stop in self.categories:
            out |= ~x[:, start:stop].any(axis=1)
        return out

    @property
    def sd_scale(self) -> float:
        """Standard deviation in units of the error scale, such that 90 % of held-out errors are within 1.645 sd."""
        return self.calibration.quantile(0.9) / float(stats.norm.ppf(0.95))

    def features(self, x: Array) -> Features:
        """Features of rows for the selection of a batch, from the first member."""
        return self.members[0].features(x)

    def stage(self) -> Stage:
        """This model as a point of the learning curve."""
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
            constant=self.constant,
            ridge=self.ridge,
        )

    def _mean_and_variance(self, x: Array) -> tuple[Array, Array]:
        pairs = [member.predict(x) for member in self.members]
        return np.mean([mean for mean, _ in pairs], axis=0), np.mean([variance for _, variance in pairs], axis=0)


def model_name(wanted: str, n_labels: int) -> str:
    """The name of a model; "auto" means a Gaussian process up to 500 labels and networks beyond.

    Raises:
        ValueError: If there is no such model.
    """
    if wanted == "auto":
        return "gp" if n_labels <= MOST_FOR_GP else "network"
    if wanted not in LEARNERS:
        msg = f"model must be 'auto' or one of {', '.join(map(repr, LEARNERS))}, got {wanted!r}"
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
    uncertainty: str = "kfac",
    may_be_ridge: bool = False,
    categories: tuple[tuple[int, int], ...] = (),
) -> FoldModel:
    """A model fitted to the labels, with the held-out error of each label by cross-validation.

    A Gaussian process is fitted once more to all labels for predictions, so its held-out errors, from fewer labels, are
    slightly too large. Networks predict with the mean over folds. All stop at the same epoch, that of the lowest error
    over all held-out rows; choosing one number from so many errors biases them little.

    Args:
        name: One of `LEARNERS`.
        x: Rows, with shape (n, d).
        y: Labels, with shape (n,).
        random: Whether each row belongs to a random sample of the table, with shape (n,).
        seed: Seed of the folds and the networks.
        pool: Rows without labels, with shape (m, d), that help to standardise the columns.
        folds: Number of folds.
        device: Device to fit on.
        uncertainty: Posterior of networks, see `LabelSettings`.
        may_be_ridge: Whether a ridge regression replaces the model if its errors in the same folds are lower by more
            than one standard error, as on small noisy tables with many one-hot columns.
        categories: Ranges (start, stop) of the one-hot columns, one for each categorical column, for processes with
            kernels on categories.
    """
    from surrogate.networks.uncertainty import calibrate

    start = time.perf_counter()
    lesson = Lesson(x, y, pool, seed, folds, device, uncertainty, categories)
    fitted = LEARNERS[name](lesson)
    ridge, constant = fit_ridge(lesson, fitted.parts), constant_errors(y, fitted.parts)
    held_out, beside = _judged(fitted, random), _judged(ridge, random)
    if may_be_ridge and _is_better(beside, held_out):
        name, fitted, held_out = "ridge", ridge, beside
    chosen = held_out.judged
    calibration = calibrate(fitted.error[chosen], fitted.variance[chosen, None])
    return FoldModel(
        name,
        fitted.members,
        held_out,
        calibration,
        len(y),
        time.perf_counter() - start,
        constant=_rms(constant[chosen]),
        ridge=beside.rmse,
        categories=categories,
    )


def _is_better(one: HeldOutErrors, other: HeldOutErrors) -> bool:
    """Whether ``one`` has a lower mean squared error on the same rows, by more than one standard error."""
    rows = one.judged & other.judged
    gain = other.error[rows] ** 2 - one.error[rows] ** 2
    return len(gain) > 1 and float(gain.mean()) > float(gain.std(ddof=1)) / math.sqrt(len(gain))


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan


def gain_of(before: Array, after: Array, octaves: float) -> tuple[float, float] | None:
    """Relative reduction of the RMSE by doubling the labels, and its standard error, from two models on the same rows.

    Both models are compared on labels with the same noise, so the error of the ratio is much smaller than that of
    either RMSE. It follows by the delta method from the differences of squared errors divided by their means.

    Args:
        before: Held-out errors with fewer labels, with shape (k,); NaN where there are none.
        after: Held-out errors with more labels, with shape (k,).
        octaves: Binary logarithm of the ratio of the numbers of labels.

    Returns:
        The pair, or None if there are fewer than 30 rows or errors are zero.
    """
    known = np.isfinite(before) & np.isfinite(after)
    old, new = before[known] ** 2, after[known] ** 2
    if len(old) < _ENOUGH_RANDOM or not min(old.mean(), new.mean()) > 0.0:
        return None
    factor = math.exp(0.5 * math.log(new.mean() / old.mean()) / octaves)
    spread = float(np.std(new / new.mean() - old / old.mean(), ddof=1))
    return 1.0 - factor, factor * 0.5 * spread / math.sqrt(len(old)) / octaves


def _judged(fitted: Fitted, random: Flags) -> HeldOutErrors:
    known = np.isfinite(fitted.error)
    enough = int((random & known).sum()) >= _ENOUGH_RANDOM
    return HeldOutErrors(
        fitted.error, fitted.variance, known & random if enough else known, enough or bool(random.all())
    )
