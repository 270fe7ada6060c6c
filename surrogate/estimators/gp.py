"""Gaussian-process regression with the interface of scikit-learn, for a hundred points or a million."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import assert_all_finite, check_consistent_length, check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from surrogate.estimators.mixed import MixedFit
from surrogate.estimators.scales import location_and_scale
from surrogate.estimators.tables import is_mixed
from surrogate.gp.bases import basis_of
from surrogate.gp.choose import EVIDENCES, EXACT_FIT, choose_process, with_profiled_noise
from surrogate.gp.scales import CALIBRATION, Observations, ScaledProcess
from surrogate.gp.solvers.basis import BasisPosterior, basis_posterior
from surrogate.gp.solvers.exact import ExactPosterior, exact_posterior
from surrogate.gp.solvers.iterative import PRECISIONS, IterativePosterior, iterative_posterior
from surrogate.gp.solvers.local import LocalPosterior, local_posterior
from surrogate.gp.solvers.projected import ComputationAware, actions_of, computation_aware
from surrogate.problem.repeats import distinct_rows
from surrogate.rng import torch_generator

__all__ = ["GPRegressor"]

_KERNELS = ("rbf", "matern52", "matern32", "matern12")
_SOLVERS = ("auto", "cholesky", "cg", "local", "computation-aware", "basis")
_MOST_EXACT = {"cpu": 12_000, "cuda": 60_000}  # points up to which the n x n matrix is stored: 1.2 GB and 29 GB
_RANKS = {"local": 256, "computation-aware": 500, "basis": 1000}  # default ranks; that of "cg" grows with n

_Posterior = ExactPosterior | IterativePosterior | LocalPosterior | ComputationAware | BasisPosterior


class GPRegressor(RegressorMixin, BaseEstimator):
    """Gaussian-process regression with error bars, from 2 points to a million, with automatic settings.

    Inputs and outputs are standardised. The kernel is that with the highest evidence of four (squared exponential and
    Matern 5/2, 3/2 and 1/2), with a lengthscale for each column; the noise is estimated or given. Up to 12,000 points
    (60,000 on a GPU) a Cholesky factor gives exact results. Beyond that the mean comes from preconditioned conjugate
    gradients, whose known residual is interpolated from the 64 nearest neighbours, and variances come from the 256
    nearest neighbours, calibrated on held-out points. docs/regression.md gives measurements of when other settings are
    better.

    Columns of text in a table (a DataFrame, a structured array, or an array of objects) are treated as categories. Up
    to 6,000 rows ("cholesky") predictions are by a process of all columns with learned correlations of the categories.
    Beyond that ("basis") they are by an additive model of the columns and of the pairwise interactions that the data
    support. See docs/mixed.md.

    Args:
        kernel: One of "rbf", "matern52", "matern32", "matern12", or "auto" for the best of them.
        solver: How predictions are computed. "cholesky": exactly, from all points. "cg": from all points, by conjugate
            gradients. "local": from the points nearest to each prediction. "computation-aware": from projections of the
            data, with a variance that includes the uncertainty due to the projection. "basis": from basis functions.
            "auto": "cholesky", or "cg" for many points.
        evidence: Objective of the hyperparameters: "exact", "neighbours", "iterative", "minibatch" or "basis", see
            ``surrogate.gp.choose``. "auto": "exact" up to 1,500 points, then "neighbours"; "basis" for that solver.
        noise: "fit" to estimate it with the lengthscales, "profile" to estimate it afterwards from all points with one
            eigendecomposition; or the standard deviation of the noise in units of y, one number or one for each point,
            0 for exact values.
        precision: Precision of the matrix products in "cg": "float64", "float32", "float16", or "auto" for float32 if
            the noise allows it. The solution is corrected in float64; everything else is in float64.
        rank: Columns of the preconditioner of "cg" (None: a sixteenth of the points, within 1,000 to 3,000), neighbours
            of "local" (None: 256), projections of "computation-aware" (None: 500), or functions of "basis" (None:
            1,000).
        device: Torch device of the linear algebra.
        random_state: Seed, or a RandomState, for subsets and pivots. The same seed gives the same fit.
        categorical: Names or positions of columns of categories; "auto" for all columns of text. With categories
            ``kernel``, ``evidence`` and ``precision`` must be "auto", ``solver`` "auto", "cholesky" or "basis",
            ``noise`` "fit" or one number ("fit" for "basis"), and ``rank`` counts basis functions (None: 600).

    Attributes:
        kernel_: Name of the kernel.
        lengthscale_: Lengthscales in units of the columns of X, with shape (d,).
        output_scale_: Prior sd of the function, in units of y.
        noise_: Sd of the noise, in units of y; with shape (n,) if it was given for each point.
        solver_: Name of the solver used.
        residual_: Relative residual of the linear system behind the mean; nan for "local", which has none.
        log_marginal_likelihood_: Log marginal likelihood in nats, for y in its own units; nan if not computed.
        status_: How the hyperparameters and the solution were found.
        n_features_in_: Number of columns d.
        components_: With categories: components of the additive model with their shares of the variance of y.
        relevance_: With categories: share of the explained variance that involves each column, with shape (d,).
        alike_: With categories: similarities of the categories of each such column.

    References:
        Rasmussen & Williams (2006), http://gaussianprocess.org/gpml/; Vecchia (1988),
        https://www.jstor.org/stable/2345768; Wang et al. (2019), arXiv:1903.08114. See ``surrogate.gp.choose`` and
        ``surrogate.gp.solvers`` for departures from these.

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
        solver: str = "auto",
        evidence: str = "auto",
        noise: str | float | NDArray[np.float64] = "fit",
        precision: str = "auto",
        rank: int | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = 0,
        categorical: str | Sequence[str | int] = "auto",
    ) -> None:
        self.kernel = kernel
        self.solver = solver
        self.evidence = evidence
        self.noise = noise
        self.precision = precision
        self.rank = rank
        self.device = device
        self.random_state = random_state
        self.categorical = categorical

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> GPRegressor:  # noqa: N803  # scikit-learn's name
        """Fits kernel, hyperparameters and posterior to X with shape (n, d) and y with shape (n,).

        Rows that repeat X and y count once, unless y takes few values. Costs O(n^3) up to 12,000 points, where it takes
        about a minute on one core, and O(n^2 d) per iteration beyond.

        Raises:
            ValueError: If data are not finite, too large to be squared, or fewer than 2 points, or a setting is unknown
                or incompatible with another.
            LowPrecisionError: If the noise is too small for products in half precision; a ValueError.
            FloatingPointError: If a kernel matrix cannot be factored with any noise.
        """
        self._check_settings()
        if is_mixed(X, self.categorical):
            return self._fit_mixed(X, y)
        self._mixed: MixedFit | None = None
        points, values = validate_data(self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2)
        values = np.asarray(values, dtype=np.float64)
        if np.ndim(self.noise) == 0:  # with a noise for each point all rows are separate observations
            points, values = _distinct(points, values)
        self.solver_ = self._chosen_solver(len(values))
        self._center, self._spread = location_and_scale(points, "X")
        self._offset, self._unit = map(float, location_and_scale(values))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        variance, relative = self._given_noise(len(values))
        data = Observations(
            self._standardised(points),
            torch.as_tensor((values - self._offset) / self._unit, device=self.device),
            None if relative is None else torch.as_tensor(relative, device=self.device),
        )
        process = self._chosen_process(data, variance, seed)
        self._posterior = self._conditioned(process, data, seed)
        self._publish(len(values))
        if np.ptp(values) == 0.0:
            self.status_ += "; all values of y are equal: the standard deviations are meaningless"
        return self

    def _fit_mixed(self, X: Any, y: Any) -> GPRegressor:  # noqa: N803
        """Fits a model to a table with categories.

        Raises:
            ValueError: If a setting is incompatible with categories, or a column is invalid.
        """
        for name in ("kernel", "evidence", "precision"):
            if getattr(self, name) != "auto":
                msg = f"{name} must be 'auto' for tables with categories, got {getattr(self, name)!r}"
                raise ValueError(msg)
        known = not isinstance(self.noise, str)
        if self.solver not in ("auto", "cholesky", "basis") or (known and self.solver == "basis"):
            msg = "tables with categories take solver='auto' or 'cholesky', or 'basis' with noise='fit', "
            raise ValueError(msg + f"got solver={self.solver!r} and noise={self.noise!r}")
        if self.noise == "profile" or np.ndim(self.noise) > 0:
            msg = "tables with categories take noise='fit' or one standard deviation"
            raise ValueError(msg)
        values = column_or_1d(np.asarray(y), dtype=np.float64, warn=True)
        assert_all_finite(values)
        check_consistent_length(X, values)
        if len(values) < 2:
            msg = f"at least 2 rows are needed, got {len(values)}"
            raise ValueError(msg)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self._mixed = found = MixedFit.of(
            X,
            values,
            categorical=self.categorical,
            solver="cholesky" if known else self.solver,
            noise=float(self.noise) if known else None,
            rank=self.rank,
            device=self.device,
            seed=seed,
        )
        self.n_features_in_, self.solver_, self.kernel_ = len(found.columns.names), found.solver, "mixed"
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.array(found.columns.names, dtype=object)
        self.noise_: Any = found.noise
        self.output_scale_, self.residual_ = found.scale, float("nan")
        self.log_marginal_likelihood_, self.status_ = found.log_evidence, found.status
        self.components_, self.relevance_, self.alike_ = found.components(), found.relevance(), found.alike(X)
        return self

    def _check_settings(self) -> None:
        _check_choice("kernel", self.kernel, ("auto", *_KERNELS))
        _check_choice("solver", self.solver, _SOLVERS)
        _check_choice("evidence", self.evidence, EVIDENCES)
        _check_choice("precision", self.precision, PRECISIONS)
        if isinstance(self.noise, str):
            _check_choice("noise", self.noise, ("fit", "profile"))
        elif self.noise is None or not (np.isfinite(self.noise).all() and (np.asarray(self.noise) >= 0.0).all()):
            msg = f"noise must be 'fit', 'profile', or standard deviations of 0 or more, got {self.noise!r}"
            raise ValueError(msg)
        if self.rank is not None and not self.rank >= 1:
            msg = f"rank must be positive, or None for the solver's default, got {self.rank!r}"
            raise ValueError(msg)

    def _chosen_solver(self, n: int) -> str:
        """The solver for n points; raises ValueError if other settings are incompatible with it."""
        most = _MOST_EXACT.get(torch.device(self.device).type, _MOST_EXACT["cpu"])
        solver = ("cg" if n > most else "cholesky") if self.solver == "auto" else self.solver
        if self.precision not in ("auto", "float64") and solver != "cg":
            msg = f"precision={self.precision!r} needs solver='cg', got solver={solver!r}, which computes in float64"
            raise ValueError(msg)
        if self.rank is not None and self.solver == "cholesky" and self.evidence != "basis":
            msg = f"solver='cholesky' takes no rank, got {self.rank}: use another solver or rank=None"
            raise ValueError(msg)
        if isinstance(self.noise, str) and self.noise == "profile" and n > most:
            msg = f"noise='profile' decomposes an n x n matrix and takes up to {most} points, got {n}: give noise='fit'"
            raise ValueError(msg)
        return solver

    def _given_noise(self, n: int) -> tuple[float | None, NDArray[np.float64] | None]:
        """Mean noise variance in units of the variance of y (None to estimate it), and relative noise variances.

        Raises:
            ValueError: If the noise is neither one number nor one for each point.
        """
        if isinstance(self.noise, str):
            return None, None
        variance = np.square(np.asarray(self.noise, dtype=np.float64) / self._unit)
        if variance.ndim == 0:
            return float(variance), None
        if variance.shape != (n,):
            msg = f"noise must be one standard deviation or have shape ({n},), got shape {variance.shape}"
            raise ValueError(msg)
        if not variance.any():
            return 0.0, None
        floored = np.maximum(variance, max(n, 10) * np.finfo(np.float64).eps)  # tiny noise for exact values
        return float(floored.mean()), floored / floored.mean()

    def _standardised(self, points: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor((points - self._center) / self._spread, device=self.device)

    def _size(self, solver: str) -> int:
        return _RANKS[solver] if self.rank is None else self.rank

    def _chosen_process(self, data: Observations, variance: float | None, seed: int) -> ScaledProcess:
        process = choose_process(
            data,
            kernels=_KERNELS if self.kernel == "auto" else (self.kernel,),
            noise=variance,
            generator=torch_generator(seed, "hyperparameters"),
            evidence="basis" if self.evidence == "auto" and self.solver_ == "basis" else self.evidence,
            size=self._size("basis"),
            feature_seed=seed,
        )
        profiled = isinstance(self.noise, str) and self.noise == "profile"
        return with_profiled_noise(process, data) if profiled else process

    def _conditioned(self, process: ScaledProcess, data: Observations, seed: int) -> _Posterior:
        device = data.x.device
        order = torch.randperm(len(data), generator=torch_generator(seed, "calibration")).to(device)[:CALIBRATION]
        few = None if len(data) <= EXACT_FIT else order  # else the likelihood sets the scale
        pivots = torch_generator(seed, "pivots", device=device)
        if self.solver_ == "cholesky":
            return exact_posterior(process, data, calibration=few)
        if self.solver_ == "cg":
            return iterative_posterior(process, data, generator=pivots, rank=self.rank, precision=self.precision)
        if self.solver_ == "local":
            return local_posterior(process, data, neighbours=self._size("local"), calibration=order)
        if self.solver_ == "basis":
            basis, words = basis_of(process.kernel, data.x, self._size("basis"), seed=seed)
            return basis_posterior(process, data, basis, words, calibration=few)
        k = min(len(data), self._size("computation-aware"))
        return computation_aware(process, data, actions_of("inducing", process, data, k, generator=pivots))

    def _publish(self, n: int) -> None:
        posterior = self._posterior
        process = posterior.process
        self.kernel_ = process.correlation.name
        self.lengthscale_ = process.lengthscale * self._spread
        self.output_scale_ = self._unit * float(process.variance) ** 0.5
        given = np.ndim(self.noise) == 1
        self.noise_ = np.asarray(self.noise) if given else self._unit * float(process.noise_variance) ** 0.5
        self.residual_ = posterior.residual
        value = posterior.log_likelihood if isinstance(posterior, (ExactPosterior, BasisPosterior)) else float("nan")
        self.log_marginal_likelihood_ = value - n * float(np.log(self._unit))
        self.status_ = f"{process.origin}; {posterior.status}"

    def predict(
        self,
        X: NDArray[np.float64],  # noqa: N803
        return_std: bool = False,
        *,
        include_noise: bool | None = None,
    ) -> Any:
        """Means of y at X, with shape (m,), and their standard deviations if requested.

        Args:
            X: Points, with shape (m, d).
            return_std: Whether to return the sds too, in O(m n^2) with a Cholesky factor.
            include_noise: Whether the sds are those of observations (True) or of the function without noise (False).
                None means True, unless noise was given for each training point, because it is then unknown at X.

        Raises:
            sklearn.exceptions.NotFittedError: Before ``fit``.
            ValueError: If X is not finite, has a wrong number of columns, or the requested noise at X is unknown.

        Warns:
            UserWarning: If a column holds categories that the fit did not see; they have their prior variance.
        """
        check_is_fitted(self)
        if self._mixed is not None:
            return self._mixed.predict(X, return_std=return_std, include_noise=include_noise is not False)
        given = np.ndim(self.noise_) == 1
        if include_noise and given:
            msg = "include_noise must be False if noise was given for each point: the noise at X is not known"
            raise ValueError(msg)
        x = self._standardised(validate_data(self, X, dtype=np.float64, reset=False))
        mean = self._offset + self._unit * self._posterior.mean(x).cpu().numpy()
        if not return_std:
            return mean
        variance = self._posterior.variance(x)
        if include_noise or (include_noise is None and not given):
            variance = variance + self._posterior.process.noise_variance
        return mean, self._unit * variance.sqrt().cpu().numpy()


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        msg = f"{name} must be one of {choices}, got {value!r}"
        raise ValueError(msg)


def _distinct(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The data without copies, or all of them if fewer than two rows differ."""
    rows = distinct_rows(x, y)
    return (x[rows], y[rows]) if len(rows) > 1 else (x, y)
