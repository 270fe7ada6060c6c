"""Laws of init, ask and tell, over every state of short runs with impossible and failing points."""

import re
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import stats

from surrogate.inference.ablation import without
from surrogate.inference.checks import CHECKS, SEARCH
from surrogate.inference.design import Reference
from surrogate.inference.findings import Finding
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.phases import Phase
from surrogate.inference.reliability import self_check, surrogate_error
from surrogate.inference.scouts.emptiest import Emptiest
from surrogate.inference.setup import Setup
from surrogate.inference.state import State
from surrogate.inference.trace import columns_of
from surrogate.log_density.model import ScalarLogDensity
from surrogate.log_density.search.structure import StructureSearch
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior
from surrogate.storage.arrays import load_arrays, save_arrays

BOX = {"a": (-4.0, 4.0), "b": (-3.0, 3.0)}
SIMPLE = StructureSearch(structures=False)
LOOPS = {
    "box": PosteriorLoop(Setup(Prior.of(BOX), particles=200)),
    "unbounded": PosteriorLoop(
        Setup(Prior.of({"a": stats.norm(0, 2), "b": stats.gamma(3)}), particles=200, search=SIMPLE)
    ),
    "one parameter": PosteriorLoop(Setup(Prior.of({"a": (-4.0, 4.0)}), particles=200)),
    "decades": PosteriorLoop(
        Setup(Prior.of({"a": stats.loguniform(1e-3, 10.0), "b": (-4.0, 4.0)}), particles=200, search=SIMPLE)
    ),
    "reference": PosteriorLoop(
        Setup(
            Prior.of(BOX), reference=Reference(np.zeros(2), 0.3 * np.eye(2)), batch_size=3, particles=200, search=SIMPLE
        )
    ),
}
STEPS = 3


def log_likelihood(x):
    return -0.5 * float(x[0] ** 2 / 0.6 + (x[-1] - 0.2 * x[0] ** 2) ** 2 / 0.3)


def evaluate(points):
    """Every seventh is impossible, every ninth fails, by a hash of the point."""
    out = []
    for x in points:
        number = int(abs(x[0]) * 1e6)
        if number % 7 == 0:
            out.append(Evaluation(-np.inf, "infeasible"))
        elif number % 9 == 0:
            out.append(Evaluation.failure("RuntimeError: no convergence"))
        else:
            out.append(Evaluation(log_likelihood(x), "ok", {"radius": float(x[0] ** 2)}))
    return out


def run(loop, state, steps):
    states = [state]
    for _ in range(steps):
        x = loop.ask(states[-1])
        states.append(loop.tell(states[-1], x, evaluate(x)))
    return states


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name != "box")) for name in LOOPS],
)
def history(request):
    """A loop, and its states one after the other."""
    loop = LOOPS[request.param]
    return loop, run(loop, loop.init(7), STEPS)


def check_same(a, b, *, leave_out=()):
    ours, theirs = a.to_arrays(), b.to_arrays()
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - set(leave_out):
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_the_runs_reach_the_surrogate(history):
    states = history[1]
    assert states[0].parameters is None
    assert states[-1].parameters is not None
    assert states[-1].step == STEPS


def test_asking_twice_gives_the_same_bits(history):
    loop, states = history
    for state in states:
        np.testing.assert_array_equal(loop.ask(state), loop.ask(state))


def test_asking_a_saved_state_gives_the_same_bits(history, tmp_path):
    loop, states = history
    for state in states:
        np.testing.assert_array_equal(loop.ask(State.from_arrays(state.to_arrays())), loop.ask(state))
        save_arrays(tmp_path / "state.npz", state.to_arrays())
        np.testing.assert_array_equal(loop.ask(State.from_arrays(load_arrays(tmp_path / "state.npz"))), loop.ask(state))


def test_telling_a_saved_state_gives_the_same_bits(history):
    loop, states = history
    for before, after in (states[:2], states[-2:]):
        x = loop.ask(before)
        check_same(loop.tell(State.from_arrays(before.to_arrays()), x, evaluate(x)), after)


