"""Base class of network estimators: settings, scaling of the inputs, and the split into training and held-out rows."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from surrogate.arrays import Array, Indices
from surrogate.networks.architecture import ACTIVATIONS, Activation, Architecture
from surrogate.networks.fitting import Group, Split, Task, folds, learn, posteriors
from surrogate.networks.portable import PortableNetwork
from surrogate.networks.posteriors import KINDS, Member, alike
from surrogate.networks.scaling import InputScaling
from surrogate.networks.training import Schedule
from surrogate.problem.repeats import distinct_values

__all__ = ["Examples", "Learned", "NetworkEstimator", "Settings", "eligible_rows"]

Estimator = TypeVar("Estimator", bound="NetworkEstimator")

_ENOUGH = 256  # enough held-out rows for calibration: the coverage of a 90 % interval is then known to 1.9 %
_FOLDS = 5
_ENSEMBLE = 5  # networks of an ensemble, as in Lakshminarayanan, Pritzel & Blundell (2017)
_CHAINS = 4  # Markov chains of "mcmc"
_MOST_FOR_CHAINS = 2000  # rows, because each of some thousands of gradients needs all of them


@dataclass(frozen=True, eq=False)
class Examples:
    """Checked rows and targets.

    Attributes:
        x: Training rows, with shape (n, d).
        targets: Scaled targets, or classes as integers from 0, with shape (n,).
        extra: Rows and targets that only choose the epoch and calibrate the uncertainty.
        outputs: Number of outputs of each network.
        representative: See ``fit``.
    """

    x: Array
    targets: Array | Indices
    extra: tuple[Array, Array | Indices]
    outputs: int
    representative: ArrayLike | None


class NetworkEstimator(BaseEstimator, ABC):
    """Base class of network estimators: settings and training."""

    modules_: tuple[nn.Sequential, ...]
    kernel_scales_: list[tuple[float, float]]
    scaling_: InputScaling
    best_epochs_: tuple[int, ...]
    n_labels_: int
    n_features_in_: int
    _members: list[Member]

    def __init__(
        self,
        hidden: tuple[int, ...] = (512, 512),
        activation: str | Activation = "relu",
        n_members: int | None = None,
        epochs: int = 256,
        batch_size: int = 256,
        uncertainty: str = "last-layer",
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
        self.uncertainty = uncertainty
        self.validation = validation
        self.calibration = calibration
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device

    def transform_inputs(self, X: ArrayLike) -> Tensor:  # noqa: N803
        """Scaled inputs of the networks, with shape (n, d), in single precision."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return self.scaling_.tensor(x, _device(self.device))

    def _portable(self, location: float, size: float, classes: np.ndarray | None = None) -> PortableNetwork:
        """All networks that a prediction is the mean over, with these maps of their outputs."""
        check_is_fitted(self)
        networks = tuple(network for member in self._members for network in member.networks())
        scaling = self.scaling_
        return PortableNetwork(scaling.mean, scaling.scale, scaling.bound, location, size, networks, classes)

    def fit(
        self: Estimator,
        X: ArrayLike,  # noqa: N803 - scikit-learn's names
        y: ArrayLike,
        *,
        pool: ArrayLike | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        representative: ArrayLike | None = None,
    ) -> Estimator:
        """Trains the networks.

        Rows with equal inputs are held out together. In regression, rows that repeat inputs and target count once,
        unless the target takes few values.

        Args:
            X: Inputs, with shape (n, d), n at least 2.
            y: Targets, or classes, at least two different ones, with shape (n,).
            pool: Further inputs without labels, with shape (m, d), which are also used to standardise the columns.
            validation_data: Separate inputs and targets that choose the epoch and calibrate error bars or
                probabilities. Their labels count in ``n_labels_``.
            representative: Mask of the rows of ``X`` with the same distribution as those to be predicted, with shape
                (n,); by default all. Only these are held out to choose the epoch and to calibrate the uncertainty. In
                active learning they are the labels drawn at random, because chosen rows lie far from each other and are
                harder to predict when held out.

        Raises:
            ValueError: If a setting or a shape is wrong, a regression target overflows, or there are not two classes.
            FloatingPointError: If training diverges.
        """
        examples = self._examples(X, y, validation_data, representative)
        settings = Settings.of(self)
        settings.check_rows(len(examples.x))
        learned = self._learn(settings, examples, pool)
        self._members, judged = learned.members()
        self._calibrate(learned, judged, settings)
        return self

    @abstractmethod
    def _examples(
        self,
        x: ArrayLike,
        y: ArrayLike,
        extra: tuple[ArrayLike, ArrayLike] | None,
        representative: ArrayLike | None,
    ) -> Examples:
        """The checked training data; also sets the map from targets to network outputs."""

    @abstractmethod
    def _calibrate(self, learned: Learned, judged: Sequence[Sequence[Member]], settings: Settings) -> None:
        """Calibrates the uncertainty by errors on held-out rows, if the settings request it."""

    def _learn(self, settings: Settings, examples: Examples, pool: ArrayLike | None) -> Learned:
        x, targets, (extra, labels) = examples.x, examples.targets, examples.extra
        if len(labels) and settings.validation not in {"cross", None}:
            msg = f"validation must be None or 'cross' if validation_data is given, got {self.validation!r}"
            raise ValueError(msg)
        architecture = Architecture(x.shape[1], settings.hidden, settings.activation, examples.outputs)
        before = self._before(architecture) if self.warm_start else ()
        rows = [] if pool is None else [validate_data(self, pool, dtype=np.float64, reset=False)]
        self.scaling_ = InputScaling.of(x, *rows)
        self.n_labels_ = len(targets) + len(labels)
        task = self._task(settings, architecture, np.concatenate([x, extra]), np.concatenate([targets, labels]))
        eligible = eligible_rows(examples.representative, len(targets))
        learned = _fitted_networks(settings, task, distinct_values(x), eligible, before)
        self.modules_ = tuple(module for group in learned.groups for module in group.modules)
        self.best_epochs_ = tuple(epoch for group in learned.groups for epoch in group.epochs)
        self.kernel_scales_ = architecture.scales()
        return learned

    def _before(self, architecture: Architecture) -> tuple[nn.Sequential, ...]:
        """Networks of an earlier fit from which to continue; empty before the first fit."""
        modules = getattr(self, "modules_", ())
        linear = [layer for layer in modules[0] if isinstance(layer, nn.Linear)] if modules else []
        widths = (*(layer.in_features for layer in linear), linear[-1].out_features) if linear else ()
        if modules and widths != architecture.widths():
            msg = f"warm_start continues from networks of widths {widths}, got {architecture.widths()}"
            raise ValueError(msg)
        return modules

    def _task(self, settings: Settings, architecture: Architecture, x: Array, y: Array | Indices) -> Task:
        device = _device(self.device)
        classes = y.dtype != np.float64
        return Task(
            self.scaling_.tensor(x, device),
            torch.from_numpy(y if classes else y.astype(np.float32)).to(device),
            architecture,
            settings.schedule,
            settings.members,
            int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max)),
            classes,
        )


