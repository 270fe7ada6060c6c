from dataclasses import replace

import numpy as np
import pytest

from surrogate.gp.trended import Hyperparameters
from surrogate.inference.draws import Draws
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.phases import Phase, Verdict
from surrogate.inference.state import State
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.parameters import Structure, SurrogateParameters
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.storage.arrays import load_arrays, save_arrays

COLUMNS = ("step", "explored", "spread")


def dataset(n=9, d=3):
    rng = np.random.default_rng(0)
    data = Dataset.empty(d)
    for i, x in enumerate(rng.standard_normal((n, d))):
        evaluations = [
            Evaluation(0.1 * i - 1 / 3, "ok", {"omega": i / 7}, 0.01, "", 1.5, "node:1"),
            Evaluation(-np.inf, "infeasible"),
            Evaluation.failure("ValueError: äöü — no convergence"),
        ]
        data = data.append(x[None], [evaluations[i % 3]], i // 2)
    return data


def parameters(d=3, *, scale=1.7, warped=True, coupled=False):
    low, high = np.array([0.0, -np.inf, -1.0][:d]), np.array([1.0, np.inf, np.inf][:d])
    warp = InputWarp(np.array([3, 0, 1][:d] if warped else [0] * d), low, high)
    if coupled:
        pairs = [("bend", 0, 1), ("bend", 1, 2), ("scale", 0, 2)]
        warp = warp.with_couplings(Couplings.none(np.full(d, 1 / 3), np.eye(d) / 7).only(pairs))
    hyper = Hyperparameters(-1 / 3, -7.0, np.linspace(-0.1, 0.7, d), scale)
    whitening = Whitening.of(np.random.default_rng(1).standard_normal((20, d)))
    return SurrogateParameters(hyper, whitening, Structure("matern52", "constant", -4.0, warp), 2.5, 9, -12.25, 3)


def state(**changes):
    data = dataset()
    rng = np.random.default_rng(2)
    values = {
        "seed": 2**40 + 7,
        "step": 5,
        "data": data,
        "predicted": np.where(np.arange(9)[:, None] < 4, np.nan, rng.standard_normal((9, 2))),
        "parameters": parameters(),
        "previous": parameters(scale=None, warped=False),
        "draws": Draws(rng.standard_normal((10, 3)), rng.standard_normal((10, 3))),
        "probes": rng.random((2, 3)),
        "explored": 4,
        "pending": rng.random((3, 3)),
        "verdict": Verdict(Phase.EXPLORE, "looking for further modes — 3 places"),
        "findings": {
            "spread": Finding(np.empty((0, 3)), Claim.TOLERATED, "ring — too wide", {"spread": np.nan}, np.inf, "why"),
            "holes": Finding(rng.random((2, 3))),
        },
        "columns": COLUMNS,
        "trace": rng.standard_normal((3, len(COLUMNS))),
    }
    return State(**values | changes)


STATES = {
    "everything": state(),
    "coupled": state(parameters=parameters(coupled=True)),
    "fresh": State(seed=0, step=0, data=Dataset.empty(2), predicted=np.empty((0, 2))),
    "negative seed": state(seed=-3),
    "without a previous surrogate": state(previous=None, probes=None, pending=None),
    "designing": state(parameters=None, previous=None, draws=None, probes=None),
    "not finite": state(trace=np.full((2, len(COLUMNS)), np.inf), predicted=np.full((9, 2), np.nan)),
    "empty reason": state(verdict=Verdict(Phase.GAVE_UP, "")),
}


@pytest.fixture(params=STATES)
def any_state(request):
    return STATES[request.param]


def check_same(a, b):
    ours, theirs = a.to_arrays(), b.to_arrays()
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype, name
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def test_there_and_back(any_state):
    back = State.from_arrays(any_state.to_arrays())
    check_same(back, any_state)
    assert (back.seed, back.step, back.explored) == (any_state.seed, any_state.step, any_state.explored)
    assert back.verdict == any_state.verdict
    assert back.columns == any_state.columns
    assert list(back.findings) == list(any_state.findings)
    for name, finding in any_state.findings.items():
        got = back.findings[name]
        assert (got.claim, got.reason, got.excess, got.grounds) == (
            finding.claim,
            finding.reason,
            finding.excess,
            finding.grounds,
        )
        np.testing.assert_equal(dict(got.numbers), dict(finding.numbers))
        np.testing.assert_array_equal(got.points, finding.points)
    assert back.data.reasons == any_state.data.reasons
    for name in ("parameters", "previous", "draws", "probes", "pending"):
        assert (getattr(back, name) is None) == (getattr(any_state, name) is None)


def test_through_a_file(any_state, tmp_path):
    save_arrays(tmp_path / "state.npz", any_state.to_arrays())
    check_same(State.from_arrays(load_arrays(tmp_path / "state.npz")), any_state)


def test_arrays_hold_numbers_and_text_only(any_state):
    assert {array.dtype.kind for array in any_state.to_arrays().values()} <= set("biufU")


def test_parameters_come_back_as_they_were():
    before, after = state().parameters, State.from_arrays(state().to_arrays()).parameters
    assert after.structure.same(before.structure)
    np.testing.assert_array_equal(after.structure.warp.low, before.structure.warp.low)
    np.testing.assert_array_equal(after.structure.warp.high, before.structure.warp.high)
    np.testing.assert_array_equal(after.hyper.vector(), before.hyper.vector())
    for name in ("centre", "forward", "backward"):
        np.testing.assert_array_equal(getattr(after.whitening, name), getattr(before.whitening, name))
    assert (after.temperature, after.n, after.score, after.rescues) == (2.5, 9, -12.25, 3)
    assert State.from_arrays(state().to_arrays()).previous.hyper.log_scale is None


def test_the_trace_as_rows():
    rows = state().rows()
    assert len(rows) == 3
    assert tuple(rows[0]) == COLUMNS
    np.testing.assert_array_equal([list(row.values()) for row in rows], state().trace)
    assert STATES["fresh"].rows() == ()


def test_a_state_cannot_be_changed():
    with pytest.raises(AttributeError):
        state().step = 6


FLAGS = {
    (False, False, False): Phase.LEARN,
    (False, False, True): Phase.ARMED,
    (False, True, True): Phase.EXPLORE,
    (True, True, True): Phase.DONE,
    (True, False, False): Phase.GAVE_UP,
}


def with_flags(arrays, flags):
    """The arrays as they were before there were phases and findings: stop, converged and armed."""
    kept = {name: array for name, array in arrays.items() if not name.startswith("findings") and "phase" not in name}
    return kept | {"verdict/flags": np.array(flags)}


@pytest.mark.parametrize("flags", FLAGS)
def test_states_with_flags_in_place_of_a_phase_can_be_read(flags):
    cool = replace(parameters(), temperature=1.0)
    back = State.from_arrays(with_flags(state(parameters=cool).to_arrays(), flags))
    assert back.verdict == Verdict(FLAGS[flags], state().verdict.reason)
    assert back.findings == {}


def test_what_a_state_with_flags_was_searching():
    """At a raised temperature, with its first surrogate, or with a design."""
    learning = (False, False, False)
    cool = replace(parameters(), temperature=1.0)
    for arrays, phase in (
        (state().to_arrays(), Phase.TEMPERED),
        (state(parameters=cool, previous=None).to_arrays(), Phase.TEMPERED),
        (state(parameters=None, previous=None, draws=None).to_arrays(), Phase.DESIGN),
    ):
        assert State.from_arrays(with_flags(arrays, learning)).verdict.phase is phase


def test_former_names_of_columns_can_be_read():
    """In the trace, and among the numbers of findings."""
    numbers = {"infeasible": 0.25}
    now = state(
        columns=("step", "infeasible", "spread"), findings={"infeasible": Finding(np.empty((0, 3)), numbers=numbers)}
    )
    arrays = now.to_arrays()
    arrays["trace_columns"] = np.array(["step", "border", "spread"])
    arrays["findings/infeasible/names"] = np.array(["border"])
    check_same(State.from_arrays(arrays), now)


def test_a_column_that_the_trace_lacks_is_nan():
    np.testing.assert_array_equal(state().column("open_radius"), np.full(3, np.nan))
    np.testing.assert_array_equal(state().column("explored"), state().trace[:, 1])
