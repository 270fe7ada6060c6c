"""Scout, while a run looks for the posterior, for models with a small misfit whatever the scale of the noise."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.inference.depths import seen_depth
from surrogate.inference.learning import learn
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.setup import Setup, marked, with_parameters
from surrogate.inference.state import State
from surrogate.inference.temperature import ERRORS, temperature_of_values
from surrogate.inference.view import View
from surrogate.log_density.misfit import NoiseScale, longest_line, models, of_line, suspected_scale
from surrogate.log_density.parameters import trend_size
from surrogate.problem.dataset import Dataset
from surrogate.selection.posterior import uncertain_batch

__all__ = ["Misfit", "scale_candidates"]


_HOT = 20.0  # temperature from which a search is worth the calls that test a scale
_SUSPICION = -1.0  # log Bayes factor from which a parameter is tested
_DECADE = 10.0  # least ratio of the prior's quantiles of a scale
_TAIL = 0.05  # probability beyond each of these
_RATIOS = (0.5, 0.25, 2.0, 0.125, 0.0625)  # scales of a test, relative to that of the best point
_TESTS = 3  # of them that are evaluated
_SPARE = 2  # points near the mode in excess of a quadratic's coefficients up to which the scout acts
_WEIGHT = 1.0  # weight of the log-posterior against the uncertainty
_CAUTION = 5.0  # sds by which the first point of a batch must be safe, for short steps


class Misfit:
    """Proposes models with a small misfit where one parameter is the scale of the noise.

    The misfit does not depend on the scale and is often nearly quadratic over the whole prior, while the
    log-likelihood of small scales falls by many orders of magnitude. A parameter that looks like a scale is tested by
    three calls that change it alone, and a fourth elsewhere. The misfits of all evaluations are then learned in the
    other parameters, at a temperature of their own, and scales are drawn given the predicted misfit. Once enough points
    lie near the mode the run goes on as any other.
    """

    name = "misfit"
    phases = frozenset({Phase.TEMPERED, Phase.LEARN})
    place = Place.FIRST

    def points(self, view: View) -> Array:
        """A batch; none if no parameter looks like a scale, or the mode is reached."""
        if not _applies(view) or _is_near(view):
            return view.nowhere
        finite = view.state.data.finite
        t, x, y = view.t[finite], view.state.data.x[finite], view.state.data.y[finite]
        candidates = scale_candidates(view.setup)
        tested = {j: line for j in candidates if (line := longest_line(models(t, j))) is not None}
        forms = [form for j, line in tested.items() if (form := of_line(x[line, j], y[line], j)) is not None]
        for form in forms:
            if form.holds(x, y, models(t, form.parameter)):
                return _search(view, form, x, y)
        if forms or view.model.temperature < _HOT:
            return view.nowhere
        found = suspected_scale(t, x, y, [j for j in candidates if j not in tested])
        if found is None or found[0] < _SUSPICION:
            return view.nowhere
        return _test(view, found[1], x[np.argmax(y)])


def scale_candidates(setup: Setup) -> list[int]:
    """Numbers of the parameters that may be scales: positive, with priors that span a decade."""
    prior = setup.prior
    ends = prior.quantile(np.array([[_TAIL], [1.0 - _TAIL]]) * np.ones((2, setup.d)))
    wide = (prior.bounds[:, 0] >= 0.0) & (ends[0] > 0.0) & (ends[1] > _DECADE * ends[0]) & ~prior.periodic
    return [int(j) for j in np.flatnonzero(wide)]


def _applies(view: View) -> bool:
    """Whether the run has exact values of a log-likelihood of more than one continuous parameter, searched freely."""
    setup, data = view.setup, view.state.data
    special = setup.levels is not None or setup.observables is not None or setup.reference is not None
    special = special or setup.gradient or setup.fast is not None or bool(setup.prior.orders)
    return not special and setup.d > 1 and not view.model.exact and not bool((data.noise > 0.0).any())


def _is_near(view: View) -> bool:
    """Whether as many points as determine a quadratic lie near the best one."""
    data = view.state.data
    return bool((data.y[data.finite] > data.y_max - seen_depth(view.d)).sum() >= trend_size(view.d) + _SPARE)


def _test(view: View, parameter: int, best: Array) -> Array:
    """Points that differ from the best one in a suspected scale alone; those under way are left out."""
    low, high = view.setup.prior.bounds[parameter]
    scales = [ratio * best[parameter] for ratio in _RATIOS if low < ratio * best[parameter] < high][:_TESTS]
    x = np.repeat(best[None], len(scales), axis=0)
    x[:, parameter] = scales
    return view.setup.scaled.not_among(view.setup.scaled.to_unit(x), view.under_way)


def _search(view: View, form: NoiseScale, x: Array, y: Array) -> Array:
    """A batch of models with a small misfit at scales drawn given it; first a second test of the form if there is none.

    The misfit is in units in which its smallest value is that of the most likely scale, so that it is the depth of a
    log-likelihood with this scale.
    """
    misfit = form.misfit(x, y)
    n = len(view.batch)
    confirmation = _confirmation(view, form, x, misfit)
    if len(confirmation) >= n:
        return confirmation
    unit = misfit.min() / form.term
    others = np.delete(np.arange(view.d), form.parameter)
    inner = _learned(view, others, _of_models(view.state.data, others, models(view.t, form.parameter), -misfit / unit))
    t = np.concatenate([inner.draws.posterior[::2], inner.draws.warm[::2]])
    index = uncertain_batch(
        inner.model,
        t,
        inner.setup.scaled.log_density(t),
        n - len(confirmation),
        zeta=_WEIGHT,
        caution=_CAUTION,
        pending=np.concatenate([view.under_way, confirmation])[:, others],
    )
    predicted = np.maximum(-unit * inner.model.predict(t[index])[0], misfit.min())
    scale = form.best_scale(predicted, view.rng("scales").gamma(form.term, 1.0 / form.term, len(index)))
    points = np.insert(inner.setup.scaled.from_unit(t[index]), form.parameter, scale, axis=1)
    points = points[np.isfinite(view.setup.prior.log_density(points))]
    return np.concatenate([confirmation, view.setup.scaled.to_unit(points)])


def _learned(view: View, columns: Indices, data: Dataset) -> View:
    """A view of the depths of models, learned twice in the other parameters.

    The first surrogate has no draws that could set its scales, and no errors of predictions that could limit its
    temperature: the second has its draws, and its errors at the points of the last batch when each is left out.
    """
    setup = with_parameters(view.setup, columns)
    data = marked(setup, data)
    state = State(view.state.seed, view.state.step, data, predicted=np.full((len(data), 2), np.nan))
    y = data.y[data.finite]
    temperature = max(1.0, temperature_of_values(y, setup.d))
    first = learn(View(setup, state), temperature)
    depth = data.y_max - y
    last = data.step[data.finite] == data.step[data.finite].max()
    error = float(np.median(np.abs(first.model.left_out_depth(y) - depth)[last]))
    return learn(first, max(1.0, min(temperature, ERRORS * error)))


def _confirmation(view: View, form: NoiseScale, x: Array, misfit: Array) -> Array:
    """The best model that was evaluated at one scale only, at its most likely scale; none if two have several."""
    model = models(view.t[view.state.data.finite], form.parameter)
    counts = np.bincount(model)
    once = np.flatnonzero(counts[model] == 1)
    if (counts > 1).sum() > 1 or not len(once):
        return view.nowhere
    row = once[np.argmin(misfit[once])]
    point = x[row].copy()
    point[form.parameter] = form.best_scale(misfit[row])
    if not np.isfinite(view.setup.prior.log_density(point[None]))[0]:
        return view.nowhere
    return view.setup.scaled.not_among(view.setup.scaled.to_unit(point[None]), view.under_way)


def _of_models(data: Dataset, columns: Indices, model: Indices, y: Array) -> Dataset:
    """The evaluations in some of the parameters, once each, with other values of those that are finite."""
    values = data.y.copy()
    values[data.finite] = y
    rows = np.unique(model, return_index=True)[1]
    return Dataset(
        x=data.x[np.ix_(rows, columns)],
        y=values[rows],
        noise=data.noise[rows],
        status=data.status[rows],
        derived=np.empty((len(rows), 0)),
        derived_names=(),
        seconds=data.seconds[rows],
        step=data.step[rows],
        reasons=tuple(data.reasons[row] for row in rows),
    )