def test_another_loop_object_is_the_same_loop(history):
    """Nothing is remembered outside of the state."""
    loop, states = history
    other = replace(loop, setup=replace(loop.setup, prior=Prior(loop.prior.parameters)))
    np.testing.assert_array_equal(other.ask(states[-1]), loop.ask(states[-1]))


def test_asking_and_telling_change_nothing(history):
    loop, states = history
    for state in (states[0], states[-2]):
        before = {name: array.copy() for name, array in state.to_arrays().items()}
        x = loop.ask(state)
        points, evaluations = x.copy(), evaluate(x)
        loop.tell(state, x, evaluations)
        np.testing.assert_array_equal(x, points)
        assert str(evaluations) == str(evaluate(points))
        for name, array in state.to_arrays().items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_a_batch_may_be_scribbled_on(history):
    """What is asked for shares no memory with the state."""
    loop, states = history
    for state in (states[0], states[-1]):
        expected = loop.ask(state)
        loop.ask(state)[:] = np.nan
        np.testing.assert_array_equal(loop.ask(state), expected)


def test_how_long_and_where_points_were_evaluated_does_not_matter(history):
    loop, states = history
    state = states[-2]
    x = loop.ask(state)
    slow = [replace(e, seconds=123.0, worker="elsewhere:7") for e in evaluate(x)]
    after = loop.tell(state, x, slow)
    check_same(after, states[-1], leave_out=["data/seconds"])
    np.testing.assert_array_equal(loop.ask(after), loop.ask(states[-1]))


def test_global_generators_do_not_matter(history):
    loop, states = history
    for seed in (1, 2):
        np.random.seed(seed)
        torch.manual_seed(seed)
        x = loop.ask(states[-2])
        check_same(loop.tell(states[-2], x, evaluate(x)), states[-1])


def test_points_are_inside_of_the_prior_and_new(history):
    loop, states = history
    data = states[-1].data
    assert np.isfinite(loop.prior.log_density(data.x)).all()
    assert len(np.unique(data.x, axis=0)) == len(data)


def test_told_rows_are_kept_in_order(history):
    _, states = history
    for number, (before, after) in enumerate(zip(states[:-1], states[1:], strict=True)):
        n = len(before.data)
        assert after.step == number + 1
        np.testing.assert_array_equal(after.data.x[:n], before.data.x)
        np.testing.assert_array_equal(after.data.step[n:], number)
        assert len(after.predicted) == len(after.data)


def test_predictions_are_those_made_beforehand(history):
    loop, states = history
    before, after = states[-2], states[-1]
    n = len(before.data)
    predicted = loop.model(before).predict(loop.scaled.to_unit(after.data.x[n:]))
    np.testing.assert_array_equal(after.predicted[n:], np.stack(predicted, 1))


def test_the_model_is_rebuilt_exactly(history):
    loop, states = history
    t = loop.scaled.sample(50, np.random.default_rng(0))
    models = [loop.model(state) for state in (states[-1], State.from_arrays(states[-1].to_arrays()))]
    np.testing.assert_array_equal(models[0].relative(t), models[1].relative(t))
    np.testing.assert_array_equal(models[0].predict(t), models[1].predict(t))


def test_seeds_differ(history):
    loop, states = history
    assert not np.array_equal(loop.ask(loop.init(8)), loop.ask(states[0]))


def test_the_trace_has_a_row_per_surrogate(history):
    _, states = history
    with_surrogate = sum(state.parameters is not None for state in states)
    rows = states[-1].rows()
    assert len(rows) == with_surrogate
    assert rows[-1]["n_evaluations"] == len(states[-1].data)
    assert rows[-1]["best"] == states[-1].data.y_max


def test_batches_have_the_size_that_was_asked_for():
    loop = without(PosteriorLoop(Setup(Prior.of(BOX), particles=200, batch_size=5)), "explore")
    states = run(loop, loop.init(1), 3)
    steps = [int((states[-1].data.step == s).sum()) for s in range(3) if states[s].parameters is not None]
    assert steps
    assert set(steps) == {5}


# Given evaluations


