"""Network classification with calibrated probabilities, with the interface of scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from surrogate.arrays import Array, Indices
from surrogate.estimators.network_base import Examples, Learned, NetworkEstimator, Settings
from surrogate.networks.classes import Temperature, fit_temperature, outputs_of
from surrogate.networks.fitting import unseen_logits
from surrogate.networks.portable import PortableNetwork
from surrogate.networks.posteriors import Member
from surrogate.networks.uncertainty import in_blocks

__all__ = ["NetworkClassifier"]


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """Classification of tables by wide networks: `NetworkRegressor` with logits and cross-entropy loss.

    Probabilities are the mean over draws of the posterior of softmax(f / (T sqrt(1 + pi / 8 a v))), where f are the
    logits and v their variances. The temperature T and the factor a maximise the likelihood of held-out classes, so
    that the probabilities are calibrated: of cases predicted with 80 %, about 80 % are right.

    Args:
        hidden: Width of each hidden layer.
        activation: "relu", "silu" or an ``Activation``, which also sets the learning rate.
        n_members: Number of networks with different weights and batches, trained together. None means 5 for "ensemble",
            4 for "mcmc" and 1 otherwise.
        epochs: Passes through the data.
        batch_size: Rows per step.
        uncertainty: "last-layer": Laplace approximation of the last layer, by Kronecker factors. "kfac": Laplace
            approximation of all layers. "swag": draws from the iterates of gradient descent. "ensemble": only the
            networks. "mcmc": Hamiltonian Monte Carlo over all parameters, with a chain from each trained network, for
            up to 2,000 rows and small networks.
        validation: How to choose the epoch, see `NetworkRegressor`; here by the cross-entropy.
        calibration: "unseen" fits T and a on the rows held out by ``validation``; None keeps both at 1.
        warm_start: Whether another ``fit`` continues from the weights of the last one.
        random_state: Seed for weights, batches and splits.
        device: A device as named in torch; None for the CPU, "auto" for a CUDA device if there is one.

    Attributes:
        classes_: The classes, sorted.
        modules_: The networks, ``nn.Sequential`` of ``nn.Linear`` and nonlinearities, single precision.
        kernel_scales_: Factors (c_w, c_b) of each linear layer for the gradient kernel, see ``Architecture``.
        scaling_: The scaling of the inputs.
        best_epochs_: Chosen epoch of each network.
        n_labels_: Number of labels used, including those that choose the epoch.
        temperature_: The fitted T and a.
        plain_temperature_: The T fitted with v = 0, used in files of the networks, see ``save_network``.
        n_features_in_: Number of columns.

    References:
        Holzmueller, Zaverkin, Kaestner & Steinwart (2023), https://arxiv.org/abs/2203.09410, for the network; Guo,
        Pleiss, Sun & Weinberger (2017), https://arxiv.org/abs/1706.04599, for the temperature.
    """

    classes_: np.ndarray
    temperature_: Temperature
    plain_temperature_: Temperature

    def _examples(
        self,
        x: ArrayLike,
        y: ArrayLike,
        extra: tuple[ArrayLike, ArrayLike] | None,
        representative: ArrayLike | None,
    ) -> Examples:
        rows, labels = validate_data(self, x, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        self.classes_, target = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            msg = f"y must have at least 2 classes, got 1 class: {self.classes_[0]!r}"
            raise ValueError(msg)
        further = (rows[:0], target[:0].astype(np.int64)) if extra is None else self._extra(*extra)
        return Examples(rows, target.astype(np.int64), further, len(self.classes_), representative)

    def _calibrate(self, learned: Learned, judged: Sequence[Sequence[Member]], settings: Settings) -> None:
        self.temperature_ = self.plain_temperature_ = Temperature()
        if settings.calibrate:
            logits, classes = unseen_logits(learned.task, learned.judged, judged)
            self.temperature_ = fit_temperature(logits, classes)
            self.plain_temperature_ = fit_temperature([part.means() for part in logits], classes)

    def predict_proba(self, X: ArrayLike) -> Array:  # noqa: N803
        """Probabilities of the classes in the order of ``classes_``, with shape (n, c)."""
        x = self.transform_inputs(X)
        return in_blocks(self._probabilities, x, block=1024)[0].cpu().numpy()

    def predict(self, X: ArrayLike) -> Any:  # noqa: N803
        """The most probable class of each row, with shape (n,)."""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(1)]

    def portable(self) -> PortableNetwork:
        """The networks, in a form that ``save_network`` writes and other programs read.

        Its probabilities are the mean over the networks of softmax(f / T), T of ``plain_temperature_``: those of
        ``predict_proba`` for "swag", "ensemble" and "mcmc"; for the others nearly, without the variance of logits.
        """
        check_is_fitted(self)
        names = np.array(self.classes_.tolist())  # fixed-width text rather than objects
        return self._portable(0.0, 1.0 / self.plain_temperature_.temperature, names)

    def _probabilities(self, x: Tensor) -> tuple[Tensor]:
        return (self.temperature_.log_probabilities(outputs_of(self._members, x)).exp(),)

    def _extra(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Indices]:
        """The separate validation rows, with classes as indices."""
        rows, labels = validate_data(self, x, y, dtype=np.float64, reset=False)
        if not np.isin(labels, self.classes_).all():
            unknown = np.setdiff1d(labels, self.classes_).tolist()
            msg = f"validation_data has classes that y does not have: {unknown}"
            raise ValueError(msg)
        return rows, np.searchsorted(self.classes_, labels).astype(np.int64)
