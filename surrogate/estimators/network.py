"""The network as a scikit-learn regressor: fit, predict with error bars, clone, pipelines."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data
from torch import Tensor

from surrogate.arrays import Array, Indices
from surrogate.estimators.network_base import NetworkEstimator, Settings, eligible_rows
from surrogate.networks.fitting import calibrated, disagreement
from surrogate.networks.posteriors import Member
from surrogate.networks.uncertainty import Calibration, in_blocks, spreads
from surrogate.problem.repeats import distinct_rows

__all__ = ["NetworkRegressor"]

_COVERAGE = 0.9  # at which the standard deviation is right


class NetworkRegressor(RegressorMixin, NetworkEstimator):
    """Regression on tables with one or several wide networks, as in batch active learning.

    Inputs are standardised and squashed (``InputScaling``), the target is standardised. The settings are those that
    Holzmueller et al. (2023) tuned on 15 tables: two hidden layers of 512, Adam on batches of 256 for 256 epochs with a
    step size that falls linearly to 0, always from scratch. A row takes about 25 microseconds an epoch on one core,
    8 s for 1280 rows.

    The standard deviation is that of the posterior that ``uncertainty`` names and of the noise, both sized by the
    errors of networks on rows that they have not seen. It is made so that the mean plus and minus 1.645 of it holds
    90 % of such errors: where they have heavy tails this is less than their root mean square, and the right number of
    sizes for another share is in ``predict_interval``. The rows left out are taken to be drawn like those to be
    predicted: after active learning say which were, see ``fit``, or the intervals are too wide.

    Departures from the paper: no free validation rows (there 1024 that no budget counts), and the target is
    standardised by the labels at hand, not by all.

    Args:
        hidden: Width of each hidden layer.
        activation: "relu", "silu" or an ``Activation``, which also sets the learning rate.
        n_members: Networks, with weights and batches of their own, trained at once; the prediction is their mean. None
            for 5 with "ensemble", 4 with "mcmc", 1 with the others. The variance between several is a part of the
            error bars.
        epochs: Passes through the data.
        batch_size: Rows in a step. Above 256 the steps are longer and the epochs more, see ``BatchPolicy``.
        uncertainty: Posterior of the networks. "last-layer": Laplace approximation of the last layer, exact.
            "kfac": of all layers, by Kronecker factors. "swag": draws from the path of gradient descent, which also
            give the mean. "ensemble": what networks disagree on. "mcmc": Hamiltonian Monte Carlo over all parameters,
            one chain from each trained network, for up to 2,000 rows and small networks.
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
        device: A device as named in torch; None for the CPU, "auto" for a CUDA device if there is one.

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

    target_mean_: float
    target_scale_: float
    calibration_: Calibration | None

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

        Rows that repeat inputs and target count once, unless the target takes few values; rows with the same inputs are
        left out together.

        Args:
            X: Inputs, with shape (n, d), n at least 2.
            y: Targets, with shape (n,).
            pool: Further inputs without labels, with shape (m, d); they join those that standardise the columns.
            validation_data: Inputs and targets that choose the epoch and size the error bars, apart from ``X``. The
                labels count in ``n_labels_``.
            representative: Mask of the rows of ``X`` drawn like those to be predicted, with shape (n,), by
                default all. Only they are left out to choose the epoch and to size the error bars; in active learning
                these are the first labels, drawn at random. Rows that were chosen lie far from each other, and what is
                left out of them is harder than what is to be predicted.

        Raises:
            ValueError: If a setting or a shape is wrong, or the target overflows.
            FloatingPointError: If training diverges.
        """
        x, target = self._checked(X, y, reset=True)
        settings = Settings.of(self)
        rows = _distinct(x, target, eligible_rows(representative, len(target)))
        x, target = x[rows], target[rows]
        representative = None if representative is None else np.asarray(representative)[rows]
        settings.check_rows(len(x))
        extra = (x[:0], target[:0]) if validation_data is None else self._checked(*validation_data)
        self.target_mean_, self.target_scale_ = _location_and_scale(target)
        scaled = tuple((part - self.target_mean_) / self.target_scale_ for part in (target, extra[1]))
        learned = self._learn(
            settings, (x, extra[0]), (scaled[0], scaled[1]), outputs=1, pool=pool, representative=representative
        )
        members, judged = learned.members()
        self.calibration_ = calibrated(learned.task, learned.judged, judged) if settings.calibrate else None
        self._members: list[Member] = members
        self._disagree = disagreement(learned.task, members)
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:  # noqa: N803
        """Mean of the networks' outputs, with shape (n,), and its standard deviation if ``return_std`` is set.

        In double precision: a row's prediction does not depend on the rows beside it.

        Raises:
            ValueError: If the standard deviation is asked for but ``calibration`` was None.
        """
        x = self.transform_inputs(X)
        if not return_std:
            return self._unscaled(in_blocks(self._means, x)[0])
        mean, size, calibration = self._mean_and_size(x)
        return mean, calibration.quantile(_COVERAGE) / stats.norm.ppf(0.5 + _COVERAGE / 2) * size

    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Lower and upper ends, each with shape (n,), of intervals that contain this share of the targets.

        Raises:
            ValueError: If ``coverage`` is not between 0 and 1, or ``calibration`` was None.
        """
        if not 0.0 < coverage < 1.0:
            msg = f"coverage must be between 0 and 1, got {coverage}"
            raise ValueError(msg)
        mean, size, calibration = self._mean_and_size(self.transform_inputs(X))
        half = calibration.quantile(coverage) * size
        return mean - half, mean + half

    def _means(self, x: Tensor) -> tuple[Tensor]:
        return (spreads(self._members, x, disagree=False)[0],)

    def _mean_and_size(self, x: Tensor) -> tuple[Array, Array, Calibration]:
        if self.calibration_ is None:
            msg = "no standard deviation without calibration: fit with calibration='unseen'"
            raise ValueError(msg)
        mean, columns = in_blocks(partial(spreads, self._members, disagree=self._disagree), x)
        size = self.target_scale_ * self.calibration_.size(columns.cpu().numpy())
        return self._unscaled(mean), size, self.calibration_

    def _unscaled(self, output: Tensor) -> Array:
        return self.target_mean_ + self.target_scale_ * output.cpu().numpy()

    def _checked(self, x: ArrayLike, y: ArrayLike, *, reset: bool = False) -> tuple[Array, Array]:
        least = 2 if reset else 1
        return validate_data(self, x, y, dtype=np.float64, y_numeric=True, ensure_min_samples=least, reset=reset)


def _distinct(x: Array, y: Array, eligible: Indices) -> Indices:
    """Distinct rows without copies, eligible for holding out where possible; all rows if there are fewer than two."""
    order = np.r_[eligible, np.setdiff1d(np.arange(len(y)), eligible)]
    rows = np.sort(order[distinct_rows(x[order], y[order])])
    return rows if len(rows) > 1 else np.arange(len(y))


def _location_and_scale(y: Array) -> tuple[float, float]:
    mean, scale = float(y.mean()), float(y.std())
    if not math.isfinite(mean) or not math.isfinite(scale):
        msg = "the target overflows: divide it by a constant"
        raise ValueError(msg)
    return mean, scale if scale > 1e-12 * abs(mean) else 1.0
