"""Symmetries of a posterior: exchanges of parameters that leave it unchanged, as those of two lines of a spectrum."""

from __future__ import annotations

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.inference.view import View
from surrogate.problem.exchanges import of_prior

__all__ = ["is_contradicted", "separates", "symmetries", "words_of_symmetries"]


_DRAWS = 300  # draws of the posterior that are compared with their images
_MOST = 100  # exchanges that are tried, of which there are many with many parameters of the same prior
_FLOOR = 0.1  # nats added to the errors in quadrature: smaller differences do not matter
_PULL = 2.0  # difference in units of its error up to which values count as equal,
_MOSTLY = 0.9  # at this share of the draws
_UNKNOWN = 1.0  # median error in nats above which the surrogate does not know the values at the images
_NEAR = 0.5  # differences of two parameters, relative to their rms, below which they are nearly equal: 38 % of draws
_SEPARATE = 0.2  # of a normal; at a smaller share of the draws each order of the two has a mode of its own
_NAMED = 3  # exchanges that are named in a sentence


def symmetries(view: View) -> Indices:
    """Permutations of the parameters that map modes of the posterior to equal ones, with shape (k, d).

    Those of `exchanges` are tried, which exchange parameters with the same prior. One counts if the values of the
    surrogate at draws of the posterior and at their images agree within their errors, these are small, and no point
    that was evaluated together with its image contradicts it. Exchanges that map a mode to itself do not count, because
    there an order would only cut the mode.
    """
    prior = view.setup.prior
    none = np.empty((0, view.d), dtype=np.int64)
    sample = view.sample
    if prior.levels is not None or not len(sample.x):
        return none
    t = sample.x[view.rng("symmetries").choice(len(sample.x), _DRAWS, p=sample.weights)]
    mean, sd = view.model.predict(t)
    tried = [p for p in of_prior(prior)[:_MOST] if separates(t, p)]
    kept = [p for p in tried if _is_unchanged(view, t[:, p], mean, sd) and not is_contradicted(view, p)]
    return np.unique(kept, axis=0) if kept else none


def _is_unchanged(view: View, images: Array, mean: Array, sd: Array) -> bool:
    """Whether the surrogate has the values ``mean``, with errors ``sd``, at the images of the draws, too."""
    value, error = view.model.predict(view.window.unrolled(images))
    error = np.sqrt(view.inflation * (sd**2 + error**2) + _FLOOR**2)
    return bool(np.median(error) < _UNKNOWN and np.quantile(np.abs(value - mean) / error, _MOSTLY) < _PULL)


def separates(t: Array, permutation: Indices) -> bool:
    """Whether the draws t, with shape (n, d), have separate modes in which two exchanged parameters differ in order."""
    difference = np.abs(t - t[:, permutation])[:, permutation > np.arange(len(permutation))]
    return bool((np.mean(difference <= _NEAR * np.sqrt(np.mean(difference**2, axis=0)), axis=0) < _SEPARATE).any())


def is_contradicted(view: View, permutation: Indices) -> bool:
    """Whether an evaluated point and its image, evaluated too, have different values."""
    data = view.state.data
    x, y, noise = data.x[data.finite], data.y[data.finite], view.noise[data.finite]
    place = {row.tobytes(): index for index, row in enumerate(x)}
    images = [place.get(row.tobytes(), index) for index, row in enumerate(np.ascontiguousarray(x[:, permutation]))]
    return bool((np.abs(y - y[images]) > _PULL * np.hypot(noise, noise[images]) + _FLOOR).any())


def words_of_symmetries(names: tuple[str, ...], permutations: Indices) -> str:
    """A clause that names the exchanges; empty if there are none.

    >>> words_of_symmetries(("a", "b", "u", "v"), np.array([[1, 0, 3, 2]]))
    'the posterior is unchanged if a and b, u and v are exchanged (above= puts such parameters in order)'
    """
    if not len(permutations):
        return ""
    moves = [", ".join(f"{names[i]} and {names[j]}" for i, j in enumerate(row) if i < j) for row in permutations]
    more = f", or by {len(moves) - _NAMED} other exchanges" if len(moves) > _NAMED else ""
    listed = ", or ".join(moves[:_NAMED])
    return f"the posterior is unchanged if {listed} are exchanged{more} (above= puts such parameters in order)"
