"""Network regression with error bars, with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from surrogate.arrays import Array, Indices
from surrogate.estimators.network_base import Examples, Learned, NetworkEstimator, Settings, eligible_rows
from surrogate.estimators.scales import location_and_scale
from surrogate.networks.fitting import calibrated, disagreement
from surrogate.networks.portable import PortableNetwork
from surrogate.networks.posteriors import Member
from surrogate.networks.uncertainty import Calibration, in_blocks, spreads
from surrogate.problem.repeats import distinct_rows

__all__ = ["NetworkRegressor"]

_COVERAGE = 0.9  # coverage at which the standard deviation is calibrated


class NetworkRegressor(RegressorMixin, NetworkEstimator):
    """Regression on tables by one or several wide networks with calibrated error bars.

    Inputs are standardised with bounded outliers (``InputScaling``), the target is standardised. The defaults are those
    that Holzmueller et al. (2023) tuned for batch active learning on 15 tables: two hidden layers of 512, and Adam on
    batches of 256 for 256 epochs with a step size that decreases linearly to 0, always from random weights. A row takes
    about 25 microseconds per epoch on one core: 8 s for 1280 rows.

    The standard deviation combines the posterior chosen by ``uncertainty`` with the noise, calibrated by errors on
    held-out rows, such that 90 % of these errors lie within 1.645 standard deviations. The noise may depend on the
    predicted mean. For heavy-tailed errors the standard deviation is smaller than the root mean square error; use
    ``predict_interval`` for other coverages. Held-out rows are assumed to have the same distribution as the rows to be
    predicted. After active learning, say which rows do (``representative`` in ``fit``), otherwise the intervals are too
    wide.

    Departures from the paper: there are no additional validation rows (the paper uses 1024 outside its budget), and the
    target is standardised by the given labels, not by all labels of the table.

    Args:
        hidden: Width of each hidden layer.
        activation: "relu", "silu" or an ``Activation``, which also sets the learning rate.
        n_members: Number of networks with different weights and batches, trained together; the prediction is their
            mean. None means 5 for "ensemble", 4 for "mcmc" and 1 otherwise. The variance between networks contributes
            to the error bars.
        epochs: Passes through the data.
        batch_size: Rows per step. Above 256 the step size and the number of epochs grow, see ``BatchPolicy``.
        uncertainty: Posterior of the networks. "last-layer": Laplace approximation of the last layer with exact
            curvature. "kfac": Laplace approximation of all layers by Kronecker factors. "swag": draws from the iterates
            of gradient descent, which also give the mean. "ensemble": disagreement between networks. "mcmc":
            Hamiltonian Monte Carlo over all parameters, with a chain from each trained network, for up to 2,000 rows
            and small networks. It is no better than an ensemble: on 1,024 rows of kin40k with two hidden layers of 128
            (one seed) the negative log-density of the test rows is -0.169 after a fit of 75 CPU s, that of "ensemble"
            -0.176 after 13, and that of "kfac", one network, -0.070 after 6.
        validation: How to choose the epoch, using only labels of ``y`` (for others see ``fit``). "cross": up to 5
            additional networks each hold out a fifth of the labels, until there are 256 held-out rows; the network
            trained on all labels stops at their best epoch. This takes the time of four more fits at 256 labels, and of
            less than one from 1280 labels. "holdout" or "holdout:0.2": a share of the labels is held out. "folds" or
            "folds:5": this many groups of ``n_members`` networks each hold out a fold, which chooses their epoch, and
            all predict together. None: the last epoch, which is as good if the target is a smooth function of the
            inputs, and bad otherwise.
        calibration: "unseen" calibrates the error bars by errors on the rows held out by ``validation``; if that is
            None, the additional networks of "cross" are trained for it. None gives no error bars.
        warm_start: Whether another ``fit`` continues from the weights of the last one. To save time, also reduce
            ``epochs``. Networks for the error bars are still trained from random weights.
        random_state: Seed for weights, batches and splits.
        device: A device as named in torch; None for the CPU, "auto" for a CUDA device if there is one.

    Attributes:
        modules_: The networks, ``nn.Sequential`` of ``nn.Linear`` and nonlinearities, single precision.
        kernel_scales_: Factors (c_w, c_b) of each linear layer for the gradient kernel, see ``Architecture``.
        scaling_: The scaling of the inputs.
        target_mean_: Subtracted from the target.
        target_scale_: Divisor of the target.
        best_epochs_: Chosen epoch of each network.
        n_labels_: Number of labels used, including those that choose the epoch.
        calibration_: Calibration of the errors, in units of the scaled target; None without calibration.
        n_features_in_: Number of columns.

    References:
        Holzmueller, Zaverkin, Kaestner & Steinwart (2023), https://arxiv.org/abs/2203.09410
    """

    target_mean_: float
    target_scale_: float
    calibration_: Calibration | None

    def _examples(
        self,
        x: ArrayLike,
        y: ArrayLike,
        extra: tuple[ArrayLike, ArrayLike] | None,
        representative: ArrayLike | None,
    ) -> Examples:
        rows, target = self._checked(x, y, reset=True)
        chosen = _distinct(rows, target, eligible_rows(representative, len(target)))
        rows, target = rows[chosen], target[chosen]
        further, labels = (rows[:0], target[:0]) if extra is None else self._checked(*extra)
        self.target_mean_, self.target_scale_ = map(float, location_and_scale(target))
        target, labels = ((part - self.target_mean_) / self.target_scale_ for part in (target, labels))
        mask = None if representative is None else np.asarray(representative)[chosen]
        return Examples(rows, target, (further, labels), 1, mask)

    def _calibrate(self, learned: Learned, judged: Sequence[Sequence[Member]], settings: Settings) -> None:
        self.calibration_ = calibrated(learned.task, learned.judged, judged) if settings.calibrate else None
        self._disagree = disagreement(learned.task, self._members)

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:  # noqa: N803
        """Predicted mean, with shape (n,), and its standard deviation if ``return_std`` is set.

        Computed in double precision, so a row's prediction does not depend on the other rows.

        Raises:
            ValueError: If the standard deviation is requested but ``calibration`` was None.
        """
        x = self.transform_inputs(X)
        if not return_std:
            return self._unscaled(in_blocks(self._means, x)[0])
        mean, size, calibration = self._mean_and_size(x)
        return mean, calibration.quantile(_COVERAGE) / stats.norm.ppf(0.5 + _COVERAGE / 2) * size

    def predict_interval(self, X: ArrayLike, coverage: float = 0.9) -> tuple[Array, Array]:  # noqa: N803
        """Lower and upper ends, each with shape (n,), of intervals with this coverage of the targets.

        Raises:
            ValueError: If ``coverage`` is not between 0 and 1, or ``calibration`` was None.
        """
        if not 0.0 < coverage < 1.0:
            msg = f"coverage must be between 0 and 1, got {coverage}"
            raise ValueError(msg)
        mean, size, calibration = self._mean_and_size(self.transform_inputs(X))
        half = calibration.quantile(coverage) * size
        return mean - half, mean + half

    def log_predictive_density(self, X: ArrayLike, y: ArrayLike) -> Array:  # noqa: N803
        """Natural logarithm of the density that was predicted for each target, with shape (n,).

        The density is a Student t, of the size and the tail of the errors on unseen rows.

        Raises:
            ValueError: If ``calibration`` was None, or a shape is wrong.
        """
        check_is_fitted(self)
        rows, target = self._checked(X, y)
        mean, size, calibration = self._mean_and_size(self.transform_inputs(rows))
        return calibration.log_density(target - mean, size)

    def portable(self) -> PortableNetwork:
        """The networks whose mean is the prediction, in a form that ``save_network`` writes."""
        check_is_fitted(self)
        return self._portable(self.target_mean_, self.target_scale_)

    def _means(self, x: Tensor) -> tuple[Tensor]:
        return (spreads(self._members, x, disagree=False)[0],)

    def _mean_and_size(self, x: Tensor) -> tuple[Array, Array, Calibration]:
        if self.calibration_ is None:
            msg = "no standard deviation without calibration: fit with calibration='unseen'"
            raise ValueError(msg)
        mean, columns = in_blocks(partial(spreads, self._members, disagree=self._disagree), x)
        size = self.target_scale_ * self.calibration_.size(columns.cpu().numpy(), mean.cpu().numpy())
        return self._unscaled(mean), size, self.calibration_

    def _unscaled(self, output: Tensor) -> Array:
        return self.target_mean_ + self.target_scale_ * output.cpu().numpy()

    def _checked(self, x: ArrayLike, y: ArrayLike, *, reset: bool = False) -> tuple[Array, Array]:
        least = 2 if reset else 1
        return validate_data(self, x, y, dtype=np.float64, y_numeric=True, ensure_min_samples=least, reset=reset)


def _distinct(x: Array, y: Array, eligible: Indices) -> Indices:
    """Distinct rows, preferring copies that are eligible for holding out; all rows if fewer than two are distinct."""
    order = np.r_[eligible, np.setdiff1d(np.arange(len(y)), eligible)]
    rows = np.sort(order[distinct_rows(x[order], y[order])])
    return rows if len(rows) > 1 else np.arange(len(y))
