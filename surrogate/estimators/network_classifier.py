"""The network as a scikit-learn classifier: fit, calibrated probabilities, clone, pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from torch import Tensor

from surrogate.arrays import Array, Indices
from surrogate.estimators.network_base import NetworkEstimator, Settings
from surrogate.networks.classes import Temperature, outputs_of
from surrogate.networks.fitting import tempered
from surrogate.networks.posteriors import Member
from surrogate.networks.uncertainty import in_blocks

__all__ = ["NetworkClassifier"]


class NetworkClassifier(ClassifierMixin, NetworkEstimator):
    """Classification of tables with wide networks: `NetworkRegressor` with one logit per class and cross-entropy loss.

    Probabilities are the mean over draws of the posterior of softmax(f / (T sqrt(1 + pi / 8 a v))), f the logits and v
    their variance. The temperature T and the factor a have the largest likelihood of the classes of rows that networks
    have not seen, so that what is said to hold with 80 % holds in 80 % of the cases.

    Args:
        hidden: Width of each hidden layer.
        activation: "relu", "silu" or an ``Activation``, which also sets the learning rate.
        n_members: Networks, with weights and batches of their own, trained at once; None for 5 with "ensemble", 4 with
            "mcmc", 1 with the others.
        epochs: Passes through the data.
        batch_size: Rows in a step.
        uncertainty: "last-layer": Laplace approximation of the last layer, by Kronecker factors. "kfac": of all layers.
            "swag": draws from the path of gradient descent. "ensemble": networks alone. "mcmc": Hamiltonian Monte Carlo
            over all parameters, one chain from each trained network, for up to 2,000 rows and small networks.
        validation: How the epoch is chosen, see `NetworkRegressor`; here by the cross-entropy.
        calibration: "unseen" finds the temperature by rows left out by ``validation``; None leaves T and a at 1.
        warm_start: Whether another ``fit`` goes on from the weights of the last one.
        random_state: Seed of weights, batches and splits.
        device: A device as named in torch; None for the CPU, "auto" for a CUDA device if there is one.

    Attributes:
        classes_: The classes, sorted.
        modules_: The networks, ``nn.Sequential`` of ``nn.Linear`` and nonlinearities, single precision.
        kernel_scales_: (c_w, c_b) for the gradient kernel of each linear layer, see ``Architecture``.
        scaling_: The map of the inputs.
        best_epochs_: The epoch kept of each network.
        n_labels_: Labels used, those that choose an epoch included.
        temperature_: T and a.
        n_features_in_: Columns.

    References:
        Holzmueller, Zaverkin, Kaestner & Steinwart (2023), https://arxiv.org/abs/2203.09410, for the network; Guo,
        Pleiss, Sun & Weinberger (2017), https://arxiv.org/abs/1706.04599, for the temperature.
    """

    classes_: np.ndarray
    temperature_: Temperature

    def fit(
        self,
        X: ArrayLike,  # noqa: N803 - scikit-learn's names
        y: ArrayLike,
        *,
        pool: ArrayLike | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        representative: ArrayLike | None = None,
    ) -> NetworkClassifier:
        """Trains the networks.

        Args:
            X: Inputs, with shape (n, d), n at least 2.
            y: Classes, with shape (n,), of at least two kinds.
            pool: See `NetworkRegressor.fit`, as ``representative``.
            validation_data: Inputs and classes that choose the epoch and the temperature, apart from ``X``.
            representative: Mask of the rows of ``X`` that were drawn like those to be predicted.

        Raises:
            ValueError: If a setting or a shape is wrong, or there are not two classes.
            FloatingPointError: If training diverges.
        """
        x, labels = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(labels)
        settings = Settings.of(self)
        settings.check_rows(len(x))
        self.classes_, target = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            msg = f"y must have at least 2 classes, got 1 class: {self.classes_[0]!r}"
            raise ValueError(msg)
        extra = (x[:0], target[:0]) if validation_data is None else self._extra(*validation_data)
        learned = self._learn(
            settings,
            (x, extra[0]),
            (target.astype(np.int64), extra[1].astype(np.int64)),
            outputs=len(self.classes_),
            pool=pool,
            representative=representative,
        )
        members, judged = learned.members()
        self.temperature_ = tempered(learned.task, learned.judged, judged) if settings.calibrate else Temperature()
        self._members: list[Member] = members
        return self

    def predict_proba(self, X: ArrayLike) -> Array:  # noqa: N803
        """Probabilities of the classes in the order of ``classes_``, with shape (n, c)."""
        x = self.transform_inputs(X)
        return in_blocks(self._probabilities, x, block=1024)[0].cpu().numpy()

    def predict(self, X: ArrayLike) -> Any:  # noqa: N803
        """The most probable class of each row, with shape (n,)."""
        p = self.predict_proba(X)
        return self.classes_[p.argmax(1)]

    def _probabilities(self, x: Tensor) -> tuple[Tensor]:
        return (self.temperature_.log_probabilities(outputs_of(self._members, x)).exp(),)

    def _extra(self, x: ArrayLike, y: ArrayLike) -> tuple[Array, Indices]:
        """Rows that only choose, their classes as indices."""
        rows, labels = validate_data(self, x, y, dtype=np.float64, reset=False)
        if not np.isin(labels, self.classes_).all():
            unknown = np.setdiff1d(labels, self.classes_).tolist()
            msg = f"validation_data has classes that y does not have: {unknown}"
            raise ValueError(msg)
        return rows, np.searchsorted(self.classes_, labels)
