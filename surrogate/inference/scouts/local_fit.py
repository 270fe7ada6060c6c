"""Scout that fits the outputs of a simulator, one evaluation at a time, before the posterior is mapped."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.local_fits import LocalFits
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.setup import slow_warp
from surrogate.inference.view import View
from surrogate.log_density.composite.comparison import LOWEST
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.log_density.coordinates.warps import INPUT_WARPS

__all__ = ["LocalFit"]


_SEARCH = 10  # evaluations for each slow parameter up to which fits are followed
_TOLD = 3  # evaluations for each slow parameter from which components of the outputs tell whether they leave room
_ROOM = 1.0  # nats for each component by which a free combination of outputs must be better: twice what noise does
_LOG = INPUT_WARPS.index("log")


class LocalFit:
    """Proposes the next point of a local fit, see ``surrogate.inference.local_fits``, alone in its batch.

    Points spread by a surrogate of the whole prior tell little where outputs vary much: slopes about one point are
    known after as many calls as there are parameters, and some steps later the fit has ended. Where a fit ends
    may be a lesser mode. Fits therefore go on while the outputs leave room: while some combination of their leading
    principal components, three for each parameter of the simulator, fits better than the best evaluation does.
    """

    name = "local fit"
    phases = frozenset({Phase.TEMPERED, Phase.LEARN})
    place = Place.ALONE

    def points(self, view: View) -> Array:
        """At most one point; none if polynomials explain the outputs, and later in a run."""
        if not view.learns_outputs or view.model.exact or view.setup.knows_width:
            return view.nowhere
        if int(view.state.data.finite.sum()) >= _SEARCH * view.setup.n_learned:
            return view.nowhere
        model = view.model
        if not isinstance(model, CompositeLogDensity):
            return view.nowhere
        fits = _local_fits(view, model)
        enough = int(fits.finite.sum()) >= _TOLD * view.setup.n_learned
        if enough and fits.room < _ROOM:
            return view.nowhere
        step = fits.next()
        return view.nowhere if step is None else step.t[None]


def _local_fits(view: View, model: CompositeLogDensity) -> LocalFits:
    """The fits to all evaluations."""
    setup, data, known = view.setup, view.state.data, model.output_data
    reduction, comparison = known.complete
    z = np.zeros((len(data), reduction.scores.shape[1]))
    z[known.rows] = reduction.scores
    counts = np.bincount(data.step - data.step.min())[data.step - data.step.min()]
    leads = np.append(True, data.step[1:] != data.step[:-1])
    first = data.step == data.step.min()
    slow, warp = known.source.target.columns, slow_warp(setup, known.source.target)
    bounds = view.window.window(setup.prior.bounds)
    width = np.ones(warp.size)
    logs = np.flatnonzero(warp.kinds == _LOG)
    width[logs] = np.ptp(warp.forward(bounds[slow].T), axis=0)[logs]

    def value(z: Array, t: Array) -> Array:
        height = comparison.value(z, setup.scaled.from_unit(t)) + view.window.log_density(t)
        return np.maximum(np.nan_to_num(height, nan=LOWEST), LOWEST)

    return LocalFits(
        evaluated=view.window.unrolled(view.t),
        z=z,
        finite=known.rows & data.finite,
        first=first,
        steps=~first & (leads if setup.batch_size is not None else counts == 1),
        place=lambda t: np.asarray(warp.forward(t[:, slow]) / width),
        value=value,
        bounds=bounds,
        slow=slow,
    )