@dataclass(frozen=True, eq=False)
class Learned:
    """The result of training.

    Attributes:
        task: Data and settings of the training.
        groups: Networks for predictions.
        judged: Networks whose errors on held-out rows calibrate the uncertainty; empty without calibration.
        kind: Kind of posterior.
    """

    task: Task
    groups: list[Group]
    judged: list[Group]
    kind: str

    def members(self) -> tuple[list[Member], list[list[Member]]]:
        """The networks for predictions and those for calibration, with their posteriors."""
        if self.judged is self.groups:
            judged = posteriors(self.task, self.groups, self.kind)
            every = [member for some in judged for member in some]
            return alike(every, every), [alike(some, every) for some in judged]
        # A posterior that gives only variances does not change the mean.
        kind = self.kind if self.judged or self.kind in {"swag", "mcmc"} else "ensemble"
        final = [member for some in posteriors(self.task, self.groups, kind) for member in some]
        judged = posteriors(self.task, self.judged, self.kind)
        every = [member for some in judged for member in some]
        return alike(final, every), [alike(some, every) for some in judged]


@dataclass(frozen=True)
class Settings:
    """The checked settings of an estimator."""

    hidden: tuple[int, ...]
    activation: Activation
    members: int
    schedule: Schedule
    validation: str | None
    share: float
    calibrate: bool
    uncertainty: str

    @classmethod
    def of(cls, estimator: NetworkEstimator) -> Settings:
        """The settings of an estimator.

        Raises:
            ValueError: If a setting is invalid.
        """
        validation, share = _validation(estimator.validation)
        activation = _activation(estimator.activation)
        hidden = _widths(estimator.hidden)
        uncertainty = _uncertainty(estimator.uncertainty)
        return cls(
            hidden,
            activation,
            _members(estimator.n_members, uncertainty),
            Schedule(
                _positive("epochs", estimator.epochs),
                _positive("batch_size", estimator.batch_size),
                activation.learning_rate,
            ),
            validation,
            share,
            _calibrate(estimator.calibration),
            uncertainty,
        )

    def check_rows(self, n: int) -> None:
        """Raises ValueError if there are too many rows for Markov chains."""
        if self.uncertainty == "mcmc" and n > _MOST_FOR_CHAINS:
            msg = f"uncertainty='mcmc' is for up to {_MOST_FOR_CHAINS} rows, got {n}: use 'kfac' or 'ensemble'"
            raise ValueError(msg)


