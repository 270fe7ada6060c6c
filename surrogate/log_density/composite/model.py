"""The composite surrogate of a log-likelihood: processes of output components, then the comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array, Flags
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.linalg.composed import PosteriorAccess, Scaled
from surrogate.linalg.lowrank import ColumnAccess
from surrogate.log_density.base import LogDensityBase, discounted, limited, posterior_access
from surrogate.log_density.composite.comparison import LOWEST, Comparison
from surrogate.log_density.composite.parameters import CompositeParameters, SharedKernel
from surrogate.log_density.composite.reduction import Rows
from surrogate.log_density.composite.training import OutputData
from surrogate.log_density.feasibility.choice import fit_feasibility
from surrogate.log_density.remainder import Remainder
from surrogate.log_density.trust_region import TrustRegion
from surrogate.problem.dataset import FAILED, INFEASIBLE, OK, Dataset

__all__ = ["CompositeLogDensity", "build_composite"]


_FORESEEN = 2.0  # sds within which the outputs of a point count as predicted
_TINY = 1e-150


@dataclass(frozen=True, eq=False)
class ComponentProcess:
    """Components that share a kernel, conditioned on the data.

    Attributes:
        group: Components and their kernel.
        gp: The processes, in whitened coordinates.
    """

    group: SharedKernel
    gp: CholeskyPosterior

    @property
    def scale(self) -> Array:
        """Output scale of each component, with shape (q,)."""
        return np.atleast_1d(np.asarray(self.gp.scale, dtype=np.float64))

    def access(self, u: Array) -> PosteriorAccess:
        """Posterior covariance at u in units of the squared output scales, by columns."""
        return posterior_access(self.gp, self.group.kernel, self.group.hyper, u)

    def root(self, u: Array) -> Array:
        """R with R R^T = the joint posterior covariance at u in units of the squared output scales: O(m^3)."""
        x = torch.as_tensor(u, device=self.gp.u.device)
        half, left = self.gp.features(x)
        covariance = (self.gp.process.kernel.covariance(x, x) - half.T @ half + left.T @ left).cpu().numpy()
        values, vectors = np.linalg.eigh(0.5 * (covariance + covariance.T))
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


@dataclass(frozen=True, eq=False)
class CompositeLogDensity(LogDensityBase[CompositeParameters]):
    """A fitted surrogate of a log-likelihood that compares outputs of a simulator with data.

    Its coordinates u are those of the slow parameters, because the dependence on fast ones is known. A point is
    feasible if the simulator has outputs there.

    Attributes:
        processes: Processes of the components.
        output_data: Data to which it was fitted.
        region: The box of the points with outputs, padded.
        from_unit: Parameters x of unit coordinates t.
    """

    processes: tuple[ComponentProcess, ...]
    output_data: OutputData
    region: TrustRegion
    from_unit: Callable[[Array], Array]

    @property
    def device(self) -> torch.device:
        """Device on which ``covariance`` is computed."""
        return self.processes[0].gp.u.device

    @property
    def comparison(self) -> Comparison:
        """The log-likelihood as a function of the components."""
        return self.output_data.comparison

    def whiten(self, t: Array) -> Array:
        """Whitened coordinates of the slow parameters of t, with shape (m, s)."""
        slow = t[:, self.output_data.source.target.columns]
        return self.parameters.whitening.whiten(self.parameters.warp.forward(slow))

    def components(self, u: Array) -> tuple[Array, Array]:
        """Mean and variance of the components at whitened u, each with shape (m, K)."""
        mean, variance = np.empty((2, len(u), self.parameters.size))
        u = self.parameters.seen(u)
        for process in self.processes:
            columns = process.group.columns
            mean[:, columns] = process.gp.mean(u).reshape(len(u), len(columns))
            variance[:, columns] = process.gp.variance(u).reshape(len(u), len(columns))
        return mean, variance

    def bare_mean(self, t: Array) -> Array:
        """Log of the mean likelihood, minus y_max and over the temperature, without trust region, with shape (m,)."""
        return self._bare(self.whiten(t), t)

    def _bare(self, u: Array, t: Array) -> Array:
        z, variance = self.components(u)
        value = np.maximum(self.comparison.expected(z, variance, self.from_unit(t)), LOWEST)
        return (value - self.y_max) / self.temperature

    def smooth(self, t: Array) -> Array:
        """The result of ``bare_mean``, lowered outside the trust region, with shape (m,)."""
        return self._smooth(self.whiten(t), t)

    def _smooth(self, u: Array, t: Array) -> Array:
        return self.region.bent(self._bare(u, t), u)

    def lowered(self, t: Array) -> Array:
        """By how much the trust region lowers ``smooth`` at t, with shape (m,)."""
        return -self.region.bent(np.zeros(len(t)), self.whiten(t))

    def if_feasible(self, t: Array) -> Array:
        """The smooth mean, limited to 3 above the best evaluation where the simulator is known to fail."""
        u = self.whiten(t)
        return limited(self._smooth(u, t), self.feasibility.probability(u))

    def relative(self, t: Array, *, floor: float = 0.0) -> Array:
        """The result of ``if_feasible`` plus the log of the probability of being feasible, with shape (m,).

        Args:
            t: Unit coordinates, with shape (m, d).
            floor: Smallest probability; above zero, draws still visit regions known to be infeasible.
        """
        u = self.whiten(t)
        value = discounted(self._smooth(u, t), self.feasibility.probability(u), floor)
        return np.where(value * self.temperature < 0.5 * LOWEST, -np.inf, value)

    def predict(self, t: Array) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood given that the simulator succeeds, each with shape (m,)."""
        z, variance = self.components(self.whiten(t))
        expansion = self.comparison.expansion(z, variance, self.from_unit(t))
        return expansion.mean(variance), np.sqrt(expansion.variance(variance))

    def mean(self, t: Array) -> Array:
        """The mean of ``predict``, with shape (m,); it depends on the variances, so that it costs as much."""
        return self.predict(t)[0]

    def covariance(self, t: Array, weights: Array) -> ColumnAccess:
        """Covariance of weights times values at t, to second order in the errors of the components, by columns.

        A variance v above one counts as log(1 + v), because in an unknown region the log-likelihood may be arbitrarily
        low, and its sd, which grows with the depth, does not reflect its influence on the posterior.
        """
        u = self.whiten(t)
        z, variance = self.components(u)
        expansion = self.comparison.expansion(z, variance, self.from_unit(t))
        parts = []
        for process in self.processes:
            columns, scale = process.group.columns, process.scale
            slope = torch.as_tensor(expansion.slope[:, columns] * scale, device=self.device)
            curvature = torch.as_tensor(expansion.curvature[:, columns] * scale**2, device=self.device)
            parts.append((process.access(self.parameters.seen(u)), slope, curvature))
        total = expansion.variance(variance) / self.temperature**2
        saturated = np.sqrt(np.log1p(total) / np.maximum(total, 1e-300)) / self.temperature
        return Scaled(_PushedForward(tuple(parts)), torch.as_tensor(weights * saturated, device=self.device))

    def trend_depth(self, t: Array) -> Array | None:  # noqa: ARG002 - see the protocol
        """None, because the log-likelihood is not a quadratic."""
        return None

    def remainder(self, t: Array, y: Array) -> Remainder | None:  # noqa: ARG002 - see the protocol
        """None, because the log-likelihood is not a sum of Gaussians."""
        return None

    def left_out_depth(self, y: Array) -> Array:
        """Leave-one-out prediction, from outputs, of the depth in nats below y_max of each finite y, with shape (n,).

        The depth of y itself is returned if its outputs agree with their prediction within the errors, or if it has
        none.
        """
        data, rows = self.output_data.data, self.output_data.rows
        residual, sd = self.left_out()
        foreseen = np.sqrt(((residual / sd) ** 2).mean(1)) < _FORESEEN
        predicted = self.comparison.value(self.output_data.reduction.scores - residual, self.output_data.x)
        depth = self.y_max - np.where(data.finite, data.y, 0.0)
        depth[rows] = np.where(foreseen, depth[rows], np.minimum(self.y_max - predicted, -LOWEST))
        depth = np.maximum(depth[data.finite], 0.0)
        return depth if len(depth) == len(y) else self.y_max - y

    def left_out(self) -> tuple[Array, Array]:
        """Leave-one-out errors of the components of each row, and their sds, each with shape (n, K)."""
        residual, sd = np.empty((2, *self.output_data.reduction.scores.shape))
        for process in self.processes:
            columns, gp = process.group.columns, process.gp
            shape = (len(residual), len(columns))
            residual[:, columns] = part = gp.leave_one_out().reshape(shape)
            alpha = gp.alpha.cpu().numpy().reshape(shape)
            with np.errstate(divide="ignore", invalid="ignore"):
                variance = np.where(alpha != 0.0, part / alpha, 0.0)  # 1 / (K^-1)_ii, the same for all components
            sd[:, columns] = process.scale * np.sqrt(np.maximum(variance.max(1, keepdims=True), _TINY))
        return residual, np.maximum(sd, _TINY)

    def deviations(self, t: Array, count: int, rng: np.random.Generator, *, inflate: float = 1.0) -> Array:
        """Joint paths of the value minus ``smooth``, with shape (count, m); -inf where a path is infeasible.

        Paths of the components are passed to the comparison: O(m^3) for each kernel, and count m comparisons.
        """
        u = self.whiten(t)
        mean, variance = self.components(u)
        x = self.from_unit(t)
        z = np.repeat(mean[None], count, 0)
        for process in self.processes:
            normal = rng.standard_normal((count, len(u), len(process.group.columns)))
            joint = np.einsum("mj,cjq->cmq", process.root(self.parameters.seen(u)), normal, optimize=True)
            z[:, :, process.group.columns] += np.sqrt(inflate) * joint * process.scale
        values = self.comparison.value(z.reshape(-1, z.shape[2]), np.tile(x, (count, 1))).reshape(count, -1)
        centre = self.comparison.expected(mean, inflate * variance, x)
        with np.errstate(invalid="ignore"):
            path = (values - centre) / self.temperature
        path = np.where(np.isnan(path), 0.0, path)
        return path + self.feasibility.deviations(u, count, rng)

    def predictor(
        self,
        names: tuple[str, ...],  # noqa: ARG002
        bounds: Array,  # noqa: ARG002
        location: Array,  # noqa: ARG002
        scale: Array,  # noqa: ARG002
        origin: Array | None = None,  # noqa: ARG002
    ) -> object:
        """Not available, because a comparison is a program that cannot be exported as numbers.

        Raises:
            ValueError: Always; the message gives the alternative.
        """
        msg = (
            "a run of Observables has no predictor of numbers: use result.output_emulator() for the outputs, which can "
            "be saved, or result.predict for the log-posterior"
        )
        raise ValueError(msg)


