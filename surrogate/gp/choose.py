"""Choice of a kernel and its hyperparameters, for few points or a million."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from surrogate.arrays import Array
from surrogate.gp.bases import choose_basis
from surrogate.gp.evidence.basis import BasisEvidence
from surrogate.gp.evidence.exact import ExactEvidence
from surrogate.gp.evidence.iterative import IterativeEvidence
from surrogate.gp.evidence.minibatch import minibatch_fit
from surrogate.gp.evidence.neighbours import NeighbourEvidence
from surrogate.gp.evidence.profile import NoiseProfile
from surrogate.gp.kernels import STATIONARY
from surrogate.gp.scales import CALIBRATION, Objective, Observations, ScaledProcess, ScaleFit, ScalePrior, maximise
from surrogate.linalg.stationary import CORRELATIONS

__all__ = ["EVIDENCES", "EXACT_FIT", "Search", "choose_process", "with_profiled_noise"]

EVIDENCES = ("auto", "exact", "neighbours", "iterative", "minibatch", "basis")
"""Names of the objectives for hyperparameters; see ``choose_process``."""

EXACT_FIT = 1500
"""Points up to which "auto" uses the exact marginal likelihood of all."""

_PILOT = 800  # points used to choose a kernel if there are more than EXACT_FIT
_TARGETS, _NEIGHBOURS = 1500, 64  # of the likelihood by neighbours
_REFINEMENTS = 30  # evaluations of a likelihood that starts near its maximum
_ROUGH_TOLERANCE = 1e-6  # relative decrease at which these evaluations stop
_RANK = 200  # rank of the iterative likelihood's preconditioner, whose trace costs as many products with the kernel
_PURE_NOISE = 1e6  # eta, in units of the kernel matrix's mean eigenvalue, beyond which there is no signal
# Smallest noise variance for rough kernels, in units of a point's variance given its neighbours.
_FLOOR = {"matern12": 0.05, "matern32": 0.05}


@dataclass(frozen=True, eq=False)
class Search:
    """Settings and data shared by all fits in the choice of a kernel.

    Attributes:
        data: Standardised points and values.
        noise: Mean noise variance if known and positive; None to estimate it.
        prior: Prior of the hyperparameters.
        order: Indices of the points in random order, with shape (n,).
        generator: Random numbers for the fits; on the CPU.
        size: Number of basis functions.
        feature_seed: Seed of random basis functions.
    """

    data: Observations
    noise: float | None
    prior: ScalePrior
    order: Tensor
    generator: torch.Generator
    size: int
    feature_seed: int

    def exact(self, name: str, rows: Tensor, start: Array | None = None) -> ScaleFit:
        """The fit of a kernel by the exact marginal likelihood, from two starts if points are few.

        Args:
            name: Name of the kernel.
            rows: Indices of the points to use.
            start: Initial theta; None for the prior's mean.
        """
        d = self.data.x.shape[1]
        centre = self.prior.centre(d)
        starts = [centre, centre + np.array([3.0, *[1.0] * d])] if len(rows) <= 200 else [centre]
        evidence = ExactEvidence(CORRELATIONS[name], self.data.rows(rows), self.noise)
        fits = [
            maximise(evidence.objective, begin, prior=self.prior) for begin in (starts if start is None else [start])
        ]
        return max(fits, key=lambda fit: fit.value)

    def process(self, name: str, fit: ScaleFit, origin: str) -> ScaledProcess:
        """The process of a fit; it has an output scale if the noise is known."""
        scale = None if self.noise is None else math.sqrt(self.noise / fit.eta)
        rescued = f", {len(fit.rescues)} evaluations with more noise" if fit.rescues else ""
        kernel = STATIONARY[name](fit.lengthscale).with_vector(fit.vector[1:])
        return ScaledProcess(kernel, fit.eta, scale, origin + rescued)


def choose_process(
    data: Observations,
    *,
    kernels: tuple[str, ...],
    noise: float | None,
    generator: torch.Generator,
    evidence: str = "auto",
    size: int = 1000,
    feature_seed: int = 0,
) -> ScaledProcess:
    """The process with the best kernel and hyperparameters, for standardised points and values.

    All kernels are fitted to a random subset of the points by the exact marginal likelihood. The best one (the two best
    for "neighbours") is then fitted by

    - "exact": the marginal likelihood of all points, O(n^3) an evaluation;
    - "neighbours": predictions of 1,500 points from the 64 nearest of all others, which have the density of the full
    data set. A subset is sparser, and if no kernel is quite right it gives too long lengthscales and too much noise.
    With 3,000 points of a protein data set the mean negative log density of 2,000 others was 0.98 nats from a subset of
    1,000, 0.83 from neighbours, and 0.83 from the marginal likelihood of all, which took eight times as long;
    - "iterative": the marginal likelihood of all points by conjugate gradients, with about 50 products with the kernel
    matrix per evaluation;
    - "minibatch": stochastic gradients of batches of 128 points;
    - "basis": the marginal likelihood of ``size`` basis functions;
    - "auto": "exact" up to 1,500 points and "neighbours" beyond.

    For Matern 1/2 and 3/2 kernels estimated noise is at least a twentieth of a point's variance given its neighbours.
    Smaller noise cannot be distinguished from their roughness, and an input repeated with a different output would be
    off by tens of standard deviations. One such row in 4,000 of the protein data, at n = 3,000, raised the mean
    negative log density from 0.93 to 1.02, whereas a five times lower floor improved other rows by only 0.01.

    Args:
        data: Points and values, in float64.
        kernels: Names to choose from.
        noise: Mean noise variance if known, 0 for exact values.
        generator: Draws the subsets; on the CPU.
        evidence: One of ``EVIDENCES``.
        size: Number of basis functions for "basis".
        feature_seed: Seed of random basis functions.

    Raises:
        ValueError: If the evidence is unknown, or needs noise but the values are exact.
        FloatingPointError: If a kernel matrix cannot be factored with any noise.
    """
    _check(evidence, noise)
    n = len(data)
    least = max(n, 10) * torch.finfo(torch.float64).eps
    prior = ScalePrior(eta_bounds=(least, least if noise == 0.0 else 1e3))
    order = torch.randperm(n, generator=generator).to(data.x.device)
    search = Search(data, noise or None, prior, order, generator, size, feature_seed)
    pilot = order[: min(n, _PILOT if n > EXACT_FIT else max(n // 3, 200))]
    fits = {name: search.exact(name, pilot) for name in kernels}
    ranked = sorted(kernels, key=lambda name: -fits[name].value)
    process = _BY[_kind(evidence, n)](search, {name: fits[name] for name in ranked[:2]}, len(pilot) == n)
    floored = noise is None and n >= 3 and process.correlation.name in _FLOOR
    return _with_noise_floor(process, search) if floored else process


def _check(evidence: str, noise: float | None) -> None:
    """Refuses evidences that there are not, and those that exact values do not have."""
    if evidence not in EVIDENCES:
        msg = f"evidence must be one of {EVIDENCES}, got {evidence!r}"
        raise ValueError(msg)
    if noise == 0.0 and evidence == "minibatch":
        msg = "evidence='minibatch' needs noise, got noise=0: use 'exact' or 'neighbours' for values without noise"
        raise ValueError(msg)


def _kind(evidence: str, n: int) -> str:
    """The evidence of n points where the choice may be left open; fewer than three have no neighbours."""
    if n < 3:
        return "exact"
    return evidence if evidence != "auto" else "exact" if n <= EXACT_FIT else "neighbours"


def _noisier(theta: Array) -> Array:
    """Initial theta of a fit to more points: the last theta with an eta of at least 0.01.

    The optimiser lowers the noise within a few evaluations if needed, but does not recover from almost none.
    """
    return np.concatenate([[max(theta[0], math.log(0.01))], theta[1:]])


def _by_all_points(search: Search, fits: dict[str, ScaleFit], complete: bool) -> ScaledProcess:
    """The best of the fits, repeated with all points unless it had them (``complete``)."""
    name, fit = next(iter(fits.items()))
    if not complete:
        fit = search.exact(name, torch.arange(len(search.data), device=search.order.device), _noisier(fit.vector))
    return search.process(name, fit, f"marginal likelihood of {len(search.data)} points")


def _by_neighbours(search: Search, fits: dict[str, ScaleFit], complete: bool) -> ScaledProcess:  # noqa: ARG001
    """Two fits by neighbours: of all given kernels, and of the better one with neighbours by its new lengthscales."""
    n = len(search.data)
    m = min(_NEIGHBOURS, n - 1)
    for k in range(2):
        targets = search.order.roll(-k * _TARGETS)[:_TARGETS]
        for name, fit in fits.items():
            evidence = NeighbourEvidence.of(
                CORRELATIONS[name],
                search.data,
                targets=targets,
                m=m,
                lengthscale=fit.lengthscale,
                noise=search.noise,
            )
            fits = fits | {name: _near(search, evidence.objective, fit)}
        best = max(fits, key=lambda each: fits[each].value)
        fits = {best: fits[best]}
    return search.process(best, fits[best], f"predictions of {len(targets)} points from their {m} nearest of {n}")


def _near(search: Search, objective: Objective, fit: ScaleFit) -> ScaleFit:
    """The maximum near a fit to fewer points, by a few evaluations."""
    return maximise(
        objective,
        _noisier(fit.vector),
        prior=search.prior,
        max_evaluations=_REFINEMENTS,
        tolerance=_ROUGH_TOLERANCE,
    )


def _by_iteration(search: Search, fits: dict[str, ScaleFit], complete: bool) -> ScaledProcess:  # noqa: ARG001
    name, fit = next(iter(fits.items()))
    centred = replace(search.data, y=search.data.y - search.data.y.mean())
    start = _noisier(fit.vector)
    evidence = IterativeEvidence.of(CORRELATIONS[name], centred, start, rank=_RANK, noise=search.noise)
    found = _near(search, evidence.objective, fit)
    error = evidence.estimate(found.vector).standard_error
    words = f"marginal likelihood of {len(centred)} points by conjugate gradients, to {error:.1g} nats"
    return search.process(name, found, words)


def _by_minibatches(search: Search, fits: dict[str, ScaleFit], complete: bool) -> ScaledProcess:  # noqa: ARG001
    name, fit = next(iter(fits.items()))
    found, _ = minibatch_fit(
        CORRELATIONS[name],
        search.data,
        _noisier(fit.vector),
        generator=search.generator,
        prior=search.prior,
        noise=search.noise,
    )
    return search.process(name, found, found.status)


def _by_basis(search: Search, fits: dict[str, ScaleFit], complete: bool) -> ScaledProcess:  # noqa: ARG001
    name, fit = next(iter(fits.items()))
    centred = replace(search.data, y=search.data.y - search.data.y.mean())
    basis, words = choose_basis(name, centred.x, fit.lengthscale, search.size, seed=search.feature_seed)
    found = _near(search, BasisEvidence.of(basis, centred, search.noise).objective, fit)
    return search.process(name, found, f"marginal likelihood of {words}")


_BY = {
    "exact": _by_all_points,
    "neighbours": _by_neighbours,
    "iterative": _by_iteration,
    "minibatch": _by_minibatches,
    "basis": _by_basis,
}


def _with_noise_floor(process: ScaledProcess, search: Search) -> ScaledProcess:
    evidence = NeighbourEvidence.of(
        process.correlation,
        search.data,
        targets=search.order[:CALIBRATION],
        m=min(_NEIGHBOURS, len(search.data) - 1),
        lengthscale=process.lengthscale,
    )
    theta = np.log([process.eta, *process.lengthscale])
    floor = _FLOOR[process.correlation.name] * float((evidence.variance(theta) - process.eta).clamp(min=0.0).median())
    return process.with_(eta=max(process.eta, floor))


def with_profiled_noise(process: ScaledProcess, data: Observations) -> ScaledProcess:
    """The process with noise and scale of largest restricted likelihood of all points; it costs ten Choleskys.

    The constant is integrated out, and the best of several maxima is taken, which a local search may miss. If there is
    only noise, eta is at the upper end of the search, a million times the kernel matrix's mean eigenvalue.

    Args:
        process: Process whose kernel and lengthscales are kept.
        data: All the points, with equal noise.

    Raises:
        ValueError: If there is only one point.
    """
    ones = torch.ones_like(data.y)[:, None]
    profile = NoiseProfile.of(process.operator(data.x).dense(), data.y, trend=ones)
    least = max(len(data), 10) * torch.finfo(torch.float64).eps
    most = _PURE_NOISE * float(profile.eigenvalues.mean())
    found = profile.maximise(bounds=(least, most))
    eta = min(found.eta, most)
    scale = math.sqrt(max(found.noise_variance / eta, 1e-300))
    return process.with_(eta=eta, scale=scale, origin=f"{process.origin}; noise by its profile: {found.status}")
