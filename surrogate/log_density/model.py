"""The scalar surrogate: a Gaussian process in warped and whitened coordinates, with feasibility."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from surrogate.arrays import Array, Flags
from surrogate.gp.posterior import joint_normal
from surrogate.gp.solvers.cholesky import CholeskyPosterior
from surrogate.linalg.composed import Scaled
from surrogate.log_density.base import LogDensityBase, discounted, limited, posterior_access
from surrogate.log_density.conditional import conditional_mixture
from surrogate.log_density.coordinates.warps import OutputWarp
from surrogate.log_density.feasibility.choice import fit_feasibility
from surrogate.log_density.parameters import SurrogateParameters, relevant_depth, trend_size
from surrogate.log_density.predictor import Predictor
from surrogate.log_density.remainder import Remainder, remainder
from surrogate.log_density.search.couplings import fit_to_one_mode
from surrogate.log_density.training import FitProblem, family, of_peaks, visible
from surrogate.log_density.trust_region import TrustRegion
from surrogate.problem.dataset import FAILED, INFEASIBLE, OK, Dataset
from surrogate.samplers.mixture import Mixture

__all__ = ["ScalarLogDensity", "build"]


_INCREDIBLE, _INCREDIBLE_PER_PARAMETER = (
    50.0,
    3.0,
)  # nats above the best evaluation that a search cannot find in one step
_WRONG_BEYOND = 3.0  # relative error of a depth extrapolated by one width of the trust region


@dataclass(frozen=True, eq=False)
class ScalarLogDensity(LogDensityBase[SurrogateParameters]):
    """A fitted surrogate of the log-likelihood.

    Points count as infeasible if they have no finite value, or one too low for a smooth function to explain.

    Attributes:
        gp: The process, in whitened coordinates, of the warped (y - y_max) / temperature.
        region: The box of the points that the process sees, padded.
        output: Warp of the log-density.
    """

    gp: CholeskyPosterior
    region: TrustRegion
    output: OutputWarp = field(default_factory=OutputWarp)

    @property
    def device(self) -> torch.device:
        """Device on which ``covariance`` is computed."""
        return self.gp.u.device

    def whiten(self, t: Array) -> Array:
        """Whitened coordinates of t, both with shape (m, d)."""
        return self.parameters.whitening.whiten(self.parameters.structure.warp.forward(t))

    def _of_peaks(self, u: Array) -> Array:
        """What several peaks add to the mean of the process, with shape (m,)."""
        structure, whitening = self.parameters.structure, self.parameters.whitening
        return np.zeros(len(u)) if structure.peaks is None else of_peaks(structure, whitening.unwhiten(u))

    def _latent(self, u: Array) -> Array:
        """Mean of the warped log-density at whitened coordinates, with shape (m,)."""
        return self.gp.mean(u) + self._of_peaks(u)

    def bare_mean(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature without trust region and feasibility, with shape (m,)."""
        return self.output.inverse(self._latent(self.whiten(t)))

    def smooth(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature, lowered outside the trust region, with shape (m,).

        Far above the best evaluation it grows only logarithmically. A trend with fewer data than coefficients may
        predict anything in a corner of the prior, into which all draws would otherwise collapse.
        """
        return self._smooth(self.whiten(t))

    def _smooth(self, u: Array) -> Array:
        value = self.region.bent(self.output.inverse(self._latent(u)), u)
        limit = _INCREDIBLE + _INCREDIBLE_PER_PARAMETER * len(self.parameters.structure.warp.kinds)
        high = value > limit
        return np.where(high, limit + np.log1p(np.maximum(value - limit, 0.0)), value) if high.any() else value

    def if_feasible(self, t: Array) -> Array:
        """The smooth mean, under the assumption that all points are feasible, with shape (m,).

        It is limited to 3 above the best evaluation where points are known to be infeasible.
        """
        u = self.whiten(t)
        return limited(self._smooth(u), self.feasibility.probability(u))

    def relative(self, t: Array, *, floor: float = 0.0) -> Array:
        """The result of ``if_feasible`` plus the log of the probability of being feasible, with shape (m,).

        Args:
            t: Unit coordinates, with shape (m, d).
            floor: Smallest probability; above zero, draws still visit regions known to be infeasible.
        """
        u = self.whiten(t)
        return discounted(self._smooth(u), self.feasibility.probability(u), floor)

    def predict(self, t: Array) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood given that it is feasible, each with shape (m,).

        With an output warp the mean is in fact the median, and the sd is first-order.
        """
        u = self.whiten(t)
        z = self._latent(u)
        temperature = self.temperature
        sd = self.output.slope(z) * np.sqrt(self.gp.variance(u))
        return self.y_max + temperature * self.output.inverse(z), temperature * sd

    def mean(self, t: Array) -> Array:
        """The mean of ``predict`` alone, with shape (m,), which costs O(n) per point instead of O(n^2)."""
        return self.y_max + self.temperature * self.bare_mean(t)

    def unseen_sd(self, t: Array) -> Array:
        """Sd in nats of errors that the process does not include, with shape (m,); 0 if its trend explains the data.

        For deep values it is the largest leave-one-out error of a deep evaluation, in units of the predicted depth; it
        is larger outside the trust region, where the process extrapolates.
        """
        if self.exact:
            return np.zeros(len(t))
        u = self.whiten(t)
        depth = np.maximum(-self.output.inverse(self._latent(u)), 0.0)
        outside = np.maximum(self.region.excess(u), 0.0) / (self.region.high - self.region.low)
        deep = self._deep_error * np.maximum(depth - 0.5 * relevant_depth(t.shape[1]), 0.0)
        beyond = _WRONG_BEYOND * np.maximum(depth, 1.0) * np.sqrt((outside**2).sum(1))
        return self.temperature * np.hypot(deep, beyond)

    @cached_property
    def _deep_error(self) -> float:
        """Largest leave-one-out error of a deep evaluation, in units of its predicted depth; O(n^3)."""
        n, d = len(self.gp.u), len(self.parameters.structure.warp.kinds)
        z = self.gp.data.y[:n].cpu().numpy() + self._of_peaks(self.gp.u.cpu().numpy())
        depth = -self.output.inverse(z)
        left_out = -self.output.inverse(np.minimum(z - self.gp.leave_one_out()[:n], 0.0))
        error = np.abs(depth - left_out) / (1.0 + left_out)
        return float(error[depth > 0.5 * relevant_depth(d)].max(initial=0.0))

    def covariance(self, t: Array, weights: Array) -> Scaled:
        """Covariance of weights times (y - y_max) / temperature at t, by columns; O(m n (n + p)) once.

        With an output warp it is first-order.

        Args:
            t: Unit coordinates, with shape (m, d).
            weights: Weights of the points, with shape (m,).
        """
        u = self.whiten(t)
        access = posterior_access(self.gp, self.parameters.structure.kernel, self.parameters.hyper, u)
        slope = self.output.slope(self._latent(u))
        scale = torch.as_tensor(weights * self.gp.scale * slope, device=self.device)
        return Scaled(access, scale)

    def trend_depth(self, t: Array) -> Array | None:
        """Depth in nats of the trend below its maximum, with shape (m,).

        None unless the trend is a concave quadratic of the unwarped log-density with fewer coefficients than data.
        """
        structure, d = self.parameters.structure, t.shape[1]
        if structure.warp.size > d or structure.division is not None or structure.peaks is not None:
            return None  # on a circle, or with a division, the maximum is elsewhere; several peaks have several
        if structure.trend != "quadratic" or structure.output != 0.0 or self.gp.size < trend_size(d) + 2:
            return None
        _, b, quadratic = (part.cpu().numpy() for part in self.gp.polynomial)
        if np.linalg.eigvalsh(quadratic)[-1] >= 0:
            return None
        offset = self.whiten(t) + 0.5 * np.linalg.solve(quadratic, b)
        return -self.temperature * ((offset @ quadratic) * offset).sum(1)

    def remainder(self, t: Array, y: Array) -> Remainder | None:
        """What Gaussians in the coordinates of the surrogate leave of values y at t; see ``Remainder``.

        None if the trend is divided, the output warped, or parameters are exchangeable: values have images then.
        """
        structure, warp = self.parameters.structure, self.parameters.structure.warp
        if structure.division is not None or structure.output != 0.0 or warp.symmetry is not None:
            return None
        if warp.couplings is not None and structure.peaks is None and warp.size == t.shape[1]:
            # the process fits them to all values, those of other modes among them
            warp = warp.with_couplings(fit_to_one_mode(warp.couplings, warp.single(t), y)[1])
        left = remainder(warp.forward(t), y, structure.peaks)
        return None if left is None else replace(left, warp=warp)

    def conditional_mixture(
        self, t: Array, log_prior: Callable[[Array], Array], temperature: float = 1.0
    ) -> Mixture | None:
        """A proposal that follows a funnel down its neck; None if no trend divided by a parameter explains the data.

        See ``surrogate.log_density.conditional``.
        """
        return conditional_mixture(self.gp, self.parameters, t, log_prior, temperature) if self.exact else None

    def left_out_depth(self, y: Array) -> Array:
        """Leave-one-out prediction of the depth below y_max for each finite value y, with shape (n,); O(n^3).

        Points too deep to be used by the process keep their own depth.
        """
        temperature = self.temperature
        depth = self.y_max - y
        rows = visible(y, temperature, self.gp.u.shape[1])
        residual = self.gp.leave_one_out()[: int(rows.sum())]
        z = self.output.forward(-depth[rows] / temperature) - residual
        with np.errstate(over="ignore"):  # a prediction may be arbitrarily deep
            depth[rows] = -temperature * self.output.inverse(np.minimum(z, 0.0))
        return depth

    def predictor(
        self, names: tuple[str, ...], bounds: Array, location: Array, scale: Array, origin: Array | None = None
    ) -> Predictor:
        """A fast predictor of the sampled log-likelihood, see ``Predictor.of``."""
        return Predictor.of(self, names, bounds, location, scale, origin)

    def deviations(self, t: Array, count: int, rng: np.random.Generator, *, inflate: float = 1.0) -> Array:
        """Joint paths of (y - y_max) / temperature minus its mean, with shape (count, m); O(m^2 (n + p) + m^3).

        They are -inf where a path of the feasibility is infeasible.
        """
        u = self.whiten(t)
        path = np.sqrt(inflate) * joint_normal(self.gp.covariance(u), count, rng)
        if self.output.scale != 0.0:
            z = self._latent(u)
            path = self.output.inverse(z + path) - self.output.inverse(z)
        return path + self.feasibility.deviations(u, count, rng)


def build(data: Dataset, t: Array, parameters: SurrogateParameters, *, device: str = "cpu") -> ScalarLogDensity:
    """The surrogate with these parameters, given the first ``parameters.n`` rows of the data.

    Args:
        data: Evaluated points.
        t: Their unit coordinates, with shape (n, d).
        parameters: Numbers of the surrogate.
        device: Device of the linear algebra.

    Returns:
        The surrogate, in O(n^3), and as much again for feasibility if infeasible points are known.
    """
    data, t = data.head(parameters.n), t[: parameters.n]
    problem = FitProblem(data, t, temperature=parameters.temperature, device=device)
    training, rows = problem.training_set(parameters), problem.rows
    gp = family(parameters.structure, parameters.whitening).condition(training, parameters.hyper)
    u = parameters.whitening.whiten(parameters.structure.warp.forward(t))
    output = OutputWarp(parameters.structure.output)
    infeasible = (data.status == INFEASIBLE) | (data.status == FAILED)
    finite = data.status == OK
    depth = (data.y_max - data.y[finite]) / parameters.temperature
    deep = depth > relevant_depth(t.shape[1])
    if deep.any():
        extra = of_peaks(parameters.structure, parameters.whitening.unwhiten(u[finite]))
        infeasible[finite] = deep & _contradicted(output.inverse(gp.mean(u[finite]) + extra), t.shape[1])
    known, doubtful = rows | infeasible, data.status == FAILED
    feasibility = fit_feasibility(
        parameters.feasibility, u[known], ~infeasible[known], doubtful=doubtful[known], device=device
    )
    region = TrustRegion.around(u[rows])
    return ScalarLogDensity(parameters, feasibility, data.y_max, u[infeasible], gp, region, output)


def _contradicted(mean: Array, d: int) -> Flags:
    """Mask, with shape (n,), of points predicted above half the relevant depth, which lie below it.

    A process that cannot follow a cliff explains deep points beyond it as noise, or does not use them. They count as
    infeasible, because draws would otherwise go there repeatedly.
    """
    return mean > -0.5 * relevant_depth(d)
