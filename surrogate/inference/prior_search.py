"""Search of the whole prior for modes that the trend of the surrogate denies, with a constant mean in its place."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.view import View
from surrogate.log_density.protocol import LogDensity

__all__ = ["candidates", "open_minded"]


_FACE = 0.005  # probability at each end of a parameter where nothing is looked for


def open_minded(view: View) -> LogDensity:
    """A surrogate that falls back to a constant far from the same data: unlike a trend it denies nothing."""
    problem = view.setup.problem(view.state.data, None, view.model.temperature)
    return view.build(view.setup.learner.open_minded(problem))


def candidates(view: View, n: int, model: LogDensity) -> Array:
    """Up to n points of the prior, in scaled coordinates, off its faces and probably feasible for a surrogate."""
    u = _FACE + (1.0 - 2.0 * _FACE) * view.rng("candidates", n).random((n, view.d))
    t = view.setup.scaled.to_unit(view.setup.prior.quantile(u))
    return t[view.feasible(t, model)]
