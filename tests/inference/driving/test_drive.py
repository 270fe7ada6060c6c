"""What a run may spend, restarts from the journal alone, and points chosen while others are under way."""

import importlib.util
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from likelihoods.analytic import gaussian
from surrogate.executors import SerialExecutor, make_executor
from surrogate.executors.interruption import StopRequest
from surrogate.inference.ablation import without
from surrogate.inference.driving.budget import Budget, calls
from surrogate.inference.driving.drive import drive
from surrogate.inference.driving.run import Run
from surrogate.inference.driving.saved import load_state, save_state
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.phases import Phase, Verdict
from surrogate.inference.setup import Setup
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "virtual_time.py"
TARGET = gaussian(2)
POSTERIOR = Posterior(TARGET.log_likelihood, TARGET.bounds)


def course(executor=None, posterior=POSTERIOR, **options):
    options = {"budget": Budget(100)} | options
    return Run(PosteriorLoop(Setup(posterior.prior)), posterior, executor=executor or SerialExecutor(), **options)


def run(path=None, *, asynchronous=False, **options):
    if path is None:
        return drive(one := course(**options), one.loop.init(3), asynchronous=asynchronous)
    with RunFolder(path).create() as folder:
        one = course(folder=folder, **options)
        state = load_state(folder, one.posterior.prior, 3) or one.loop.init(3)
        return drive(one, state, asynchronous=asynchronous)


@pytest.fixture(scope="module")
def whole():
    return run()


def same(ending, other):
    return np.array_equal(ending.state.data.x, other.state.data.x)


@pytest.mark.parametrize("kept", [7, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 3, 9))])
def test_a_journal_alone_is_enough_to_go_on(tmp_path, whole, kept):
    run(tmp_path)
    folder = RunFolder(tmp_path)
    records = folder.journal.read()
    folder.journal.path.unlink()
    folder.state_path.unlink()
    for record in records[:kept]:
        folder.journal.append(record)
    assert same(run(tmp_path), whole)
    assert len(folder.journal.read()) == len(records)


