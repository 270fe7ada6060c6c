"""Search for several peaks, each with a quadratic trend of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from surrogate.arrays import Array
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.parameters import Structure, SurrogateParameters, relevant_depth, trend_size
from surrogate.log_density.peaks import Peaks, depth_weights, fit_peaks, fit_transformed
from surrogate.log_density.remainder import remainder
from surrogate.log_density.search.couplings import EXPLAINED
from surrogate.log_density.training import FitProblem
from surrogate.rng import generator
from surrogate.samplers.mixture import Mixture, fit_mixture

__all__ = ["are_determined", "choose_peaks", "with_peaks_of"]


_NUMBERS = (2, 3, 4)  # of peaks
_MANY = 20  # coordinates above which a fit takes seconds
_EVALUATIONS = 30  # evaluations of the marginal likelihood from each start


def choose_peaks(problem: FitProblem, present: SurrogateParameters, *, margin: float = 4.0) -> SurrogateParameters:
    """The current parameters, or those with several peaks if their score is higher by ``margin`` nats.

    Peaks start at the components of Gaussian mixtures fitted to the draws. With derivatives, noise, a raised
    temperature or more than 20 coordinates there are none. Two random mixtures of Gaussians that had used up 160
    evaluations without a claim are claimed, and right, after 68 and 64.

    Args:
        problem: Data of the current fit; its draws show where the peaks are.
        present: The fitted surrogate.
        margin: Nats by which peaks must win.
    """
    warp, draws, data = present.structure.warp, problem.draws, problem.data
    noisy = data.noise.any() or present.hyper.log_noise is not None
    out_of_place = warp.size > _MANY or data.has_gradients or noisy
    few = int(problem.rows.sum()) <= trend_size(warp.size)
    if draws is None or problem.temperature != 1.0 or out_of_place or few:
        return present
    start = replace(present.hyper, log_amplitude=np.log(EXPLAINED[0]), log_shaping=np.log(EXPLAINED[1]))
    best = present
    for peaks in _candidates(problem, present.structure):
        structure = with_peaks_of(problem, Structure("rbf", "quadratic", 0.0, warp, peaks=peaks))
        if structure.peaks is None:
            continue
        fitted = fit_structure(problem, structure, starts=(start,), max_evaluations=_EVALUATIONS)
        if fitted.score > max(best.score, present.score + margin):
            best = fitted
        if best.exact:
            break
    return best


def _candidates(problem: FitProblem, structure: Structure) -> Iterator[Peaks]:
    """Starts of several peaks: one more than the known ones, and the components of mixtures fitted to the draws."""
    draws = problem.draws
    if draws is None:
        return
    w = structure.warp.forward(draws)
    if (peaks := _one_more(problem, structure, w)) is not None:
        yield peaks
    for number in _NUMBERS:
        mixture = fit_mixture(w, number, generator(0, "peaks", number))
        if len(mixture.weights) == number:
            yield Peaks.of_mixture(mixture)


def _one_more(problem: FitProblem, structure: Structure, draws: Array) -> Peaks | None:
    """The known peaks and one at the highest value that they leave unexplained, with the shape of the main one.

    None unless they explain nearly all values exactly, see ``surrogate.log_density.remainder``, and that value matters.
    """
    w, y = structure.warp.forward(problem.t[problem.rows]), problem.y
    rest = remainder(w, y, structure.peaks)
    if rest is None or not rest.hints.any():
        return None
    best = int(np.where(rest.hints, rest.log_likelihood, -np.inf).argmax())
    if y.max() - rest.log_likelihood[best] > 0.5 * relevant_depth(problem.d):
        return None
    one = Mixture(np.ones(1), draws.mean(0)[None], Whitening.of(draws).backward.T[None])
    start = Peaks.of_mixture(one) if structure.peaks is None else structure.peaks
    kept = ~rest.hints
    known = fit_peaks(start, w[kept], y[kept], depth_weights(y[kept]))
    main = int(known.values(w[kept])[np.argmax(y[kept])].argmax())
    return known.joined(known.like(main, w[best], float(rest.log_likelihood[best])))


def with_peaks_of(problem: FitProblem, structure: Structure) -> Structure:
    """The structure with peaks and couplings fitted to the data; without peaks if the data do not determine them."""
    warp, t, none = structure.warp, problem.t[problem.rows], replace(structure, peaks=None)
    if structure.peaks is None or problem.temperature != 1.0:
        return none
    if len(t) <= (len(structure.peaks) - 1) * trend_size(warp.size):
        return none
    weight = depth_weights(problem.y)
    if warp.couplings is None or warp.size > problem.d:
        peaks = fit_peaks(structure.peaks, warp.forward(t), problem.y, weight)
    else:
        peaks, couplings, _ = fit_transformed(structure.peaks, warp.couplings, warp.single(t), problem.y, weight)
        warp = warp.with_couplings(couplings)
    return replace(structure, warp=warp, peaks=peaks) if are_determined(peaks, warp.forward(t)) else none


def are_determined(peaks: Peaks, w: Array) -> bool:
    """Whether each peak but one dominates at more of the points w than a quadratic has coefficients.

    Of the last one a single point is enough: all others are known then, so that the next points go there. If each peak
    had to be known, two in four dimensions took 89 evaluations instead of 58, half of them on the one known already. Of
    several unknown ones the fit is arbitrary.
    """
    coefficients, counts = trend_size(w.shape[1]), _evaluations(peaks, w)
    return bool((counts[1:] > coefficients).all() and counts[0] > 0)


def _evaluations(peaks: Peaks, w: Array) -> Array:
    """Numbers of the points w at which each peak dominates, in ascending order."""
    return np.sort(np.bincount(peaks.values(w).argmax(1), minlength=len(peaks)))
