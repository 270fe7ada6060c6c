"""Search of the whole prior for modes that the surrogate's trend excludes, by a surrogate with a constant mean."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.mixed.search import on_searched
from surrogate.inference.view import View
from surrogate.log_density.protocol import LogDensity

__all__ = ["candidates", "open_minded"]


_FACE = 0.005  # probability at each end of a parameter that is not searched


def open_minded(view: View) -> LogDensity:
    """A surrogate of the same data with a constant mean, which far from the data excludes nothing, unlike a trend."""
    problem = view.setup.problem(view.state.data, None, view.model.temperature)
    return view.build(view.setup.learner.open_minded(problem))


def candidates(view: View, n: int, model: LogDensity) -> Array:
    """Up to n points of the prior, in scaled coordinates, away from its faces and predicted feasible by a surrogate."""
    u = _FACE + (1.0 - 2.0 * _FACE) * view.rng("candidates", n).random((n, view.d))
    t = on_searched(view, view.setup.scaled.to_unit(view.setup.prior.quantile(u)))
    return t[view.feasible(t, model)]
