"""A run that is interrupted at any moment and started again is the run that was not interrupted, bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

import surrogate
from surrogate.inference.driving import saved
from surrogate.storage.arrays import load_arrays, save_arrays
from tests import processes
from tests.inference import killed_run

PRIOR = {"a": (-4.0, 4.0), "b": (-3.0, 3.0)}
OPTIONS = {"seed": 3, "max_evaluations": 11, "n_samples": 300, "progress": False}


class Killed(BaseException):
    """The end of a process, as far as one process can play it: nothing catches it."""


def log_likelihood(x):
    """Curved, impossible in a corner and failing in a strip; with a derived value."""
    if x[0] + x[1] > 2.5:
        return -np.inf
    if 1.9 < x[1] < 2.4:
        message = "no convergence"
        raise RuntimeError(message)
    y = -0.5 * float(x[0] ** 2 / 0.6 + (x[1] - 0.2 * x[0] ** 2) ** 2 / 0.3)
    return y, {"radius": float(np.hypot(*x))}


class Likelihood:
    """The same, with a record of its calls, that dies instead of answering call number ``last``."""

    def __init__(self, last=None):
        self.calls = []
        self.last = last

    def __call__(self, x):
        if len(self.calls) == self.last:
            raise Killed
        self.calls.append(x.tobytes())
        return log_likelihood(x)


def infer(folder, likelihood=None, **changes):
    return surrogate.infer(likelihood or Likelihood(), PRIOR, output=folder, **OPTIONS | changes)


def interrupted(folder, last, **changes):
    """A run that dies at a call; what it had called."""
    likelihood = Likelihood(last)
    with pytest.raises(Killed):
        infer(folder, likelihood, **changes)
    return likelihood.calls


def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return tmp_path


def journal(folder):
    lines = [json.loads(line) for line in (Path(folder) / "evaluations.jsonl").read_text().splitlines()]
    return sorted((e["step"], e["index"], e["x"], e["y"], e["status"], sorted(e["derived"].items())) for e in lines)


def state(folder):
    """The saved state, without the times and places in which a run was made."""
    return {k: v for k, v in load_arrays(Path(folder) / "state.npz").items() if k not in {"data/seconds", "origin"}}


def check_same(result, folder, uninterrupted):
    other, other_folder = uninterrupted
    assert journal(folder) == journal(other_folder)
    np.testing.assert_array_equal(result.samples, other.samples)
    np.testing.assert_array_equal(result.log_posterior, other.log_posterior)
    assert (result.log_evidence, result.status) == (other.log_evidence, other.status)
    assert result.n_evaluations == other.n_evaluations
    ours, theirs = state(folder), state(other_folder)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return infer(folder), folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that died at its tenth call, and what it had called."""
    folder = tmp_path_factory.mktemp("begun")
    return folder, interrupted(folder, 9)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("parameters/warp/kinds", lambda a: np.full(a.shape, "word"), "warp/kinds must be numbers, got <U4"),
        ("parameters/warp/support", lambda a: np.full(a.shape, "word"), "warp/support must be numbers"),
        ("trace", lambda a: np.full(a.shape, 1e300), r"1e\+300 as the probability of a further mode"),
    ],
)
def test_absurd_numbers_in_a_state_are_refused(uninterrupted, tmp_path, name, change, message):
    folder = copied(uninterrupted[1], tmp_path)
    arrays = load_arrays(folder / "state.npz")
    save_arrays(folder / "state.npz", arrays | {name: change(arrays[name])})
    with pytest.raises(ValueError, match=message):
        surrogate.load_result(folder, n_samples=20)


def test_the_run_meets_everything(uninterrupted):
    """Finite, impossible and failed points; batches of the design and of the surrogate."""
    data = uninterrupted[0].data
    assert set(data.status.tolist()) == {0, 1, 2}
    assert data.step.max() >= 3
    assert data.derived_names == ("radius",)


@pytest.mark.slow
@pytest.mark.parametrize("last", [0, 3, 7, 10])
def test_interrupted_at_a_call(last, uninterrupted, tmp_path):
    before = interrupted(tmp_path, last)
    likelihood = Likelihood()
    result = infer(tmp_path, likelihood)
    check_same(result, tmp_path, uninterrupted)
    assert len(before) + len(likelihood.calls) == result.n_evaluations
    assert not set(before) & set(likelihood.calls)


def test_interrupted_at_every_call(uninterrupted, tmp_path):
    calls = []
    for _ in range(uninterrupted[0].n_evaluations - 1):
        calls += interrupted(tmp_path, 1)
    likelihood = Likelihood()
    result = infer(tmp_path, likelihood)
    calls += likelihood.calls
    assert len(calls) == len(set(calls)) == result.n_evaluations
    check_same(result, tmp_path, uninterrupted)