def test_a_run_that_is_given_enough_starts_with_a_surrogate(rng):
    loop = LOOPS["box"]
    x = loop.prior.sample(12, rng)
    initial = loop.init(0).data.append(x, [Evaluation(log_likelihood(p), "ok") for p in x], -1)
    state = loop.init(0, initial)
    assert state.parameters is not None
    assert state.step == 0
    np.testing.assert_array_equal(loop.ask(State.from_arrays(state.to_arrays())), loop.ask(state))


def test_a_run_that_is_given_too_few_designs_first(rng):
    loop = LOOPS["box"]
    x = loop.prior.sample(2, rng)
    initial = loop.init(0).data.append(x, [Evaluation(log_likelihood(p), "ok") for p in x], -1)
    assert loop.init(0, initial).parameters is None


# The design


@pytest.mark.parametrize(
    ("evaluation", "counts"),
    [
        (Evaluation(-np.inf, "infeasible"), r"\(0 failed, \d+ were -inf\)"),
        (Evaluation.failure("OSError: disk full"), r"\(\d+ failed, 0 were -inf\).*: OSError: disk full"),
    ],
)
def test_a_run_without_finite_values_gives_up(evaluation, counts):
    """With counts, a remedy, and the first reasons."""
    loop = LOOPS["box"]
    state = loop.init(0)
    for _ in range(1000):
        x = loop.ask(state)
        state = loop.tell(state, x, [evaluation] * len(x))
        if state.verdict.stop:
            break
    assert state.verdict.stop
    assert not state.verdict.converged
    text = rf"gave up: 0 finite values in {len(state.data)} evaluations.* Narrow the prior.* reference="
    pytest.raises(ValueError, loop.model, state)
    assert re.search(text, state.verdict.reason)
    assert re.search(counts, state.verdict.reason)


def test_the_design_goes_on_until_enough_are_finite():
    """Half of the later points lie about the one that is."""
    loop = LOOPS["box"]
    state = loop.init(3)
    x = loop.ask(state)
    state = loop.tell(
        state, x, [Evaluation(-1.0 if i == 2 else -np.inf, "ok" if i == 2 else "infeasible") for i in range(len(x))]
    )
    assert state.parameters is None
    assert "1 of 4 finite values" in state.verdict.reason
    more = loop.ask(state)
    assert np.abs(more - x[2]).max(1).min() < np.abs(x[np.arange(len(x)) != 2] - x[2]).max(1).min()


class Nagging:
    """A check that always requests the first evaluated point."""

    name = "nagging"
    phases = SEARCH
    columns: ClassVar = {}

    def look(self, view):
        return Finding(view.t[:1])


def test_requests_of_points_that_are_known_keep_no_run_waiting():
    loop = PosteriorLoop(Setup(Prior.of(BOX), particles=200, search=SIMPLE), checks=(*CHECKS, Nagging()))
    state = loop.init(1)
    for _ in range(20):
        if state.verdict.stop:
            break
        x = loop.ask(state)
        assert not {p.tobytes() for p in x} & {p.tobytes() for p in state.data.x}
        state = loop.tell(state, x, [Evaluation(-0.5 * float((p**2).sum()), "ok") for p in x])
    assert state.verdict.phase is Phase.DONE


def test_there_is_no_surrogate_to_ask_for_at_first():
    loop = LOOPS["box"]
    with pytest.raises(ValueError, match="no surrogate yet: too few evaluations with a finite value"):
        loop.model(loop.init(0))
    with pytest.raises(ValueError, match="no draws yet"):
        loop.view(loop.init(0)).draws  # noqa: B018


# Scaled coordinates


