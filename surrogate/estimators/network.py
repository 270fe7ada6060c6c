"""The network as a scikit-learn regressor: fit, predict with error bars, clone, pipelines."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from surrogate.arrays import Array, Indices
from surrogate.networks.architecture import ACTIVATIONS, Activation, Architecture
from surrogate.networks.fitting import Group, Split, Task, calibrated, folds, last_layers, learn
from surrogate.networks.scaling import InputScaling
from surrogate.networks.training import Schedule
from surrogate.networks.uncertainty import Calibration, LastLayer, in_blocks, spreads

__all__ = ["NetworkRegressor"]


_COVERAGE = 0.9  # at which the standard deviation is right
_ENOUGH = 256  # unseen rows are enough to calibrate by: the coverage of an interval of 90 % is then known to 1.9 %
_FOLDS = 5


class NetworkRegressor(RegressorMixin, BaseEstimator):
    """A wide network, or several, for tables: the regressor of batch active learning.

    Inputs are standardised and squashed (``InputScaling``), the target is standardised. The settings are those that
    Holzmueller et al. (2023) tuned on 15 tables: two hidden layers of 512, Adam on batches of 256 for 256 epochs with a
    step size that falls linearly to 0, always from scratch. A row takes about 25 microseconds an epoch on one core,
    8 s for 1280 rows.

    The standard deviation is that of the last layer's posterior and of the noise, both sized by the errors of networks
    on rows that they have not seen. It is made so that the mean plus and minus 1.645 of it holds 90 % of such errors:
    where they have heavy tails this is less than their root mean square, and the right number of sizes for another
    share is in ``predict_interval``. The rows left out are taken to be drawn like those to be predicted: after active
    learning say which were, see ``fit``, or the intervals are too wide.

    Departures from the paper: no free validation rows (there 1024 that no budget counts), and the target is
    standardised by the labels at hand, not by all.

    Args:
        hidden: Width of each hidden layer.
        activation: "relu", "silu" or an ``Activation``, which also sets the learning rate.
        n_members: Networks, with weights and batches of their own, trained at once; the prediction is their mean.
        epochs: Passes through the data.
        batch_size: Rows in a step. Above 256 the steps are longer and the epochs more, see ``BatchPolicy``.
        validation: How the epoch is chosen, always by labels that were paid for (for others see ``fit``). "cross": up
            to 5 further networks each leave out a fifth of the labels, as many as make 256 unseen rows, and the network
            on all labels stops at the epoch that was best for them: the time of four fits more at 256 labels, of less
            than one from 1280 on. "holdout" or "holdout:0.2": a share of the labels is set apart. "folds" or "folds:5":
            that many times ``n_members`` networks, each without one of the folds and judged by it, predict together.
            None: the last epoch, as good where the target is a smooth function of the inputs, bad where it is not.
        calibration: "unseen" sizes the error bars by the errors on rows left out by ``validation``; without it the
            further networks of "cross" are trained for that. None makes no error bars.
        warm_start: Whether another ``fit`` goes on from the weights of the last one. Saves nothing by itself: take
            fewer epochs. The error bars come from networks trained from scratch.
        random_state: Seed of weights, batches and splits.
        device: As torch spells it; None for the CPU, "auto" for a CUDA device if there is one.

    Attributes:
        modules_: The networks, ``nn.Sequential`` of ``nn.Linear`` and nonlinearities, single precision.
        kernel_scales_: (c_w, c_b) for the gradient kernel of each linear layer, see ``Architecture``.
        scaling_: The map of the inputs.
        target_mean_: Subtracted from the target.
        target_scale_: And what it is divided by.
        best_epochs_: The epoch kept of each network.
        n_labels_: Labels used, those that choose an epoch included.
        calibration_: Sizes and tail of the errors, in units of the scaled target; None if not asked for.
        n_features_in_: Columns.

    References:
        Holzmueller, Zaverkin, Kaestner & Steinwart (2023), https://arxiv.org/abs/2203.09410
    """

    modules_: tuple[nn.Sequential, ...]
    kernel_scales_: list[tuple[float, float]]
    scaling_: InputScaling
    target_mean_: float
    target_scale_: float
    best_epochs_: tuple[int, ...]
    n_labels_: int
    n_features_in_: int
    calibration_: Calibration | None

    def __init__(
        self,
        hidden: tuple[int, ...] = (512, 512),
        activation: str | Activation = "relu",
        n_members: int = 1,
        epochs: int = 256,
        batch_size: int = 256,
        validation: str | None = "cross",
        calibration: str | None = "unseen",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = 0,
        device: str | None = None,
    ) -> None:
        self.hidden = hidden
        self.activation = activation
        self.n_members = n_members
        self.epochs = epochs
        self.batch_size = batch_size
        self.validation = validation
        self.calibration = calibration
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device

    def fit(
        self,
        X: ArrayLike,  # noqa: N803 - scikit-learn's names
        y: ArrayLike,
        *,
        pool: ArrayLike | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        representative: ArrayLike | None = None,
    ) -> NetworkRegressor:
        """Trains the networks.

        Args:
            X: Inputs, with shape (n, d), n at least 2.
            y: Targets, with shape (n,).
            pool: Further inputs without labels, with shape (m, d); they join those that standardise the columns.
            validation_data: Inputs and targets that choose the epoch and size the error bars, apart from ``X``. The
                labels count in ``n_labels_``.
            representative: Which rows of ``X`` were drawn like those to be predicted, booleans with shape (n,), by
                default all. Only they are left out to choose the epoch and to size the error bars; in active learning
                these are the first labels, drawn at random. Rows that were chosen lie far from each other, and what is
                left out of them is harder than what is to be predicted.

        Raises:
            ValueError: If a setting or a shape is wrong, or the target overflows.
            FloatingPointError: If training diverges.
        """
        x, target = self._checked(X, y, reset=True)
        settings = _Settings.of(self)
        extra = (x[:0], target[:0]) if validation_data is None else self._checked(*validation_data)
        if len(extra[1]) and settings.validation not in {"cross", None}:
            msg = f"validation must be None or 'cross' where validation_data is given, got {self.validation!r}"
            raise ValueError(msg)
        architecture = Architecture(x.shape[1], settings.hidden, settings.activation)
        before = self._before(architecture) if self.warm_start else ()
        self.scaling_ = InputScaling.of(x, *([] if pool is None else [self._inputs(pool)]))
        self.target_mean_, self.target_scale_ = _location_and_scale(target)
        self.n_labels_ = len(target) + len(extra[1])
        eligible = _eligible(representative, len(target))
        task = self._task(settings, architecture, np.concatenate([x, extra[0]]), np.concatenate([target, extra[1]]))
        self._keep(settings, task, _learned(settings, task, len(target), eligible, before))
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:  # noqa: N803
        """Mean of the networks' outputs, and on request its standard deviation, each with shape (n,).

        In double precision: a row's prediction does not depend on the rows beside it.

        Raises:
            ValueError: If the standard deviation is asked for but ``calibration`` was None.
        """
        x = self.transform_inputs(X)
        if not return_std:
            return self._unscaled(in_blocks(self._mean_output, x)[0])
        mean, size, calibration = self._mean_and_size(x)
        return mean, calibration.quantile(_COVERAGE) / stats.norm.ppf(0.5 + _COVERAGE / 2) * size

    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Lower and upper ends, each with shape (n,), of intervals that hold this share of the targets.

        Raises:
            ValueError: If ``coverage`` is not between 0 and 1, or ``calibration`` was None.
        """
        if not 0.0 < coverage < 1.0:
            msg = f"coverage must be between 0 and 1, got {coverage}"
            raise ValueError(msg)
        mean, size, calibration = self._mean_and_size(self.transform_inputs(X))
        half = calibration.quantile(coverage) * size
        return mean - half, mean + half

    def transform_inputs(self, X: ArrayLike) -> Tensor:  # noqa: N803
        """What the networks are given: standardised and squashed, single precision, with shape (n, d)."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return self.scaling_.tensor(x, _device(self.device))

    def _mean_and_size(self, x: Tensor) -> tuple[Array, Array, Calibration]:
        if self.calibration_ is None:
            msg = "no standard deviation without calibration: fit with calibration='unseen'"
            raise ValueError(msg)
        layers, disagree = self._last_layers, self.n_members > 1
        mean, columns = in_blocks(lambda rows: spreads(layers, rows, disagree=disagree), x)
        size = self.target_scale_ * self.calibration_.size(columns.cpu().numpy())
        return self._unscaled(mean), size, self.calibration_

    @torch.no_grad()
    def _mean_output(self, x: Tensor) -> tuple[Tensor]:
        outputs = [copy.deepcopy(module).double()(x.double()).squeeze(-1) for module in self.modules_]
        return (torch.stack(outputs).mean(0),)

    def _unscaled(self, output: Tensor) -> Array:
        return self.target_mean_ + self.target_scale_ * output.cpu().numpy()

    def _inputs(self, table: ArrayLike) -> Array:
        return validate_data(self, table, dtype=np.float64, reset=False)

    def _checked(self, x: ArrayLike, y: ArrayLike, *, reset: bool = False) -> tuple[Array, Array]:
        least = 2 if reset else 1
        return validate_data(self, x, y, dtype=np.float64, y_numeric=True, ensure_min_samples=least, reset=reset)

    def _before(self, architecture: Architecture) -> tuple[nn.Sequential, ...]:
        """Networks of an earlier fit to go on from; none before the first."""
        modules = getattr(self, "modules_", ())
        widths = tuple(layer.in_features for layer in modules[0] if isinstance(layer, nn.Linear)) if modules else ()
        if modules and (*widths, 1) != architecture.widths():
            msg = f"warm_start goes on from networks of widths {(*widths, 1)}, got {architecture.widths()}"
            raise ValueError(msg)
        return modules

    def _task(self, settings: _Settings, architecture: Architecture, x: Array, y: Array) -> Task:
        device = _device(self.device)
        target = (y - self.target_mean_) / self.target_scale_
        return Task(
            self.scaling_.tensor(x, device),
            torch.from_numpy(target.astype(np.float32)).to(device),
            architecture,
            settings.schedule,
            settings.members,
            int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)),
        )

    def _keep(self, settings: _Settings, task: Task, learned: tuple[list[Group], list[Group]]) -> None:
        groups, judged = learned
        self.modules_ = tuple(module for group in groups for module in group.modules)
        self.best_epochs_ = tuple(epoch for group in groups for epoch in group.epochs)
        self.kernel_scales_ = task.architecture.scales()
        self.calibration_ = calibrated(task, judged) if settings.calibrate else None
        layers = [layer for group in groups for layer in last_layers(task, group)] if settings.calibrate else []
        self._last_layers: list[LastLayer] = layers


@dataclass(frozen=True)
class _Settings:
    """The regressor's settings, checked."""

    hidden: tuple[int, ...]
    activation: Activation
    members: int
    schedule: Schedule
    validation: str | None
    share: float
    calibrate: bool

    @classmethod
    def of(cls, regressor: NetworkRegressor) -> _Settings:
        """The settings of a regressor; ValueError if one cannot be used."""
        validation, share = _validation(regressor.validation)
        activation = _activation(regressor.activation)
        return cls(
            tuple(_positive("hidden", width) for width in regressor.hidden),
            activation,
            _positive("n_members", regressor.n_members),
            Schedule(
                _positive("epochs", regressor.epochs),
                _positive("batch_size", regressor.batch_size),
                activation.learning_rate,
            ),
            validation,
            share,
            _calibrate(regressor.calibration),
        )