@dataclass(frozen=True, eq=False)
class _PushedForward:
    """Covariance of sums of quadratics of independent normal functions, by columns.

    Each part has the covariance C of its unscaled components, and slopes g and curvatures h in units of the scales,
    with shape (m, q): K_ij = sum_q g_iq g_jq C_ij + h_iq h_jq C_ij^2 / 2.
    """

    parts: tuple[tuple[PosteriorAccess, Tensor, Tensor], ...]

    def diag(self) -> Tensor:
        """Variances, with shape (m,)."""
        total = []
        for access, slope, curvature in self.parts:
            c = access.diag()
            total.append(c * slope.square().sum(1) + 0.5 * c.square() * curvature.square().sum(1))
        return torch.stack(total).sum(0)

    def column(self, i: int) -> Tensor:
        """Covariances with point i, with shape (m,)."""
        total = []
        for access, slope, curvature in self.parts:
            c = access.column(i)
            total.append(c * (slope @ slope[i]) + 0.5 * c.square() * (curvature @ curvature[i]))
        return torch.stack(total).sum(0)


def build_composite(
    data: Dataset,
    t: Array,
    parameters: CompositeParameters,
    source: Rows,
    from_unit: Callable[[Array], Array],
    *,
    device: str = "cpu",
) -> CompositeLogDensity:
    """The surrogate with these parameters given the first ``parameters.n`` rows of the data.

    Args:
        data: Evaluated points.
        t: Their unit coordinates, with shape (n, d).
        parameters: Numbers of the surrogate.
        source: Conversion of outputs to units of the comparison.
        from_unit: Parameters x of unit coordinates t.
        device: Device of the linear algebra.
    """
    data, t = data.head(parameters.n), t[: parameters.n]
    known = OutputData(data, t, source, parameters.size, parameters.logs)

    def coordinates(slow: Array) -> Array:
        return parameters.whitening.whiten(parameters.warp.forward(slow))

    training = known.training_set(lambda slow: parameters.seen(coordinates(slow)), device)
    processes = []
    for group in parameters.groups:
        columns = group.columns
        values = training.y[:, columns[0]] if len(columns) == 1 else training.y[:, torch.as_tensor(columns)]
        part = replace(training, y=values)
        processes.append(ComponentProcess(group, group.family.condition(part, group.hyper)))
    u = coordinates(t[:, source.target.columns])
    infeasible: Flags = ~known.rows & (data.status != OK) & np.isin(data.status, (INFEASIBLE, FAILED))
    labelled = known.rows | infeasible
    feasibility = fit_feasibility(
        parameters.feasibility,
        u[labelled],
        ~infeasible[labelled],
        doubtful=(data.status == FAILED)[labelled] & infeasible[labelled],
        device=device,
    )
    return CompositeLogDensity(
        parameters,
        feasibility,
        data.y_max,
        u[infeasible],
        processes=tuple(processes),
        output_data=known,
        region=TrustRegion.around(u[known.rows], flat=parameters.flat),
        from_unit=from_unit,
    )