@pytest.mark.parametrize("then", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_run_may_change_its_mode(tmp_path, then):
    first = run(tmp_path, asynchronous=not then, executor=make_executor("threads:2"), budget=Budget(9))
    known = {r.x.tobytes() for r in RunFolder(tmp_path).journal.read()}
    assert not first.state.verdict.stop
    last = run(tmp_path, asynchronous=then, executor=make_executor("threads:2"))
    assert last.state.verdict.converged
    assert known <= {x.tobytes() for x in last.state.data.x}


def test_what_came_back_too_late_for_the_state_is_told_first(tmp_path):
    run(tmp_path, budget=Budget(8))
    folder = RunFolder(tmp_path)
    extra = TARGET.mean[None] + 0.1 * np.arange(8)[:, None]
    for index, x in enumerate(extra):
        folder.journal.append(Entry(1, index, x, POSTERIOR.evaluate(x)))
    ending = run(tmp_path)
    assert {x.tobytes() for x in extra} <= {x.tobytes() for x in ending.state.data.x}


class Failing:
    """Fails after so many calls."""

    def __init__(self, good):
        self.good = good

    def __call__(self, x):
        self.good -= 1
        if self.good < 0:
            msg = "the licence has expired"
            raise RuntimeError(msg)
        return TARGET.log_likelihood(x) * (1.0 + 0.3 * np.sin(10 * x[0]))


def test_failures_end_a_run_beyond_their_limit():
    ending = run(posterior=Posterior(Failing(8), TARGET.bounds), budget=Budget(100, max_failures=2))
    assert "3 evaluations failed, 2 may" in ending.reason or "4 evaluations failed, 2 may" in ending.reason
    assert "licence has expired" in ending.reason
    assert not ending.interrupted


@pytest.mark.slow
def test_nothing_but_failures_ends_a_run():
    ending = run(posterior=Posterior(Failing(8), TARGET.bounds), budget=Budget(200))
    assert "each of the last 20 evaluations failed" in ending.reason
    assert calls(ending.state) < 40


def test_the_budget_holds_with_calls_in_flight():
    ending = run(asynchronous=True, executor=make_executor("threads:5"), budget=Budget(11))
    assert calls(ending.state) + ending.uncounted <= 11


class Held(SerialExecutor):
    """Executor whose calls number so many and higher never return."""

    workers = 3
    tells = False

    def __init__(self, good, stop):
        self.good, self.stop = good, stop

    def submit(self, fn, /, *args, **kwargs):
        self.good, self.stop.looks = self.good - 1, 0
        if self.good >= 0:
            return super().submit(fn, *args, **kwargs)
        future = Future()
        future.set_running_or_notify_cancel()
        return future


class WhenIdle(StopRequest):
    """Asks for the end when it has been looked at twenty times since the last point was submitted."""

    def __init__(self):
        super().__init__()
        self.looks = 0

    def reason(self):
        self.looks += 1
        if self.looks > 20:
            self.request("nothing comes back any more")
        return super().reason()


@pytest.mark.parametrize("asynchronous", [pytest.param(False, marks=pytest.mark.slow), True])
def test_the_end_leaves_what_hangs(tmp_path, asynchronous):
    stop = WhenIdle()
    ending = run(tmp_path, asynchronous=asynchronous, executor=Held(8, stop), stop=stop)
    assert ending.interrupted
    assert ending.uncounted > 0
    assert ending.state.parameters is not None or ending.sampled.parameters is not None
    assert run(tmp_path).state.verdict.converged


def virtual_time():
    spec = importlib.util.spec_from_file_location("virtual_time", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VirtualExecutor = virtual_time().VirtualExecutor


def virtual_workers(number, seconds):
    """Workers in virtual time, where nobody waits; the time of the loop itself does not count."""
    return VirtualExecutor(number, seconds, overhead=0.0)


class Fickle(VirtualExecutor):
    """Workers that begin and end calls at any moment: time may go on whenever somebody looks at a call or a clock."""

    def __init__(self, number, seed):
        self._rng = np.random.default_rng(seed)
        self._pace = 10.0 ** self._rng.uniform(-3.0, 0.5)
        super().__init__(number, lambda x: self._rng.exponential())

    def clock(self):
        self._advance(self.now + self._pace * self._rng.exponential() * self._rng.integers(2))
        return self.now


class Stubborn(PosteriorLoop):
    """Asks for points that are known or under way, and for some twice; learns nothing and ends after sixty."""

    def ask(self, state, pending=None, n=None):
        if state.parameters is None:
            x = super().ask(state, pending, n)
        else:
            x = self.line(len(state.data) + np.random.default_rng(state.step).permutation(24)[: (n or 2) + 3] - 8)
        return np.concatenate([x, x[:2], x[1:]])

    def tell(self, state, x, evaluations):
        data = state.data.append(x, evaluations, state.step)
        verdict = Verdict(Phase.DONE if len(data) >= 60 else Phase.EXPLORE, "enough")
        probes = self.line(len(data) + np.arange(3)) if state.step % 3 else None
        ready = object() if len(data) > 12 else None
        return replace(state, step=state.step + 1, data=data, parameters=ready, probes=probes, verdict=verdict)

    @staticmethod
    def line(numbers):
        return 0.01 * numbers[:, None] * np.ones(2)


def noted(called):
    """The likelihood, with a list of the points at which it was called."""
    return lambda x: called.append(x.tobytes()) or POSTERIOR.evaluate(x)


class TestNoPointTwice:
    """Whatever the loop asks for and whenever workers begin and end, a point is evaluated once."""

    @pytest.mark.parametrize("seed", [pytest.param(s, marks=[pytest.mark.slow] * (s >= 12)) for s in range(40)])
    def test_at_any_moment(self, seed):
        workers, called = Fickle(1 + seed % 7, seed), []
        loop = Stubborn(Setup(POSTERIOR.prior))
        with workers.installed():
            one = replace(course(workers), loop=loop, call=noted(called))
            ending = drive(one, loop.init(3), asynchronous=True)
        assert len(set(called)) == len(called) >= calls(ending.state) >= 60
        assert len(workers.log) == calls(ending.state) + ending.uncounted  # all that were begun, and no others

    def test_in_batches(self):
        loop, called = Stubborn(Setup(POSTERIOR.prior)), []
        one = replace(course(), loop=loop, call=noted(called))
        ending = drive(one, loop.init(3))
        assert len(set(called)) == len(called) == calls(ending.state) >= 60

    @pytest.mark.parametrize("asynchronous", [False, True])
    @pytest.mark.parametrize("known", [[3, 0, 5], pytest.param([2, 3], marks=pytest.mark.slow)])
    @pytest.mark.parametrize("told", [False, True])
    def test_a_design_with_gaps(self, tmp_path, asynchronous, known, told):
        """Of an asynchronous run that ended early: in the journal, or in a state without a surrogate too."""
        loop = PosteriorLoop(Setup(POSTERIOR.prior))
        state = loop.init(3)
        x, evaluations = loop.ask(state)[known], [Evaluation.failure("no licence")] * len(known)
        with RunFolder(tmp_path).create() as folder:
            for index in range(len(known)):
                folder.journal.append(Entry(0, index, x[index], evaluations[index]))
            if told:
                save_state(folder, loop.tell(state, x, evaluations), loop.prior)
        ending = run(tmp_path, asynchronous=asynchronous, budget=Budget(9))
        assert ending.state.parameters is not None
        points = [r.x.tobytes() for r in RunFolder(tmp_path).journal.read()]
        assert len(set(points)) == len(points) == calls(ending.state) == 9

    @pytest.mark.slow
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_runs_that_end_at_any_moment_and_go_on_in_any_mode(self, tmp_path, seed):
        rng = np.random.default_rng(seed)
        for asynchronous in rng.integers(2, size=4).astype(bool):
            workers, stop = Fickle(4, rng.integers(100)), WhenIdle()
            stop.looks = -int(rng.integers(40))
            with workers.installed():
                ending = run(tmp_path, asynchronous=bool(asynchronous), executor=workers, stop=stop)
            ending.harvest()
        ending = run(tmp_path, asynchronous=bool(seed % 2))
        assert ending.state.verdict.converged
        points = [r.x.tobytes() for r in RunFolder(tmp_path).journal.read()]
        assert len(set(points)) == len(points) == calls(ending.state)


class Posted(Executor):
    """Keeps the calls; whoever has it answers them."""

    workers, tells = 3, True

    def __init__(self):
        self.calls = []

    def submit(self, fn, /, x):
        future = Future()
        future.set_running_or_notify_cancel()
        self.calls.append((future, x))
        return future


def test_an_answer_after_the_end_is_not_in_the_journal_of_the_next_run(tmp_path):
    stop, executor = WhenIdle(), Posted()
    ending = run(tmp_path, asynchronous=True, executor=executor, stop=stop)
    first, second, *_ = executor.calls
    first[0].set_result(POSTERIOR.evaluate(first[1]))
    ending.harvest()
    second[0].set_result(POSTERIOR.evaluate(second[1]))
    assert [r.x.tobytes() for r in RunFolder(tmp_path).journal.read()] == [first[1].tobytes()]


class TestSlowCalls:
    """Calls that take for ever, in virtual time."""

    @pytest.mark.slow
    def test_the_first_fit_takes_what_comes_first(self):
        first = PosteriorLoop(Setup(POSTERIOR.prior)).ask(PosteriorLoop(Setup(POSTERIOR.prior)).init(3))[0]
        workers = virtual_workers(3, lambda x: 1e4 if np.array_equal(x, first) else 1.0)
        with workers.installed():
            ending = run(asynchronous=True, executor=workers)
        assert ending.state.verdict.converged
        assert workers.now < 100
        assert ending.uncounted >= 1
        assert not (ending.state.data.x == first).all(1).any()

    def test_a_slow_probe_is_not_waited_for_at_the_end(self):
        loop, slow = PosteriorLoop(Setup(POSTERIOR.prior, n_initial=4)), []  # and so four holes are to be filled

        def observe(state):
            if state.probes is not None and not slow:
                slow.append(loop.scaled.from_unit(state.probes)[0])

        workers = virtual_workers(2, lambda x: 1e4 if slow and np.array_equal(x, slow[0]) else 1.0)
        with workers.installed():
            one = replace(course(workers, observers=[observe]), loop=loop)
            ending = drive(one, loop.init(3), asynchronous=True)
        assert ending.state.verdict.converged
        assert ending.reason.endswith("1 slow probes for further modes were not waited for")
        assert ending.uncounted >= 1
        assert ending.state.explored >= 3
        assert workers.now < 1000


def test_points_under_way_are_asked_for_again(tmp_path):
    stop = StopRequest()

    def end_after_the_first_fit(state):
        stop.request("enough")

    ending = run(tmp_path, asynchronous=True, executor=Held(8, stop), stop=stop, observers=[end_after_the_first_fit])
    assert ending.interrupted
    pending = load_state(RunFolder(tmp_path), POSTERIOR.prior).pending
    assert len(pending) > 0
    assert np.array_equal(pending, ending.state.pending)
    again = run(tmp_path, asynchronous=True)
    assert {x.tobytes() for x in pending} <= {x.tobytes() for x in again.state.data.x}
    assert again.state.verdict.converged


@pytest.fixture(scope="module")
def state():
    """That of a run which ended after eight calls."""
    return run(budget=Budget(8)).state


class TestPending:
    """Points under way."""

    def test_nothing_pending_is_a_plain_batch(self, state):
        loop = PosteriorLoop(Setup(POSTERIOR.prior))
        assert np.array_equal(loop.ask(state), loop.ask(state, np.empty((0, 2)), loop.setup.n_batch))

    def test_a_pending_point_is_not_chosen_again(self, state):
        loop = without(PosteriorLoop(Setup(POSTERIOR.prior)), "explore")
        first = loop.ask(state, None, 4)
        second = loop.ask(state, first, 4)
        assert not {x.tobytes() for x in first} & {x.tobytes() for x in second}

    def test_the_rest_of_a_design(self):
        loop = PosteriorLoop(Setup(POSTERIOR.prior))
        state = loop.init(3)
        design = loop.ask(state)
        assert np.array_equal(loop.ask(state, design[[0, 2]]), np.delete(design, [0, 2], axis=0))
        assert len({x.tobytes() for x in (*design, *loop.ask(state, design))}) > len(design)
