"""Laws of all checks, in each phase of a run, and what each looks for on views of it."""

from dataclasses import replace

import numpy as np
import pytest

from surrogate.inference.checks import CHECKS, SEARCH, SIGNALS, Check
from surrogate.inference.checks.effective_size import EffectiveSize
from surrogate.inference.checks.exchanges import Exchanges
from surrogate.inference.checks.hidden import Hidden, hypotheses_of, predicted_depth
from surrogate.inference.checks.holes import Holes
from surrogate.inference.checks.labels import Labels
from surrogate.inference.checks.overlooked import Overlooked
from surrogate.inference.coverage import farthest
from surrogate.inference.design import Reference
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.labels import points_near
from surrogate.inference.phases import Phase
from surrogate.inference.view import View
from surrogate.problem.exchanges import equal_priors
from surrogate.problem.prior import Parameter, Prior


@pytest.fixture(params=CHECKS, ids=lambda check: check.name)
def check(request):
    return request.param


@pytest.fixture(scope="module")
def fresh(armed):
    """An armed view in the first round of the search."""
    view = View(armed.setup, armed.state, armed.before)
    assert view.model is not None
    return view.replace(state=replace(armed.state, explored=0))


def test_it_is_a_check(check):
    assert isinstance(check, Check)
    assert check.phases in (SIGNALS, SEARCH)
    assert [other.name for other in CHECKS].count(check.name) == 1


def test_a_check_finds_the_same_again(check, views):
    for phase, view in views.items():
        if phase in (Phase.DESIGN, Phase.TEMPERED) or view.before is None:
            continue
        one, two = check.look(view), check.look(view)
        assert one.points.shape[1:] == (2,)
        assert np.isfinite(view.setup.scaled.log_density(one.points)).all()
        assert set(check.columns) <= set(one.numbers)
        assert bool(one.reason) == (one.claim is not Claim.STANDS) or check.name == "moved"
        np.testing.assert_array_equal(two.points, one.points)
        np.testing.assert_equal(dict(two.numbers), dict(one.numbers))


def test_too_few_draws_refute_everything_that_needs_them(armed):
    few = replace(armed.sample, ess=10.0)
    view = View(armed.setup, armed.state, armed.before)
    vars(view)["sample"] = few
    for each in CHECKS:
        if each.phases == SIGNALS and each.name != "evidence":
            found = each.look(view)
            assert found.claim is Claim.REFUTED
            assert dict(found.numbers) == dict(each.columns) or each.name == EffectiveSize.name


@pytest.mark.parametrize("name", ["labels", "exchanges", "holes", "modes"])
def test_where_the_width_is_known_no_modes_are_looked_for(name, fresh):
    known = replace(fresh.setup, reference=Reference(np.zeros(2), np.eye(2)))
    found = next(each for each in CHECKS if each.name == name).look(fresh.replace(setup=known))
    assert found.points.shape == (0, 2)


def test_holes_fill_what_design_and_exchanges_leave_open(fresh):
    view = fresh.replace(setup=replace(fresh.setup, n_holes=5))
    assert len(Holes().look(view).points) == 5
    images = Finding(view.exploration.inner[:2])
    assert len(Holes().look(view.replace(findings={Exchanges.name: images})).points) == 3
    assert len(Holes().look(view.replace(state=replace(view.state, explored=1))).points) == 0


def test_holes_are_where_most_hypotheses_of_a_further_mode_are_open(fresh):
    """Fewer stay open than with as many points as far from all evaluations as can be."""
    view = fresh.replace(setup=replace(fresh.setup, n_holes=4))
    hypotheses, depth = hypotheses_of(view)[0], predicted_depth(view)
    far = view.exploration.inner[farthest(view.t, view.exploration.inner, 4)]
    points = Holes().look(view).points
    left, of_far = (hypotheses.exclude(t, depth(t)).share_open for t in (points, far))
    assert left <= of_far


def test_points_of_other_checks_count_for_hidden_modes(fresh):
    """What they will exclude needs no further points."""
    view = fresh.replace(setup=replace(fresh.setup, explore="thorough"))
    alone = Hidden().look(view)
    after = Hidden().look(view.replace(findings={"holes": Finding(view.setup.scaled.sample(2000, view.rng("all")))}))
    assert after.numbers == alone.numbers
    assert len(alone.points) > 0
    assert len(after.points) == 0


def test_labels_make_up_the_number_of_points_of_the_bulk(fresh):
    every = np.ones(len(fresh.state.data), dtype=bool)
    missing = max(0, 8 - points_near(fresh, fresh.draws.warm, every)) if not fresh.model.feasibility.everywhere else 0
    assert len(Labels().look(fresh).points) == missing


def test_exchanges_swap_the_parameters_of_the_best_point(fresh):
    best = fresh.state.data.x[fresh.state.data.finite][fresh.state.data.y[fresh.state.data.finite].argmax()]
    for point in Exchanges().look(fresh).points:
        np.testing.assert_allclose(fresh.setup.scaled.from_unit(point[None])[0], best[::-1])


def test_priors_that_are_equal():
    parts = (("a", (0.0, 1.0)), ("b", (0.0, 2.0)), ("c", (0.0, 1.0)))
    groups = equal_priors(Prior(tuple(Parameter(*part) for part in parts)))
    assert sorted(map(list, groups)) == [[0, 2], [1]]


def test_overlooked_peaks_wait(fresh, monkeypatch):
    """A rise far above all draws, off the faces."""
    rise = lambda _, t, model=None: 1e3 - 1e4 * ((t - 0.9) ** 2).sum(1)  # noqa: E731
    assert Overlooked().look(fresh).claim in (Claim.STANDS, Claim.WAITS)
    assert np.isfinite(fresh.sample.ess)
    monkeypatch.setattr(View, "log_posterior", rise)
    found = Overlooked().look(fresh)
    assert found.claim is Claim.WAITS
    np.testing.assert_allclose(found.points[0], 0.9, atol=0.01)