@pytest.mark.parametrize("name", LOOPS)
def test_scaled_coordinates(name, rng):
    loop = LOOPS[name]
    x = loop.prior.sample(100, rng)
    t = loop.scaled.to_unit(x)
    np.testing.assert_allclose(loop.scaled.from_unit(t), x, rtol=1e-12, atol=1e-12)
    jacobian = loop.scaled.log_volume(t)
    np.testing.assert_allclose(np.log(loop.scaled.slopes(t)).sum(1), jacobian, rtol=1e-12)
    np.testing.assert_allclose(loop.scaled.log_density(t), loop.prior.log_density(x) + jacobian, rtol=1e-12)
    if loop.prior.is_box:
        np.testing.assert_allclose(loop.scaled.to_unit(loop.prior.bounds.T), [[0.0] * loop.d, [1.0] * loop.d])
        np.testing.assert_allclose(loop.scaled.log_density(t), 0.0, atol=1e-12)


def test_the_trace_knows_the_output_scale(history):
    rows = history[1][-1].rows()
    assert np.isfinite(rows[-1]["output_scale"])


def half_forbidden(points):
    """A normal of which the half x > 0.5 is forbidden."""
    feasible = points[:, 0] <= 0.5
    return [
        Evaluation(log_likelihood(x), "ok") if ok else Evaluation(-np.inf, "infeasible")
        for x, ok in zip(points, feasible, strict=True)
    ]


@pytest.fixture(scope="module")
def armed():
    """A loop on the half-forbidden normal, its first bounded state, the one before a claim, and the batch then."""
    loop = PosteriorLoop(Setup(Prior.of(BOX), particles=200, search=SIMPLE))
    state, bounded = loop.init(3), None
    for _ in range(40):
        x = loop.ask(state)
        if state.verdict.armed and not state.verdict.converged:
            break
        state = loop.tell(state, x, half_forbidden(x))
        if bounded is None and state.parameters is not None and not state.data.finite.all():
            bounded = state
    assert state.verdict.armed
    return loop, bounded, state, x if state.probes is None else x[: len(x) - len(state.probes)]


def test_before_a_claim_a_point_that_feasibility_denies_is_asked_for(armed):
    loop, _, state, plain = armed
    model = loop.model(state)
    assert model.feasibility.probability(model.whiten(loop.scaled.to_unit(plain[-1:])))[0] < 0.5


def test_a_scout_that_is_left_out_asks_for_nothing(armed):
    """The point that the surrogate denies is the last of the batch before probes."""
    loop, _, state, plain = armed
    np.testing.assert_array_equal(without(loop, "denied").ask(state)[: len(plain) - 1], plain[:-1])


def test_a_check_that_is_left_out_has_no_columns(armed):
    loop, gated, _, _ = armed
    x = loop.ask(gated)
    rest = without(loop, "infeasible")
    state = rest.tell(replace(gated, trace=np.empty((0, 0)), columns=()), x, half_forbidden(x))
    assert state.columns == tuple(name for name in columns_of(CHECKS) if name != "infeasible")
    state = rest.tell(gated, x, half_forbidden(x))
    assert np.isnan(state.column("infeasible")[-1])
    assert np.isfinite(state.column("infeasible")[:-1]).all()


def test_before_a_claim_the_emptiest_part_of_the_warm_posterior_is_asked_for(armed):
    """Unless the trend explains the data: then no process can misjudge anything."""
    loop, gated, state, _ = armed
    view = loop.view(gated)
    emptiest, model = Emptiest().points(view), view.model
    known = model.whiten(view.t)
    emptiness = lambda t: ((model.whiten(t)[:, None] - known) ** 2).sum(-1).min(1)  # noqa: E731
    if model.exact:
        assert len(emptiest) == 0
    else:
        assert emptiness(emptiest)[0] == pytest.approx(emptiness(gated.draws.warm).max())
    exact = loop.view(state)
    assert len(Emptiest().points(exact)) == (0 if exact.model.exact else 1)


def test_borders_that_forbid_all_draws_are_told(armed, monkeypatch):
    """As after few evaluations, most of them infeasible."""
    loop, gated, _, _ = armed
    view = loop.view(gated)
    sample = view.importance_sample(2000)
    monkeypatch.setattr(
        ScalarLogDensity, "deviations", lambda _, t, count, *__, **___: np.full((count, len(t)), -np.inf)
    )
    assert self_check(view, sample)["k_hat"] == np.inf
    assert np.isfinite(surrogate_error(view, sample)[2])