def _uncertainty(kind: str) -> str:
    if kind not in KINDS:
        msg = f"uncertainty must be one of {', '.join(KINDS)}, got {kind!r}"
        raise ValueError(msg)
    return kind


def _members(value: int | None, kind: str) -> int:
    """Number of networks per group."""
    if kind == "mcmc":
        if value is not None:
            msg = f"uncertainty='mcmc' always runs {_CHAINS} chains: n_members must be None, got {value}"
            raise ValueError(msg)
        return _CHAINS
    if value is None:
        return _ENSEMBLE if kind == "ensemble" else 1
    if _positive("n_members", value) == 1 and kind == "ensemble":
        msg = "uncertainty='ensemble' needs n_members of at least 2, got 1"
        raise ValueError(msg)
    return value


def _positive(name: str, value: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        msg = f"{name} must be a positive integer, got {value!r}"
        raise ValueError(msg)
    return int(value)


def _widths(hidden: Sequence[int]) -> tuple[int, ...]:
    if isinstance(hidden, str) or not isinstance(hidden, Iterable):
        msg = f"hidden must be a sequence of widths, one per layer, such as (64, 64), got {hidden!r}"
        raise TypeError(msg)
    return tuple(_positive("hidden", width) for width in hidden)


def _activation(value: str | Activation) -> Activation:
    if isinstance(value, Activation):
        return value
    if value not in ACTIVATIONS:
        msg = f"activation must be one of {', '.join(ACTIVATIONS)} or an Activation, got {value!r}"
        raise ValueError(msg)
    return ACTIVATIONS[value]


def _validation(value: str | None) -> tuple[str | None, float]:
    """The kind of validation, and the fraction of labels that it holds out."""
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


def eligible_rows(representative: ArrayLike | None, n: int) -> Indices:
    """Indices of the rows that may be held out.

    Raises:
        ValueError: If ``representative`` is not booleans with shape (n,), two of them true.
    """
    if representative is None:
        return np.arange(n)
    chosen = np.asarray(representative)
    if chosen.shape != (n,) or chosen.dtype != bool or chosen.sum() < 2:
        given = f"{chosen.dtype} with shape {chosen.shape}"
        msg = f"representative must be booleans with shape ({n},), two of them true, got {given}"
        raise ValueError(msg)
    return np.flatnonzero(chosen)


def _fitted_networks(
    settings: Settings, task: Task, same: Indices, eligible: Indices, before: Sequence[nn.Sequential]
) -> Learned:
    """The networks for predictions, and those whose held-out errors calibrate the uncertainty.

    ``same``, with shape (n,), has equal numbers for rows with equal inputs, which are held out together.
    """
    device, n, may = task.x.device, len(same), len(eligible)
    every = Split(torch.arange(n, device=device), torch.arange(n, len(task.x), device=device))
    if settings.validation in {"holdout", "folds"}:
        fold = max(1, int(settings.share * may))
        count = 1 if settings.validation == "holdout" else may // fold
        splits = folds(n, fold, count, task.seed, device, eligible=eligible, groups=same)
        groups = learn(task, splits, purpose="fit", choose="each", start=before)
        return Learned(task, groups, groups, settings.uncertainty)
    if len(every.unseen):
        groups = learn(task, [every], purpose="fit", choose="each", start=before)
        return Learned(task, groups, groups, settings.uncertainty)
    fold = max(1, min(n // _FOLDS, may // 2))
    count = min(_FOLDS, may // fold, math.ceil(_ENOUGH / fold))
    splits = folds(n, fold, count, task.seed, device, eligible=eligible, groups=same)
    if settings.validation == "cross":
        judged = learn(task, splits, purpose="folds", choose="together")
        groups = learn(task, [every], purpose="fit", stop=judged[0].epochs[0], start=before)
    else:
        groups = learn(task, [every], purpose="fit", start=before)
        judged = learn(task, splits, purpose="folds") if settings.calibrate else []
    return Learned(task, groups, judged if settings.calibrate else [], settings.uncertainty)
