"""A Gaussian process with the interface of scikit-learn, for a hundred points or a million."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from surrogate.gp.choose import CALIBRATION, EXACT_FIT, choose_process
from surrogate.gp.solvers.exact import ExactPosterior, exact_posterior
from surrogate.gp.solvers.iterative import IterativePosterior, iterative_posterior
from surrogate.rng import torch_generator

__all__ = ["GPRegressor"]

_KERNELS = ("rbf", "matern52", "matern32", "matern12")
_MOST_EXACT = {"cpu": 12_000, "cuda": 60_000}  # points whose n x n matrix is stored: 1.2 GB and 29 GB


class GPRegressor(RegressorMixin, BaseEstimator):
    """Gaussian-process regression that needs no settings: predictions with error bars from 2 points to a million.

    Inputs and outputs are standardised. The kernel is the one with the most evidence of four (squared exponential and
    Matern 5/2, 3/2 and 1/2) with one lengthscale a column; the noise is estimated or given. Up to 12,000 points (60,000
    on a GPU) everything comes from a Cholesky factor. Beyond that the mean comes from preconditioned conjugate
    gradients with a known residual, which is filled in from the 64 nearest neighbours, and variances from the 256
    nearest, calibrated on points held out.

    Args:
        kernel: One of "rbf", "matern52", "matern32", "matern12", or "auto" for the best of them.
        noise: Standard deviation of the noise in units of y, 0 for exact values; None to estimate it.
        device: Where the linear algebra runs, as torch spells it.
        random_state: Seed, or a RandomState, of the subsets and pivots. The same seed gives the same fit.

    Attributes:
        kernel_: Name of the kernel.
        lengthscale_: In units of the columns of X, with shape (d,).
        output_scale_: Prior sd of the function, in units of y.
        noise_: Sd of the noise, in units of y.
        solver_: "cholesky" or "cg".
        residual_: Relative residual of the linear system behind the mean.
        log_marginal_likelihood_: In nats, of y in its own units; nan where it was not computed.
        status_: How the hyperparameters and the solution were found.
        n_features_in_: Number of columns d.

    References:
        Rasmussen & Williams (2006), http://gaussianprocess.org/gpml/; Vecchia (1988),
        https://www.jstor.org/stable/2345768; Wang et al. (2019), arXiv:1903.08114. See ``surrogate.gp.choose`` and
        ``surrogate.gp.solvers.iterative`` for what differs.

    >>> import numpy as np
    >>> x = np.linspace(0.0, 6.0, 30)[:, None]
    >>> model = GPRegressor(noise=0.0).fit(x, np.sin(x[:, 0]))
    >>> mean, sd = model.predict(np.array([[1.5]]), return_std=True)
    >>> bool(abs(mean[0] - np.sin(1.5)) < 1e-4)
    True
    """

    def __init__(
        self,
        *,
        kernel: str = "auto",
        noise: float | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.kernel = kernel
        self.noise = noise
        self.device = device
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> GPRegressor:  # noqa: N803  # scikit-learn's name
        """Finds kernel, hyperparameters and posterior from X with shape (n, d) and y with shape (n,).

        Costs O(n^3) up to 12,000 points, about a minute there on one core, and O(n^2 d) an iteration beyond.

        Raises:
            ValueError: If the data are not finite, are fewer than 2 points, or a setting is not one of those.
            FloatingPointError: If a kernel matrix cannot be factored with any noise.
        """
        self._check_settings()
        points, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        values = np.asarray(values, dtype=np.float64)
        self._center, self._spread = points.mean(0), _spread(points)
        self._offset, self._unit = float(values.mean()), float(_spread(values[:, None])[0])
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        x = self._standardised(points)
        y_standard = torch.as_tensor((values - self._offset) / self._unit, device=self.device)
        self._posterior = self._solve(x, y_standard, seed)
        self._publish(len(values))
        return self

    def _check_settings(self) -> None:
        if self.kernel != "auto" and self.kernel not in _KERNELS:
            msg = f"kernel must be 'auto' or one of {_KERNELS}, got {self.kernel!r}"
            raise ValueError(msg)
        if self.noise is not None and not 0.0 <= self.noise < np.inf:
            msg = f"noise must be a standard deviation of 0 or more, or None to estimate it, got {self.noise!r}"
            raise ValueError(msg)

    def _standardised(self, points: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor((points - self._center) / self._spread, device=self.device)

    def _solve(self, x: Tensor, y: Tensor, seed: int) -> ExactPosterior | IterativePosterior:
        kernels = _KERNELS if self.kernel == "auto" else (self.kernel,)
        variance = None if self.noise is None else (self.noise / self._unit) ** 2
        process = choose_process(
            x, y, kernels=kernels, noise=variance, generator=torch_generator(seed, "hyperparameters")
        )
        if len(y) > _MOST_EXACT.get(x.device.type, _MOST_EXACT["cpu"]):
            return iterative_posterior(process, x, y, generator=torch_generator(seed, "pivots", device=x.device))
        order = torch.randperm(len(y), generator=torch_generator(seed, "calibration")).to(x.device)
        return exact_posterior(process, x, y, calibration=order[:CALIBRATION] if len(y) > EXACT_FIT else None)

    def _publish(self, n: int) -> None:
        posterior = self._posterior
        process = posterior.process
        exact = isinstance(posterior, ExactPosterior)
        self.kernel_ = process.kernel
        self.lengthscale_ = process.lengthscale * self._spread
        self.output_scale_ = self._unit * float(process.variance) ** 0.5
        self.noise_ = self._unit * float(process.noise_variance) ** 0.5
        self.solver_ = "cholesky" if exact else "cg"
        self.residual_ = posterior.residual
        value = posterior.log_likelihood if isinstance(posterior, ExactPosterior) else float("nan")
        self.log_marginal_likelihood_ = value - n * float(np.log(self._unit))
        self.status_ = f"{process.origin}; {posterior.status}"

    def predict(
        self,
        X: NDArray[np.float64],  # noqa: N803
        return_std: bool = False,
        *,
        include_noise: bool = True,
    ) -> Any:
        """Means of y at X, with shape (m,), and their standard deviations if asked for.

        Args:
            X: With shape (m, d).
            return_std: Whether to return the sds too: O(m n^2) with a Cholesky factor.
            include_noise: Whether they are those of an observation or of the function without noise.

        Raises:
            sklearn.exceptions.NotFittedError: Before ``fit``.
            ValueError: If X is not finite or has another number of columns.
        """
        check_is_fitted(self)
        x = self._standardised(validate_data(self, X, dtype=np.float64, reset=False))
        mean = self._offset + self._unit * self._posterior.mean(x).cpu().numpy()
        if not return_std:
            return mean
        variance = self._posterior.variance(x)
        if include_noise:
            variance = variance + self._posterior.process.noise_variance
        return mean, self._unit * variance.sqrt().cpu().numpy()


def _spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations of the columns, 1 where a column is constant but for rounding."""
    spread = values.std(0)
    return np.where(spread > 1e-12 * np.abs(values).max(0, initial=0.0), spread, 1.0)