def _positive(name: str, value: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        msg = f"{name} must be a positive integer, got {value!r}"
        raise ValueError(msg)
    return int(value)


def _activation(value: str | Activation) -> Activation:
    if isinstance(value, Activation):
        return value
    if value not in ACTIVATIONS:
        msg = f"activation must be one of {', '.join(ACTIVATIONS)} or an Activation, got {value!r}"
        raise ValueError(msg)
    return ACTIVATIONS[value]


def _validation(value: str | None) -> tuple[str | None, float]:
    """What kind, and which share of the labels is unseen."""
    if value is None:
        return None, 1.0 / _FOLDS
    if value == "cross":
        return "cross", 1.0 / _FOLDS
    kind, _, number = str(value).partition(":")
    try:
        share = {"holdout": lambda: float(number or 0.2), "folds": lambda: 1.0 / int(number or _FOLDS)}[kind]()
    except (KeyError, ValueError, ZeroDivisionError):
        share = 0.0
    if not 0.0 < share <= 0.5:
        forms = "None, 'cross', 'holdout', 'holdout:0.2', 'folds' or 'folds:5', with a share up to 0.5"
        msg = f"validation must be {forms}, got {value!r}"
        raise ValueError(msg)
    return kind, share


def _calibrate(value: str | None) -> bool:
    if value not in {"unseen", None}:
        msg = f"calibration must be 'unseen' or None, got {value!r}"
        raise ValueError(msg)
    return value is not None


def _device(name: str | None) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name or "cpu")


