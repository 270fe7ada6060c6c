"""Fits of scalar surrogates: hyperparameters and couplings that maximise the evidence, and scores of structures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.gp.process import Data
from surrogate.gp.trended import COEFFICIENT_SD, Hyperparameters, Movable, fit_movable
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp, OutputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.parameters import Structure, SurrogateParameters
from surrogate.log_density.training import FitProblem, family, far
from surrogate.problem.dataset import OK

__all__ = ["density_given", "fit_structure", "prior_points", "score_structure"]


def _start(problem: FitProblem, structure: Structure, hyper: Hyperparameters) -> SurrogateParameters:
    """Initial parameters of a fit, with whitening by the draws, or by the prior if there are none."""
    draws = problem.draws
    warped = prior_points(structure.warp) if draws is None else structure.warp.forward(draws)
    return SurrogateParameters(
        hyper,
        Whitening.of(warped),
        structure,
        problem.temperature,
        len(problem.data),
        feasibility=problem.feasibility,
    )


def prior_points(warp: InputWarp) -> Array:
    """Two points per warped axis, whose covariance is that of the unit cube, or of the unit circle."""
    warp = replace(warp, symmetry=None)  # which would map many of them to the same point
    d, circle = len(warp.kinds), warp.kinds == CIRCLE
    if not circle.any():
        half = np.sqrt(d * (1.0 - 0.5 / d) / 12.0)
        return warp.forward(np.concatenate([0.5 + half * np.eye(d), 0.5 - half * np.eye(d)]))
    centre = np.append(np.where(circle, 0.0, 0.5), np.zeros(warp.size - d))
    variance = np.append(np.where(circle, 0.5, 1.0 / 12.0), np.full(warp.size - d, 0.5))
    reach = np.diag(np.sqrt(variance * (warp.size - 0.5)))
    return np.concatenate([centre + reach, centre - reach])


def _split(training: Data, y: Array) -> tuple[Data, Data | None]:
    """All points with the far ones first, and the far points on which the score conditions (None if there are none).

    The evidence of all points would favour surrogates that describe a cliff, which is irrelevant to the posterior. The
    density of the other points given the far ones rewards predictions of relevant points.
    """
    deep = far(y, training.u.shape[1])
    if not deep.any():
        return training, None
    rows = np.flatnonzero(deep)
    return training.subset(np.concatenate([rows, np.flatnonzero(~deep)])), training.subset(rows)


def _offset(y: Array, structure: Structure, d: int) -> float:
    """Terms that a score adds to the fit: the Jacobian of the output warp at the relevant points, minus the cost."""
    return OutputWarp(structure.output).log_jacobian(y[~far(y, d)]) - structure.cost


def _slope_offset(problem: FitProblem, parameters: SurrogateParameters) -> float:
    """Log Jacobian of all warps for the derivatives at the relevant points; 0 without derivatives."""
    if not problem.data.has_gradients:
        return 0.0
    return float(problem.slopes(parameters)[1][~far(problem.y, problem.d)].sum())


def fit_structure(
    problem: FitProblem,
    structure: Structure,
    *,
    starts: tuple[Hyperparameters, ...] = (),
    cold_start: bool = False,
    log_noise: float | None = None,
    max_evaluations: int = 60,
) -> SurrogateParameters:
    """Maximum-a-posteriori parameters of the surrogate with this structure.

    Args:
        problem: Data, coordinates and temperature.
        structure: Structure of the surrogate.
        starts: Initial hyperparameters.
        cold_start: Whether to also start from the default hyperparameters, which is always done if there are no
            ``starts``.
        log_noise: Log sd of the common noise at a cold start; None for no such noise.
        max_evaluations: Maximum number of evaluations of the marginal likelihood, per start.
    """
    data, y = problem.data, problem.y
    with np.errstate(over="ignore"):  # an infinite scale is moved to its bound by the fit
        spread = float(np.std(data.y[data.status == OK])) / problem.temperature
    size = structure.warp.size
    cold = replace(Hyperparameters.default(size, scale=0.1 * spread + 1e-3), log_noise=log_noise)
    begin = _start(problem, structure, cold)
    training = problem.training_set(begin)
    processes = family(structure, begin.whitening)
    begins = [*starts, *([cold] if cold_start or not starts else [])]
    offset = _offset(y, structure, size) + _slope_offset(problem, begin)
    if structure.warp.couplings is not None and structure.peaks is None:  # with peaks they are fitted together
        t = problem.t[problem.rows]
        movable = _movable(structure.warp, begin.whitening, t, training, np.flatnonzero(far(y, size)))
        hyper, coefficients, found = fit_movable(processes, movable, begins, max_evaluations=max_evaluations)
        warp = structure.warp.with_couplings(structure.warp.couplings.at(coefficients))
        begin = replace(begin, structure=replace(structure, warp=warp))
    else:
        training, given = _split(training, y)
        hyper, found = processes.fit(training, begins, given=given, max_evaluations=max_evaluations)
    return replace(begin, hyper=hyper, score=found.value + offset, rescues=len(found.rescues))


def _movable(warp: InputWarp, whitening: Whitening, t: Array, training: Data, given: Indices) -> Movable:
    """The training set at points t as a function of the coupling coefficients, for a fixed whitening."""
    single, couplings, d = warp.single(t), warp.couplings, t.shape[1]
    if couplings is None:
        msg = "the warp has no couplings to optimise"
        raise ValueError(msg)

    def at(coefficients: Array) -> Data:
        u = single.copy()
        u[:, :d] = couplings.at(coefficients).forward(single[:, :d])
        return replace(training, u=training.u.new_tensor(whitening.whiten(u)))

    def pull(coefficients: Array, slopes: Array) -> Array:
        return couplings.at(coefficients).jacobian(single[:, :d], (slopes @ whitening.forward.T)[:, :d]).sum(0)

    return Movable(at, pull, couplings.vector, given)


def _coupling_penalty(warp: InputWarp) -> float:
    """Negative log prior density of the coefficients of couplings, up to a constant."""
    return 0.0 if warp.couplings is None else 0.5 * float((warp.couplings.vector**2).sum()) / COEFFICIENT_SD**2


def score_structure(
    problem: FitProblem, structure: Structure, hypers: tuple[Hyperparameters, ...]
) -> tuple[float, Hyperparameters]:
    """The best score of a structure among given hyperparameters, and these hyperparameters; one factorisation each."""
    begin = _start(problem, structure, hypers[0])
    training, given = _split(problem.training_set(begin), problem.y)
    size = structure.warp.size
    offset = _offset(problem.y, structure, size) + _slope_offset(problem, begin) - _coupling_penalty(structure.warp)
    scores = [
        value + offset for value in family(structure, begin.whitening).log_posteriors(training, hypers, given=given)
    ]
    best = int(np.argmax(scores))
    return scores[best], hypers[best]


def density_given(problem: FitProblem, parameters: SurrogateParameters, known: Flags) -> float:
    """Log density of some values given the others, including the terms of a score, comparable between surrogates.

    Args:
        problem: Data to which the surrogate was fitted.
        parameters: The surrogate.
        known: Mask of the rows on which to condition, with shape (n,); not all of them.
    """
    training, known = problem.training_set(parameters), known[problem.rows]
    rows, given = np.flatnonzero(known), None
    if len(rows):
        training, given = training.subset(np.concatenate([rows, np.flatnonzero(~known)])), training.subset(rows)
    structure = parameters.structure
    value = family(structure, parameters.whitening).log_posteriors(training, [parameters.hyper], given=given)[0]
    value += OutputWarp(structure.output).log_jacobian(problem.y[~known])
    return value - structure.cost - _coupling_penalty(structure.warp)