@pytest.mark.parametrize("number", [pytest.param(n, marks=pytest.mark.slow) for n in (0, 3)])
def test_interrupted_as_the_state_is_written(number, uninterrupted, tmp_path, monkeypatch):
    original, written = saved.save_arrays, []

    def dying(path, arrays):
        if len(written) == number:
            raise Killed
        written.append(path)
        original(path, arrays)

    monkeypatch.setattr(saved, "save_arrays", dying)
    first = Likelihood()
    with pytest.raises(Killed):
        infer(tmp_path, first)
    monkeypatch.undo()
    second = Likelihood()
    check_same(infer(tmp_path, second), tmp_path, uninterrupted)
    assert not set(first.calls) & set(second.calls)


def test_a_journal_without_a_state(uninterrupted, begun, tmp_path):
    before = begun[1]
    copied(begun[0], tmp_path)
    (tmp_path / "state.npz").unlink()
    likelihood = Likelihood()
    check_same(infer(tmp_path, likelihood), tmp_path, uninterrupted)
    assert not set(before) & set(likelihood.calls)


@pytest.mark.slow
def test_an_evaluation_half_written(uninterrupted, begun, tmp_path):
    """It is cut off and evaluated again."""
    before = begun[1]
    copied(begun[0], tmp_path)
    path = tmp_path / "evaluations.jsonl"
    path.write_bytes(path.read_bytes()[:-25])
    likelihood = Likelihood()
    check_same(infer(tmp_path, likelihood), tmp_path, uninterrupted)
    assert set(before) & set(likelihood.calls) == {before[-1]}


@pytest.mark.parametrize("budget", [7, pytest.param(11, marks=pytest.mark.slow)])
def test_an_empty_folder_with_leftovers(budget, uninterrupted, tmp_path):
    """Killed before anything was written."""
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    (tmp_path / ".state.npz.123.tmp").write_bytes(b"half")
    result = infer(tmp_path, max_evaluations=budget)
    assert journal(tmp_path) == journal(uninterrupted[1])[:budget]
    assert not list(tmp_path.glob("*.tmp"))
    if budget == OPTIONS["max_evaluations"]:
        check_same(result, tmp_path, uninterrupted)


@pytest.mark.slow
def test_a_folder_that_is_copied_elsewhere(uninterrupted, begun, tmp_path):
    copied(begun[0], tmp_path)
    check_same(infer(tmp_path), tmp_path, uninterrupted)


@pytest.mark.slow
def test_the_executor_changes_nothing(uninterrupted, tmp_path):
    check_same(infer(tmp_path, executor="threads:2"), tmp_path, uninterrupted)


@pytest.mark.slow
def test_interrupted_in_one_executor_and_finished_in_another(uninterrupted, begun, tmp_path):
    copied(begun[0], tmp_path)
    check_same(infer(tmp_path, executor="threads:2"), tmp_path, uninterrupted)


@pytest.mark.slow
def test_without_a_folder_the_run_is_the_same(uninterrupted):
    result = infer(None)
    np.testing.assert_array_equal(result.samples, uninterrupted[0].samples)
    np.testing.assert_array_equal(result.data.y, uninterrupted[0].data.y)


# Finished runs and changed arguments


@pytest.mark.parametrize("budget", [5, pytest.param(11, marks=pytest.mark.slow)])
def test_a_finished_run_calls_nothing(budget, uninterrupted, tmp_path):
    likelihood = Likelihood()
    result = infer(copied(uninterrupted[1], tmp_path), likelihood, max_evaluations=budget)
    assert likelihood.calls == []
    np.testing.assert_array_equal(result.samples, uninterrupted[0].samples)
    assert result.n_evaluations == uninterrupted[0].n_evaluations


def test_a_converged_run_calls_nothing(tmp_path):
    def normal(x):
        return -0.5 * float((x**2).sum())

    prior = {"a": PRIOR["a"]}
    first = surrogate.infer(normal, prior, output=tmp_path, progress=False, n_samples=300)
    calls = []
    again = surrogate.infer(calls.append, prior, output=tmp_path, resume="trust", progress=False, n_samples=300)
    assert first.converged
    assert again.converged
    assert calls == []
    assert again.status == first.status
    np.testing.assert_array_equal(again.samples, first.samples)


def test_a_larger_budget_goes_on(uninterrupted, tmp_path):
    likelihood = Likelihood()
    result = infer(copied(uninterrupted[1], tmp_path), likelihood, max_evaluations=13)
    assert result.n_evaluations == 13
    assert len(likelihood.calls) == 2
    np.testing.assert_array_equal(result.data.x[:11], uninterrupted[0].data.x)
    assert len(journal(tmp_path)) == result.n_evaluations


def test_another_number_of_samples(uninterrupted, tmp_path):
    likelihood = Likelihood()
    result = infer(copied(uninterrupted[1], tmp_path), likelihood, n_samples=2000)
    assert likelihood.calls == []
    assert len(result.samples) >= 2000