def _eligible(representative: ArrayLike | None, n: int) -> Indices:
    """Indices of the rows that may be left out."""
    if representative is None:
        return np.arange(n)
    chosen = np.asarray(representative)
    if chosen.shape != (n,) or chosen.dtype != bool or chosen.sum() < 2:
        given = f"{chosen.dtype} with shape {chosen.shape}"
        msg = f"representative must be booleans with shape ({n},), two of them true, got {given}"
        raise ValueError(msg)
    return np.flatnonzero(chosen)


def _location_and_scale(y: Array) -> tuple[float, float]:
    mean, scale = float(y.mean()), float(y.std())
    if not math.isfinite(mean) or not math.isfinite(scale):
        msg = "the target overflows: divide it by a constant"
        raise ValueError(msg)
    return mean, scale if scale > 1e-12 * abs(mean) else 1.0


def _learned(
    settings: _Settings, task: Task, n: int, eligible: Indices, before: Sequence[nn.Sequential]
) -> tuple[list[Group], list[Group]]:
    """The networks to predict with, and those whose errors on unseen rows size the error bars."""
    device, may = task.x.device, len(eligible)
    every = Split(torch.arange(n, device=device), torch.arange(n, len(task.x), device=device))
    if settings.validation in {"holdout", "folds"}:
        fold = max(1, int(settings.share * may))
        count = 1 if settings.validation == "holdout" else may // fold
        splits = folds(n, fold, count, task.seed, device, eligible=eligible)
        groups = learn(task, splits, purpose="fit", choose="each", start=before)
        return groups, groups
    if len(every.unseen):
        groups = learn(task, [every], purpose="fit", choose="each", start=before)
        return groups, groups
    fold = max(1, min(n // _FOLDS, may // 2))
    count = min(_FOLDS, may // fold, math.ceil(_ENOUGH / fold))
    splits = folds(n, fold, count, task.seed, device, eligible=eligible)
    if settings.validation == "cross":
        judged = learn(task, splits, purpose="folds", choose="together")
        return learn(task, [every], purpose="fit", stop=judged[0].epochs[0], start=before), judged
    groups = learn(task, [every], purpose="fit", start=before)
    return groups, learn(task, splits, purpose="folds") if settings.calibrate else []
