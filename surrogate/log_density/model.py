"""The surrogate of a log-likelihood: a Gaussian process in warped and whitened coordinates, and its feasibility.

Points t live in the scaled coordinates of the prior (a box becomes the unit cube). ``SurrogateParameters`` holds only
numbers; ``build`` makes the model again from them and the data, exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.gp.kernels import KERNELS
from surrogate.gp.means import Trend
from surrogate.gp.optimise import COEFFICIENT_SD, HyperPrior, MovableSet, condition_rescued, fit, fit_movable
from surrogate.gp.process import GPModel, GPRecipe, Hyperparameters, TrainingSet, log_marginals
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp, OutputWarp
from surrogate.log_density.coordinates.whitening import Whitening, joint_normal
from surrogate.log_density.feasibility.process import fit_process
from surrogate.log_density.feasibility.protocol import Feasibility
from surrogate.problem.dataset import FAILED, INFEASIBLE, OK, Dataset

__all__ = [
    "LikelihoodModel",
    "Structure",
    "SurrogateParameters",
    "build",
    "fit_structure",
    "kept_rows",
    "relevant_depth",
    "score_structure",
    "trend_size",
]


_MAX_SLOPES = 2000  # derivatives in a kernel matrix: 125 points in 16 dimensions


def trend_size(d: int) -> int:
    """Number of coefficients of a quadratic in d dimensions, (d + 1)(d + 2) / 2."""
    return (d + 1) * (d + 2) // 2


def relevant_depth(d: int) -> float:
    """Depth Delta below the maximum down to which a log-density matters to its posterior, 20 + 4 d."""
    return 20.0 + 4.0 * d


@dataclass(frozen=True, eq=False)
class Structure:
    """The discrete choices of a surrogate.

    Attributes:
        kernel: Name of the kernel of the residual.
        trend: Name of the trend.
        output: Scale of the output warp, see ``OutputWarp``.
        warp: Input warp.
    """

    kernel: str
    trend: str
    output: float
    warp: InputWarp

    @classmethod
    def plain(cls, low: Array, high: Array, periodic: Flags | None = None) -> Structure:
        """A quadratic trend with an RBF residual and no warps, on a support from low to high."""
        return cls("rbf", "quadratic", 0.0, InputWarp.identity(low, high, periodic))

    def same(self, other: Structure) -> bool:
        """Whether all choices agree."""
        mine, theirs = (self.kernel, self.trend, self.output), (other.kernel, other.trend, other.output)
        if mine != theirs or bool((self.warp.kinds != other.warp.kinds).any()):
            return False
        if self.warp.couplings is None or other.warp.couplings is None:
            return self.warp.couplings is other.warp.couplings
        return self.warp.couplings.same(other.warp.couplings)

    @property
    def cost(self) -> float:
        """Nats that a structure must earn.

        2 per warped parameter, 3 for an output warp and for each coefficient of couplings, 8 for a rough kernel.

        Few points of a steep function look rough, and a rough kernel learns slowly: without its cost ring-shaped
        posteriors needed half as many evaluations again.
        """
        coupled = 0 if self.warp.couplings is None else len(self.warp.couplings.vector)
        return 2.0 * float(self.warp.chosen) + 3.0 * ((self.output != 0.0) + coupled) + 8.0 * (self.kernel != "rbf")


@dataclass(frozen=True, eq=False)
class SurrogateParameters:
    """Everything that a surrogate is besides the data.

    Attributes:
        hyper: Hyperparameters of the process.
        whitening: From warped to whitened coordinates.
        structure: Discrete choices.
        temperature: The process models (y - y_max) / temperature; 1 once the run maps the posterior.
        n: Number of rows of the dataset that it has seen.
        score: Log density of the relevant points given the far ones, with the Jacobian of the output warp, the prior of
            the hyperparameters and the cost of the structure.
        rescues: Factorisations of the fit that needed a raised nugget.
    """

    hyper: Hyperparameters
    whitening: Whitening
    structure: Structure
    temperature: float
    n: int
    score: float = float("nan")
    rescues: int = 0

    @property
    def exact(self) -> bool:
        """Whether the trend explains the data: the residual and the shaping have both fallen."""
        small = self.hyper.log_amplitude < -2.5 and self.hyper.log_shaping < np.log(1e-3)
        return self.structure.trend == "quadratic" and bool(small)


@dataclass(frozen=True, eq=False)
class LikelihoodModel:
    """A fitted surrogate of the log-likelihood.

    Attributes:
        parameters: The numbers that define it.
        gp: The process, in whitened coordinates, of the warped (y - y_max) / temperature.
        feasibility: Where the likelihood is finite, in whitened coordinates.
        y_max: Largest value among the data.
        low: Lower corner of the box of the kept points, padded, in whitened coordinates.
        high: Upper corner.
        infeasible: Points that count as infeasible, with shape (k, d) in whitened coordinates: those without a finite
            value, and those whose values are too low for any smooth function to explain.
    """

    parameters: SurrogateParameters
    gp: GPModel
    feasibility: Feasibility
    y_max: float
    low: Array
    high: Array
    infeasible: Array
    output: OutputWarp = field(default_factory=OutputWarp)

    @property
    def noise(self) -> float:
        """Sd of the noise that was found in the values, in units of the log-likelihood; 0 where they are exact."""
        log_noise = self.parameters.hyper.log_noise
        return 0.0 if log_noise is None else float(np.exp(log_noise))

    def whiten(self, t: Array) -> Array:
        """Whitened coordinates of t, both with shape (m, d)."""
        return self.parameters.whitening.whiten(self.parameters.structure.warp.forward(t))

    def bare_mean(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature without trust region and feasibility, with shape (m,)."""
        return self.output.inverse(self.gp.mean(self.whiten(t)))

    def smooth(self, t: Array) -> Array:
        """Mean of (y - y_max) / temperature, bent down outside the trust region, with shape (m,).

        Far above all that was seen it grows with its logarithm only: a trend with fewer data than coefficients may
        promise anything in a corner of the prior, and draws of it would be one point.
        """
        return self._smooth(self.whiten(t))

    def _smooth(self, u: Array) -> Array:
        value = self.output.inverse(self.gp.mean(u))
        excess = np.maximum(self.low - u, u - self.high)
        if (excess > 0.0).any():
            bend = ((np.maximum(excess, 0.0) / (0.1 * (self.high - self.low))) ** 2).sum(1)
            value = value - 0.5 * (bend + (0.1 * bend) ** 2)  # stronger than any quadratic
        limit = 50.0 + 3.0 * len(self.parameters.structure.warp.kinds)
        high = value > limit
        return np.where(high, limit + np.log1p(np.maximum(value - limit, 0.0)), value) if high.any() else value

    def if_feasible(self, t: Array) -> Array:
        """The smooth mean, in regions known to be forbidden at most 3 above the best point, with shape (m,).

        Where the density would lie if it were feasible; beyond a cliff the mean rises without limit.
        """
        u = self.whiten(t)
        value = self._smooth(u)
        return np.where(self.feasibility.probability(u) <= 0.0, np.minimum(value, 3.0), value)

    def relative(self, t: Array, *, floor: float = 0.0) -> Array:
        """The smooth mean plus the log of the probability of being feasible, with shape (m,).

        Args:
            t: Scaled coordinates, with shape (m, d).
            floor: Smallest probability; above zero, draws still visit regions known to be infeasible.
        """
        u = self.whiten(t)
        value = self._smooth(u)
        p = self.feasibility.probability(u)
        with np.errstate(divide="ignore"):
            return np.where(p <= 0.0, np.minimum(value, 3.0), value) + np.log(np.maximum(p, floor))

    def predict(self, t: Array) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood where it is feasible, each with shape (m,).

        With an output warp the mean is the median and the sd is to first order.
        """
        u = self.whiten(t)
        z = self.gp.mean(u)
        temperature = self.parameters.temperature
        sd = self.output.slope(z) * np.sqrt(self.gp.variance(u))
        return self.y_max + temperature * self.output.inverse(z), temperature * sd

    def slope(self, t: Array) -> Array:
        """Derivative of (y - y_max) / temperature with respect to the process, with shape (m,)."""
        return self.output.slope(self.gp.mean(self.whiten(t)))

    def trend_depth(self, t: Array) -> Array | None:
        """Depth of the trend alone below its maximum at t, with shape (m,).

        None unless the trend is a concave quadratic of the log-density itself with more data than coefficients.
        """
        structure, d = self.parameters.structure, t.shape[1]
        if structure.warp.size > d:  # the trend on a circle has its maximum elsewhere than that on the plane
            return None
        if structure.trend != "quadratic" or structure.output != 0.0 or self.gp.size < trend_size(d) + 2:
            return None
        _, b, quadratic = (part.cpu().numpy() for part in self.gp.polynomial)
        if np.linalg.eigvalsh(quadratic)[-1] >= 0:
            return None
        offset = self.whiten(t) + 0.5 * np.linalg.solve(quadratic, b)
        return -self.parameters.temperature * ((offset @ quadratic) * offset).sum(1)

    def left_out_depth(self, y: Array) -> Array:
        """Depth below y_max at which each finite point, with values y of shape (n,), is predicted by the others.

        Points too deep for the process to see have the depth of their value. O(n^3).
        """
        temperature = self.parameters.temperature
        depth = self.y_max - y
        rows = _kept(y, temperature, self.gp.u.shape[1])
        residual = self.gp.leave_one_out()[: int(rows.sum())]
        z = self.output.forward(-depth[rows] / temperature) - residual
        with np.errstate(over="ignore"):  # a prediction may be as deep as it likes
            depth[rows] = -temperature * self.output.inverse(np.minimum(z, 0.0))
        return depth

    def deviations(self, t: Array, count: int, rng: np.random.Generator, *, inflate: float = 1.0) -> Array:
        """Joint deviations of the log-density from its mean at t, with shape (count, m); O(m^2 (n + p) + m^3).

        Where feasibility is in doubt its paths decide: -inf where a path is infeasible.
        """
        u = self.whiten(t)
        path = np.sqrt(inflate) * joint_normal(self.gp.covariance(u), count, rng)
        if self.output.scale != 0.0:
            z = self.gp.mean(u)
            path = self.output.inverse(z + path) - self.output.inverse(z)
        return path + self.feasibility.deviations(u, count, rng)


def _kept(y: Array, temperature: float, d: int) -> Flags:
    """Finite points that the process sees: all down to Delta, and the best 400 (or 3 p) in any case."""
    gap = (y.max() - y) / temperature
    keep = gap < relevant_depth(d)
    keep[np.argsort(gap, kind="stable")[: max(400, 3 * trend_size(d))]] = True
    return keep


def kept_rows(data: Dataset, temperature: float, d: int) -> Flags:
    """Rows of the data that the process sees, with shape (n,)."""
    rows = data.status == OK
    rows[rows] = _kept(data.y[rows], temperature, d)
    return rows


def _training_set(data: Dataset, t: Array, parameters: SurrogateParameters, device: str) -> tuple[TrainingSet, Flags]:
    """What the process is trained on, and which rows of the data these are."""
    d = t.shape[1]
    rows = kept_rows(data, parameters.temperature, d)
    output = OutputWarp(parameters.structure.output)
    y = (data.y[rows] - data.y_max) / parameters.temperature
    z = output.forward(y)
    gap = np.maximum(0.0, float(output.forward(np.array(-0.5 * relevant_depth(d)))) - z)
    unit = 1.0 / parameters.temperature / output.slope(z)
    u = parameters.whitening.whiten(parameters.structure.warp.forward(t[rows]))
    slope = _slopes(data, t, parameters, rows)[0] if data.has_gradients else None
    noise = unit * data.noise[rows]
    return TrainingSet.of(u, z, gap=gap, noise=noise, unit=unit, slope=slope, device=device), rows


def _slopes(data: Dataset, t: Array, parameters: SurrogateParameters, rows: Flags) -> tuple[Array, Array]:
    """Derivatives of the warped log-density with respect to whitened coordinates, by the chain rule.

    Those of the highest points, as many as make ``_MAX_SLOPES`` rows of the kernel matrix.

    Returns:
        The derivatives, with shape (n, d), nan where unknown; and the logarithm of the Jacobian with respect to the
        derivatives that were given, up to what is the same for all structures, with shape (n,), 0 where unknown.
    """
    warp, whitening, d = parameters.structure.warp, parameters.whitening, t.shape[1]
    y = data.y[rows] - data.y_max
    given = data.gradient[rows] / parameters.temperature
    given[np.argsort(-y, kind="stable")[_MAX_SLOPES // d :]] = np.nan
    output = OutputWarp(parameters.structure.output)
    stretch = output.slope(output.forward(y / parameters.temperature))
    inner = warp.slopes(t[rows])
    slope = given / inner @ whitening.backward.T / stretch[:, None]
    log_jacobian = np.linalg.slogdet(whitening.backward)[1] - np.log(inner).sum(1) - d * np.log(stretch)
    return slope, np.where(np.isfinite(slope).all(1), log_jacobian, 0.0)


def _recipe(structure: Structure, device: str) -> GPRecipe:
    import torch

    return GPRecipe(KERNELS[structure.kernel], Trend(structure.trend), device=torch.device(device))


def build(data: Dataset, t: Array, parameters: SurrogateParameters, *, device: str = "cpu") -> LikelihoodModel:
    """The surrogate with these parameters given the first ``parameters.n`` rows of the data.

    Args:
        data: Evaluated points.
        t: Their scaled coordinates, with shape (n, d).
        parameters: Numbers of the surrogate.
        device: Where the linear algebra runs.

    Returns:
        The model. O(n^3) for the factorisation, and of the feasibility where infeasible points were seen.
    """
    data, t = data.head(parameters.n), t[: parameters.n]
    training, rows = _training_set(data, t, parameters, device)
    gp = condition_rescued(_recipe(parameters.structure, device), training, parameters.hyper)
    u = parameters.whitening.whiten(parameters.structure.warp.forward(t))
    kept = u[rows]
    pad = 0.5 * (kept.max(0) - kept.min(0)) + 1e-9
    infeasible = (data.status == INFEASIBLE) | (data.status == FAILED)
    infeasible[rows] = _contradicted(gp, training, OutputWarp(parameters.structure.output), t.shape[1])
    known = rows | infeasible
    feasibility = fit_process(u[known], ~infeasible[known], doubtful=(data.status == FAILED)[known])
    return LikelihoodModel(
        parameters,
        gp,
        feasibility,
        data.y_max,
        kept.min(0) - pad,
        kept.max(0) + pad,
        u[infeasible],
        OutputWarp(parameters.structure.output),
    )


def _contradicted(gp: GPModel, training: TrainingSet, output: OutputWarp, d: int) -> Flags:
    """Points far below the depth that matters at which the process says that they matter, with shape (n,).

    Beyond a cliff that it cannot follow a process takes deep points for noise. They count as infeasible:
    otherwise draws go there again and again.
    """
    n, depth = len(training.u), relevant_depth(d)
    deep = output.inverse(training.y[:n].cpu().numpy()) < -depth
    if not deep.any():
        return deep
    return deep & (output.inverse(gp.mean(training.u.cpu().numpy())) > -0.5 * depth)


def _start(
    data: Dataset, structure: Structure, cloud: Array | None, temperature: float, hyper: Hyperparameters
) -> SurrogateParameters:
    """Parameters before the fit; the whitening is that of a cloud of draws t, or of the prior."""
    warped = _prior_cloud(structure.warp) if cloud is None else structure.warp.forward(cloud)
    whitening = Whitening.of(warped)
    return SurrogateParameters(hyper, whitening, structure, temperature, len(data))


def _prior_cloud(warp: InputWarp) -> Array:
    """Two points per warped axis with the variances of the unit cube, or of the unit circle."""
    d, circle = len(warp.kinds), warp.kinds == CIRCLE
    if not circle.any():
        half = np.sqrt(d * (1.0 - 0.5 / d) / 12.0)
        return warp.forward(np.concatenate([0.5 + half * np.eye(d), 0.5 - half * np.eye(d)]))
    centre = np.append(np.where(circle, 0.0, 0.5), np.zeros(warp.size - d))
    variance = np.append(np.where(circle, 0.5, 1.0 / 12.0), np.full(warp.size - d, 0.5))
    reach = np.diag(np.sqrt(variance * (warp.size - 0.5)))
    return np.concatenate([centre + reach, centre - reach])


def _far(y: Array, d: int) -> Flags:
    """Points that do not count in comparisons of structures: below Delta / 2, and not among the best p + 2."""
    far = -y > 0.5 * relevant_depth(d)
    far[np.argsort(-y, kind="stable")[: trend_size(d) + 2]] = False
    return far


def _split(training: TrainingSet, y: Array) -> tuple[TrainingSet, TrainingSet | None]:
    """The points with the far ones first, and these, on which hyperparameters and structures are conditioned only.

    The evidence of all data would prefer a surrogate that describes a cliff, on which no posterior depends. Conditioned
    on, the far points count in full where they help to predict the relevant ones, as they do for a Gaussian.
    """
    far = _far(y, training.u.shape[1])
    if not far.any():
        return training, None
    rows = np.flatnonzero(far)
    return training.subset(np.concatenate([rows, np.flatnonzero(~far)])), training.subset(rows)


def _offset(y: Array, structure: Structure, d: int) -> float:
    """What a score has besides the fit: the Jacobian of the output warp at the relevant points, and the cost."""
    return OutputWarp(structure.output).log_jacobian(y[~_far(y, d)]) - structure.cost


def _slope_offset(data: Dataset, t: Array, parameters: SurrogateParameters, rows: Flags) -> float:
    """The Jacobian of all warps for the derivatives at the relevant points, 0 without any."""
    if not data.has_gradients:
        return 0.0
    y = (data.y[rows] - data.y_max) / parameters.temperature
    return float(_slopes(data, t, parameters, rows)[1][~_far(y, t.shape[1])].sum())


def fit_structure(
    data: Dataset,
    t: Array,
    structure: Structure,
    cloud: Array | None,
    *,
    temperature: float = 1.0,
    starts: tuple[Hyperparameters, ...] = (),
    cold_start: bool = False,
    log_noise: float | None = None,
    max_evaluations: int = 60,
    device: str = "cpu",
) -> SurrogateParameters:
    """Parameters of the surrogate with this structure that fits the data best, a posteriori.

    Args:
        data: Evaluated points, at least one of them finite.
        t: Their scaled coordinates, with shape (n, d).
        structure: Discrete choices.
        cloud: Draws t of the present posterior, whose covariance whitens the coordinates; None at first.
        temperature: The process models (y - y_max) / temperature.
        starts: Where the optimiser starts.
        cold_start: Whether it starts from the default hyperparameters too, as it does without starts.
        log_noise: Where the common noise of a cold start begins; None if there is none.
        max_evaluations: Of the marginal likelihood, per start.
        device: Where the linear algebra runs.
    """
    spread = float(np.std(data.y[data.status == OK])) / temperature
    size = structure.warp.size
    cold = replace(Hyperparameters.default(size, scale=0.1 * spread + 1e-3), log_noise=log_noise)
    begin = _start(data, structure, cloud, temperature, cold)
    training, rows = _training_set(data, t, begin, device)
    recipe = _recipe(structure, device)
    begins = [*starts, *([cold] if cold_start or not starts else [])]
    y = (data.y[rows] - data.y_max) / temperature
    offset = _offset(y, structure, size) + _slope_offset(data, t, begin, rows)
    if structure.warp.couplings is not None:
        movable = _movable(structure.warp, begin.whitening, t[rows], training, np.flatnonzero(_far(y, size)))
        hyper, coefficients, value, rescues = fit_movable(recipe, movable, begins, max_evaluations=max_evaluations)
        warp = structure.warp.coupled(structure.warp.couplings.at(coefficients))
        begin = replace(begin, structure=replace(structure, warp=warp))
    else:
        training, given = _split(training, y)
        hyper, value, rescues = fit(recipe, training, begins, given=given, max_evaluations=max_evaluations)
    return replace(begin, hyper=hyper, score=value + offset, rescues=rescues)


def _movable(warp: InputWarp, whitening: Whitening, t: Array, training: TrainingSet, given: Indices) -> MovableSet:
    """The training set, at points t, as a function of the coefficients of the couplings; the whitening stays."""
    single, couplings, d = warp.single(t), warp.couplings, t.shape[1]
    if couplings is None:
        msg = "the warp has no couplings to move"
        raise ValueError(msg)

    def at(coefficients: Array) -> TrainingSet:
        u = single.copy()
        u[:, :d] = couplings.at(coefficients).forward(single[:, :d])
        return replace(training, u=training.u.new_tensor(whitening.whiten(u)))

    def pull(coefficients: Array, slopes: Array) -> Array:
        return couplings.at(coefficients).jacobian(single[:, :d], (slopes @ whitening.forward.T)[:, :d]).sum(0)

    return MovableSet(at, pull, couplings.vector, given)


def _coupling_penalty(warp: InputWarp) -> float:
    """Negative log density of the coefficients of couplings, up to a constant."""
    return 0.0 if warp.couplings is None else 0.5 * float((warp.couplings.vector**2).sum()) / COEFFICIENT_SD**2


def score_structure(
    data: Dataset,
    t: Array,
    structure: Structure,
    cloud: Array | None,
    hypers: tuple[Hyperparameters, ...],
    *,
    temperature: float = 1.0,
    device: str = "cpu",
) -> tuple[float, Hyperparameters]:
    """The best score of a structure over given hyperparameters, without fitting: one factorisation for each."""
    prior = HyperPrior()
    begin = _start(data, structure, cloud, temperature, hypers[0])
    training, rows = _training_set(data, t, begin, device)
    y = (data.y[rows] - data.y_max) / temperature
    training, given = _split(training, y)
    recipe, size = _recipe(structure, device), structure.warp.size
    offset = _offset(y, structure, size) + _slope_offset(data, t, begin, rows) - _coupling_penalty(structure.warp)
    values = log_marginals(recipe, training, hypers, given=given)
    scores = [v - prior.penalty(h.vector(), size)[0] + offset for v, h in zip(values, hypers, strict=True)]
    best = int(np.argmax(scores))
    return scores[best], hypers[best]
