"""Parameters on which outputs do not depend are found, and left out where that makes the outputs more probable."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.gp.process import Data
from surrogate.log_density.composite.fit import fit_components
from surrogate.log_density.composite.parameters import CompositeParameters
from surrogate.log_density.composite.relevance import parameters_that_matter
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.trust_region import TrustRegion

N, D = 20, 5
NARROW = np.array([1.0, 0.5, 0.02, 0.02, 0.02])  # widths of the evaluations, relative to those of the posterior


def components(x):
    """Two functions of the first two parameters."""
    return np.column_stack([x[:, 0] + 0.2 * x[:, 0] * x[:, 1], np.exp(0.3 * x[:, 1])])


def selected(scores, x, width=1.0):
    """The mask, and the masks that were tried, for a posterior with a given width."""
    tried, draws = [], width * np.random.default_rng(0).standard_normal((400, D))

    def fit(mask):
        tried.append(mask)
        return fit_components(Data.of(x[:, mask], scores), (), cold_start=True)

    mask, found = parameters_that_matter(x, scores, draws, fit)
    assert np.isfinite(found.score)
    return mask, tried


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_parameters_without_influence_are_left_out(seed):
    x = NARROW * np.random.default_rng(seed).standard_normal((N, D))
    mask, tried = selected(components(x), x)
    assert mask.tolist() == [True, True, False, False, False]
    assert len(tried) == 2  # all of them at once


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_weak_influence_counts(seed):
    x = NARROW * np.random.default_rng(seed).standard_normal((N, D))
    mask, _ = selected(components(x) + 0.5 * x[:, [3]], x)
    assert mask.tolist() == [True, True, False, True, False]


def test_no_time_is_spent_where_all_parameters_have_clear_slopes():
    x = np.random.default_rng(4).standard_normal((N, D))
    scores = x @ np.random.default_rng(5).standard_normal((D, 3)) + 0.01 * x[:, [0]] ** 2
    mask, tried = selected(scores, x, width=5.0)
    assert mask.all()
    assert len(tried) == 1


def test_no_parameter_is_tried_along_which_the_evaluations_are_as_wide_as_the_posterior():
    x = NARROW * np.random.default_rng(1).standard_normal((N, D))
    mask, tried = selected(components(x), x, width=0.02)
    assert mask.all()
    assert len(tried) == 1


def test_few_evaluations_tell_nothing():
    x = NARROW * np.random.default_rng(6).standard_normal((2 * D, D))
    mask, tried = selected(components(x), x)
    assert mask.all()
    assert len(tried) == 1


def test_parts_are_whitened_apart():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 4)) + 3.0
    together = np.array([True, False, True, False])
    whitening = Whitening.of_parts(x, together)
    u = whitening.whiten(x)
    np.testing.assert_allclose(whitening.unwhiten(u), x, atol=1e-10)
    np.testing.assert_allclose(np.cov(u[:, together].T), np.eye(2), atol=1e-10)
    np.testing.assert_allclose(u.std(0, ddof=1), 1.0)
    assert not whitening.forward[np.ix_(together, ~together)].any()
    assert not whitening.forward[np.ix_(~together, together)].any()
    assert whitening.forward[1, 3] == whitening.forward[3, 1] == 0.0


def test_the_box_reaches_farther_where_nothing_depends_on_a_coordinate():
    u = np.array([[0.0, 0.0], [1.0, 1.0]])
    plain, flat = TrustRegion.around(u), TrustRegion.around(u, flat=np.array([False, True]))
    assert flat.high[0] == plain.high[0]
    assert flat.high[1] > plain.high[1] + 1.0
    assert flat.low[1] < plain.low[1] - 1.0


@pytest.mark.parametrize("active", [None, np.array([True, False, True])])
def test_parameters_survive_their_record(active):
    warp, count = InputWarp.identity(np.zeros(3), np.ones(3)), 3 if active is None else 2
    u = np.random.default_rng(8).standard_normal((12, count))
    found = fit_components(Data.of(u, np.sin(u)), (), cold_start=True)
    known = CompositeParameters(found.groups, Whitening.identity(3), warp, 1.0, 12, count, active=active)
    again = CompositeParameters.from_arrays(known.to_arrays())
    assert again.columns.tolist() == known.columns.tolist()
    assert again.flat.tolist() == known.flat.tolist()
    assert [g.hyper.vector().tolist() for g in again.groups] == [g.hyper.vector().tolist() for g in known.groups]
    older = {name: array for name, array in known.to_arrays().items() if name != "active"}
    assert active is not None or CompositeParameters.from_arrays(older).columns.tolist() == [0, 1, 2]