def test_a_finished_run_is_loaded_without_the_likelihood(uninterrupted, tmp_path):
    result = surrogate.load_result(copied(uninterrupted[1], tmp_path), n_samples=300)
    np.testing.assert_array_equal(result.samples, uninterrupted[0].samples)


def test_no_run_to_load(tmp_path):
    with pytest.raises(ValueError, match="holds no run"):
        surrogate.load_result(tmp_path)


def test_another_seed_is_refused(uninterrupted, tmp_path):
    with pytest.raises(ValueError, match=r"holds a run with seed 3, got seed 4.*resume=False \(--force\)"):
        infer(copied(uninterrupted[1], tmp_path), seed=4)


OTHER_PRIORS = {
    "bounds": {"a": (-4.0, 4.0), "b": (-3.0, 3.5)},
    "name": {"a": (-4.0, 4.0), "c": (-3.0, 3.0)},
    "fewer": {"a": (-4.0, 4.0)},
    "more": PRIOR | {"c": (0.0, 1.0)},
    "order": {"b": PRIOR["b"], "a": PRIOR["a"]},
}


@pytest.mark.parametrize("name", OTHER_PRIORS)
def test_another_prior_is_refused(name, uninterrupted, tmp_path):
    folder = copied(uninterrupted[1], tmp_path)
    before = (folder / "evaluations.jsonl").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run with other parameters \(a, b; .*Choose another folder"):
        surrogate.infer(Likelihood(), OTHER_PRIORS[name], output=folder, **OPTIONS)
    assert (folder / "evaluations.jsonl").read_bytes() == before


def test_other_labels_are_the_same_prior(uninterrupted, tmp_path):
    prior = {name: surrogate.Parameter(name, bounds, label=rf"\{name}") for name, bounds in PRIOR.items()}
    likelihood = Likelihood()
    result = surrogate.infer(likelihood, prior, output=copied(uninterrupted[1], tmp_path), **OPTIONS)
    assert likelihood.calls == []
    assert result.labels == (r"\a", r"\b")


@pytest.mark.parametrize("budget", [7, pytest.param(11, marks=pytest.mark.slow)])
def test_starting_anew_keeps_the_former_journal(budget, uninterrupted, tmp_path):
    folder = copied(uninterrupted[1], tmp_path)
    before = (folder / "evaluations.jsonl").read_bytes()
    likelihood = Likelihood()
    result = infer(folder, likelihood, resume=False, max_evaluations=budget)
    assert journal(folder) == journal(uninterrupted[1])[:budget]
    if budget == OPTIONS["max_evaluations"]:
        check_same(result, folder, uninterrupted)
    assert len(likelihood.calls) == budget
    assert (folder / "evaluations.1.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": True}, "resume=True, but .* holds no run"),
        ({"resume": "yes"}, "resume must be 'auto', 'trust', True or False, got 'yes'"),
        ({"resume": True, "output": None}, "resume=True needs the output folder"),
    ],
)
def test_resume_that_makes_no_sense_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        surrogate.infer(Likelihood(), PRIOR, **OPTIONS | {"output": tmp_path} | options)


def test_a_damaged_journal_is_refused(begun, tmp_path):
    copied(begun[0], tmp_path)
    path = tmp_path / "evaluations.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"{nonsense\n", *lines[4:]]))
    with pytest.raises(ValueError, match=r"line 4 of .* is damaged"):
        infer(tmp_path)


# SIGKILL


def called(path):
    """Points in the order in which their values were given back."""
    text = path.read_bytes() if path.exists() else b""
    return [text[i : i + 16] for i in range(0, len(text), 16)]


def recorded(folder):
    """Points whose values are in the journal."""
    path = Path(folder) / "evaluations.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [np.array(json.loads(line)["x"]).tobytes() for line in lines]


@pytest.mark.parametrize(("kills", "budget"), [(1, 8), pytest.param(10, 40, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills, budget, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    killed_run.run(whole, tmp_path / "calls whole", budget)
    rng = np.random.default_rng(kills)
    calls, survived = tmp_path / "calls", []
    for count in np.sort(rng.choice(np.arange(1, len(called(tmp_path / "calls whole"))), kills, replace=False)):
        process = processes.begin(killed_run.run, broken, calls, budget, count, rng.uniform(0.0, 0.1))
        assert processes.exit_code(process) == -signal.SIGKILL, "the run was over before it was killed"
        survived.append((len(called(calls)), recorded(broken)))
    killed_run.run(broken, calls, budget)

    assert journal(broken) == journal(whole)
    np.testing.assert_array_equal(np.load(broken / "samples.npy"), np.load(whole / "samples.npy"))
    answered = called(calls)
    for n, points in survived:
        assert not set(points) & set(answered[n:]), "a point in the journal was called again"
    again = [i for i, point in enumerate(answered) if point in answered[i + 1 :]]
    assert set(again) <= {n - 1 for n, _ in survived}, "only the point in flight may be called again"
