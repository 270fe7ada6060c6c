"""Executors of this machine: the laws of all of them, and the lives and deaths of worker processes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from surrogate.executors import ProcessExecutor, SerialExecutor, make_executor
from surrogate.executors import child as child_module
from surrogate.executors.calls import Limits, guarded
from surrogate.executors.child import Child, ChildTimeoutError, WorkerDiedError, WorkerStartError, payload_of
from surrogate.problem.target import Posterior
from tests.executors import functions_for_workers as functions

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def processes():
    """Two workers that know the quadratic."""
    with ProcessExecutor(2, functions.quadratic) as executor:
        yield executor


@pytest.fixture(params=["serial", "threads:2", "processes:2"])
def executor(request, processes):
    if request.param == "processes:2":
        yield processes
    else:
        with make_executor(request.param) as executor:
            yield executor


class TestLaws:
    def test_results(self, executor):
        futures = [executor.submit(functions.quadratic, [x]) for x in range(5)]
        assert all(isinstance(future, Future) for future in futures)
        assert [future.result(300) for future in futures] == [0.0, -1.0, -4.0, -9.0, -16.0]

    def test_keywords_and_other_functions(self, executor):
        assert executor.submit(functions.by_name, 1.0, b=3.0).result(300) == -4.0
        assert executor.submit(functions.by_name, a=1.0).result(300) == -3.0

    def test_map(self, executor):
        assert list(executor.map(functions.quadratic, [[1.0], [2.0]])) == [-1.0, -4.0]

    @pytest.mark.parametrize("error", [ValueError("no"), KeyError("a"), OSError(2, "gone"), EOFError("end")], ids=repr)
    def test_exceptions(self, executor, error):
        future = executor.submit(functions.fail_with, error)
        with pytest.raises(type(error)) as info:
            future.result(300)
        assert str(info.value) == str(error)
        assert executor.submit(functions.quadratic, [2.0]).result(300) == -4.0

    def test_is_shut_down_by_leaving(self, request):
        for spec in ("threads:1", "processes:1"):
            with make_executor(spec, functions.quadratic) as executor:
                pass
            with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
                executor.submit(functions.quadratic, [1.0])


class TestMakeExecutor:
    @pytest.mark.parametrize("spec", [None, "serial"])
    def test_serial(self, spec):
        assert isinstance(make_executor(spec), SerialExecutor)

    def test_threads(self):
        barrier = threading.Barrier(3)
        with make_executor("threads:3") as executor:
            places = [executor.submit(barrier.wait, 300) for _ in range(3)]
            assert sorted(place.result(300) for place in places) == [0, 1, 2]  # three threads pass together only

    def test_all_processors(self):
        barrier = threading.Barrier(len(os.sched_getaffinity(0)))
        with make_executor("threads") as executor:
            places = [executor.submit(barrier.wait, 300) for _ in range(barrier.parties)]
            assert sorted(place.result(300) for place in places) == list(range(barrier.parties))

    def test_an_executor_of_somebody_else_stays_open(self):
        with ThreadPoolExecutor(1) as theirs:
            for _ in range(2):
                with make_executor(theirs) as ours:
                    assert isinstance(ours, Executor)
                    assert repr(ours) == repr(theirs)
                    assert ours.submit(functions.quadratic, [1.0]).result(300) == -1.0
            assert theirs.submit(functions.quadratic, [1.0]).result(300) == -1.0

    def test_a_serial_one_is_itself(self):
        serial = SerialExecutor()
        with make_executor(serial) as executor:
            assert executor is serial

    @pytest.mark.parametrize(
        "spec",
        ["", "mpl", "threads:0", "threads:", "threads:-1", "threads:two", "processes:1.5", "serial:2", "threads:²"],
    )
    def test_unknown_words(self, spec):
        with pytest.raises(ValueError, match=r"executor must be None, 'serial', 'threads:N', .* N >= 1 .* got '"):
            make_executor(spec)

    def test_other_types(self):
        with pytest.raises(TypeError, match=r"or a concurrent\.futures\.Executor, got int"):
            make_executor(4)

        class Client:
            def get_executor(self): ...

        class Pool:
            def map(self): ...

        with pytest.raises(TypeError, match=r"got Client; give client\.get_executor\(\) instead"):
            make_executor(Client())
        with pytest.raises(TypeError, match="got Pool; a pool with map alone will not do"):
            make_executor(Pool())


class TestSerial:
    def test_runs_at_once_and_in_this_thread(self):
        future = SerialExecutor().submit(threading.get_ident)
        assert future.done()
        assert future.result() == threading.get_ident()

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_interrupts_are_raised_at_once(self, error):
        with pytest.raises(error):
            SerialExecutor().submit(functions.fail_with, error())


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected yet has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=300.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


class TestProcesses:
    def test_run_elsewhere_and_side_by_side(self, processes):
        futures = [processes.submit(functions.slow_first, [0.0]) for _ in range(2)]
        pids = {processes.submit(functions.process_id).result(300) for _ in range(4)}
        assert [future.result(300) for future in futures] == [0.0, 0.0]
        assert os.getpid() not in pids

    def test_the_function_travels_once(self, tmp_path):
        function = functions.Large(tmp_path, 300_000)  # 2.4 MB, more than a pipe holds
        posterior = Posterior(function, [(0, 1)])
        with make_executor("processes:2", posterior.evaluate) as executor:
            futures = [executor.submit(posterior.evaluate, np.array([x])) for x in np.linspace(0, 1, 10)]
            assert [future.result(300).y for future in futures] == [quadratic(x) for x in np.linspace(0, 1, 10)]
            assert len(list(tmp_path.iterdir())) == 2
            executor.submit(Posterior(function, [(0, 1)]).evaluate, np.array([0.5])).result(300)
            assert len(list(tmp_path.iterdir())) == 3  # another one travels with its call

    def test_functions_whose_equality_is_no_truth_value(self):
        with ProcessExecutor(1, functions.OddlyEqual()) as executor:
            assert executor.submit(functions.OddlyEqual(), [2.0]).result(300) == -4.0

    @pytest.mark.parametrize(
        ("x", "reason"), [(0.5, r"worker process \d+ was killed by SIGSEGV"), (0.6, "ended with exit code 3")]
    )
    def test_a_death_fails_its_own_call_alone(self, processes, x, reason):
        futures = [processes.submit(functions.deadly, [value]) for value in (0.1, x, 0.2, 0.3, 0.4)]
        with pytest.raises(WorkerDiedError, match=reason):
            futures[1].result(300)
        results = [future.result(300) for i, future in enumerate(futures) if i != 1]
        assert results == [quadratic(value) for value in (0.1, 0.2, 0.3, 0.4)]

    @pytest.mark.slow
    def test_as_many_workers_as_before_after_deaths(self, processes):
        for _ in range(3):
            with pytest.raises(WorkerDiedError):
                processes.submit(functions.deadly, [0.6]).result(300)
        futures = [processes.submit(functions.slow_first, [0.0]) for _ in range(2)]
        wait_until(lambda: all(future.running() or future.done() for future in futures))
        assert len({processes.submit(functions.process_id).result(300) for _ in range(20)}) <= 2

    def test_a_death_between_calls_goes_unnoticed(self, processes):
        pids = {int(processes.submit(functions.process_id).result(300)) for _ in range(4)}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids))
        assert processes.submit(functions.quadratic, [2.0]).result(300) == -4.0

    def test_grandchildren_do_not_hide_a_death(self, processes, tmp_path):
        file = tmp_path / "child"
        with pytest.raises(WorkerDiedError, match=r"killed by SIGKILL \(out of memory\?\)"):
            processes.submit(functions.deadly_with_a_child, file).result(300)
        child = int(file.read_text())
        assert alive(child)  # and so the line was open
        os.kill(child, signal.SIGKILL)

    def test_sys_exit_reaches_the_caller(self, processes):
        with pytest.raises(SystemExit, match="enough"):
            processes.submit(functions.leaving, [0.0]).result(300)

    def test_results_that_cannot_come_back(self, processes):
        with pytest.raises(TypeError, match="the result cannot be sent back"):
            processes.submit(functions.unpicklable).result(300)
        with pytest.raises(Exception, match="pickle"):
            processes.submit(lambda: None).result(300)
        assert processes.submit(functions.quadratic, [2.0]).result(300) == -4.0

    def test_one_thread_each_unless_set(self, monkeypatch):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setenv("MKL_NUM_THREADS", "3")
        with ProcessExecutor(1) as executor:
            assert executor.submit(functions.environment, "OMP_NUM_THREADS").result(300) == "1"
            assert executor.submit(functions.environment, "MKL_NUM_THREADS").result(300) == "3"
        assert "OMP_NUM_THREADS" not in os.environ

    @pytest.mark.parametrize("function", [functions.endless, functions.ignores_termination])
    def test_an_exception_ends_running_calls(self, function):
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt), ProcessExecutor(1, function) as executor:
            interrupt_when_busy(executor, function)
        assert time.monotonic() - start < 300

    def test_shutdown_waits_for_what_was_submitted(self):
        with ProcessExecutor(1, functions.slow_first) as executor:
            futures = [executor.submit(functions.slow_first, [0.0]) for _ in range(2)]
        assert [future.result(0) for future in futures] == [0.0, 0.0]

    def test_shutdown_without_waiting_cancels(self, tmp_path):
        endless = functions.Noted(tmp_path, functions.endless)
        executor = ProcessExecutor(1, endless)
        futures = [executor.submit(endless, [0.0]) for _ in range(3)]
        wait_until(lambda: endless.calls == 1)
        executor.shutdown(wait=False)
        with pytest.raises(WorkerDiedError):
            futures[0].result(300)
        assert all(future.cancelled() for future in futures[1:])

    def test_no_process_is_left(self):
        with ProcessExecutor(1) as executor:
            pids = {int(executor.submit(functions.process_id).result(300)) for _ in range(4)}
        assert not any(alive(pid) for pid in pids)


def quadratic(x: float) -> float:
    return functions.quadratic([x])


@contextlib.contextmanager
def child_with(function):
    child = Child(payload_of(function))
    try:
        yield child
    finally:
        child.kill()


def first_call(child, x=0.0):
    assert child.call((None, ([x],), {})) == (True, quadratic(x))
    return child._process


class TestChild:
    """A task goes to another process if none has begun with it, and otherwise never."""

    def test_a_dead_process_that_looks_alive_is_replaced(self):
        with child_with(functions.quadratic) as child:
            dead = first_call(child)
            dead.kill()
            dead.join()
            dead.is_alive = lambda: True  # as that of a process whose threads are still ending
            assert child.call((None, ([2.0],), {})) == (True, -4.0)
            assert child._process.pid != dead.pid

    def test_a_process_that_dies_with_an_unread_task_is_replaced(self, tmp_path):
        noted = functions.Noted(tmp_path, functions.quadratic)
        with child_with(noted) as child, ThreadPoolExecutor(1) as thread:
            stopped = first_call(child)
            os.kill(stopped.pid, signal.SIGSTOP)
            future = thread.submit(child.call, (None, ([2.0],), {}))
            time.sleep(0.2)  # the task is under way then; the answer is the same if it is not
            os.kill(stopped.pid, signal.SIGKILL)
            assert future.result(300) == (True, -4.0)
        assert noted.calls == 2

    def test_a_task_that_was_begun_is_not_repeated(self, tmp_path):
        noted = functions.Noted(tmp_path, functions.deadly)
        with child_with(noted) as child, pytest.raises(WorkerDiedError):
            child.call((None, ([0.6],), {}))
        assert noted.calls == 1

    def test_processes_that_never_begin_are_an_error_with_a_remedy(self, monkeypatch):
        monkeypatch.setattr(child_module, "_serve", functions.ends_when_ready)
        with child_with(functions.quadratic) as child:
            child.revive()
            with pytest.raises(WorkerStartError, match=r"3 worker processes in a row .* exit code 0.*'processes:N'"):
                child.call((None, ([2.0],), {}))

    def test_a_call_that_was_left_does_not_answer_the_next(self, tmp_path):
        slow = functions.Noted(tmp_path, functions.slow_first)

        def leave(number, frame):
            raise KeyboardInterrupt

        former = signal.signal(signal.SIGALRM, leave)
        with child_with(slow) as child:
            child.revive()
            try:
                with pytest.raises(KeyboardInterrupt):
                    call_with_alarm(child, 0.1)
            finally:
                signal.signal(signal.SIGALRM, former)
            assert child.call((None, ([2.0],), {})) == (True, -4.0)

    def test_a_time_limit_holds_for_a_process_that_takes_nothing(self):
        with child_with(functions.quadratic) as child:
            stopped = first_call(child)
            os.kill(stopped.pid, signal.SIGSTOP)
            with pytest.raises(ChildTimeoutError):
                child.call((None, ([2.0],), {}), seconds=0.2)
            assert child.call((None, ([2.0],), {}), seconds=60.0) == (True, -4.0)

    def test_a_lost_line_costs_one_call(self, monkeypatch):
        monkeypatch.setattr(child_module, "_PATIENCE", 0.2)
        with child_with(functions.quadratic) as child:
            with monkeypatch.context() as patched:
                patched.setattr(child_module, "_serve", functions.hangs_up_and_lives)
                with pytest.raises(WorkerDiedError, match="does not answer any more"):
                    child.call((None, ([2.0],), {}))
            assert child.call((None, ([2.0],), {})) == (True, -4.0)


def call_with_alarm(child, seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    child.call((None, ([0.05],), {}))


def interrupt_when_busy(executor, function):
    future = executor.submit(function, [0.0])
    wait_until(future.running)
    time.sleep(0.2)
    raise KeyboardInterrupt


class TestWhatCannotBeSent:
    @pytest.mark.parametrize("function", [lambda x: 0.0, threading.Lock().acquire], ids=["lambda", "lock"])
    def test_is_said_up_front(self, function):
        with pytest.raises(
            TypeError, match=r"cannot be sent to worker processes .* top level of a module .*'threads:N'"
        ):
            make_executor("processes:1", function)

    def test_lambda_in_a_posterior(self):
        posterior = Posterior(lambda x: 0.0, [(0, 1)])
        with pytest.raises(TypeError, match="the likelihood cannot be sent to worker processes"):
            make_executor("processes:1", posterior.evaluate)

    def test_what_does_not_arrive(self):
        with pytest.raises(
            RuntimeError,
            match="a worker process could not load the likelihood .*ImportError: no module named cosmology",
        ):
            ProcessExecutor(1, functions.Unloadable())

    def test_what_ends_the_worker(self):
        with pytest.raises(RuntimeError, match=r"ended with exit code 7 before it was ready.*__name__ == '__main__'"):
            ProcessExecutor(1, functions.UnhappyStart())


def script(code: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments] if arguments else [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False, **options)


LOCAL_FUNCTION = """
from surrogate.executors import make_executor
def f(x):
    return 2 * x
"""
USE = """
    with make_executor("processes:1", f) as executor:
        print(executor.submit(f, 21).result(300))
"""


class TestScripts:
    """What happens around the main module can only be seen in programs of their own."""

    def test_a_function_of_a_script_with_a_guard(self, tmp_path):
        (tmp_path / "run.py").write_text(f"{LOCAL_FUNCTION}\nif __name__ == '__main__':{USE}")
        done = script("", str(tmp_path / "run.py"))
        assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr

    def test_a_script_without_a_guard(self, tmp_path):
        (tmp_path / "run.py").write_text(f"{LOCAL_FUNCTION}\nif True:{USE}")
        done = script("", str(tmp_path / "run.py"))
        assert done.returncode == 1
        assert "A script that uses processes must start its work under  if __name__ == '__main__':" in done.stderr

    def test_a_function_of_an_interactive_session(self):
        done = script(f"{LOCAL_FUNCTION}\nif True:{USE}")
        assert done.returncode == 1
        assert "TypeError: a likelihood that is defined in an interactive session cannot be sent" in done.stderr

    @pytest.mark.slow
    def test_a_program_that_forgets_to_close_ends(self):
        done = script(
            "from surrogate.executors import *; from tests.executors import functions_for_workers as f\n"
            "executor = make_executor('processes:2', f.quadratic); print(executor.submit(f.quadratic, [2.0]).result())"
        )
        assert (done.stdout, done.stderr, done.returncode) == ("-4.0\n", "", 0)

    @pytest.mark.parametrize("end", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
    def test_workers_die_with_their_parent(self, end):
        code = (
            "from surrogate.executors import *; from tests.executors import functions_for_workers as f\n"
            "executor = make_executor('processes:2', f.endless)\n"
            "print(*[int(executor.submit(f.process_id).result()) for _ in range(2)], flush=True)\n"
            "futures = [executor.submit(f.endless, [0.0]) for _ in range(2)]; futures[0].result()"
        )
        with running(code) as parent:
            pids = [int(word) for word in parent.stdout.readline().split()]
            assert all(alive(pid) for pid in pids)
            time.sleep(0.3)
            parent.send_signal(end)
            parent.wait(300)
            wait_until(lambda: not any(alive(pid) for pid in pids))

    @pytest.mark.slow
    def test_ctrl_c_ends_all_at_once_and_quietly(self):
        code = (
            "from surrogate.executors import *; from tests.executors import functions_for_workers as f\n"
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start jobs without\n"
            "try:\n"
            "    with make_executor('processes:2', f.endless) as executor:\n"
            "        print(int(executor.submit(f.process_id).result()), flush=True)\n"
            "        futures = [executor.submit(f.endless, [0.0]) for _ in range(2)]; futures[0].result()\n"
            "except KeyboardInterrupt:\n"
            "    print('interrupted')"
        )
        with running(code, start_new_session=True) as parent:
            pid = int(parent.stdout.readline())
            time.sleep(0.3)
            os.killpg(parent.pid, signal.SIGINT)
            output, errors = parent.communicate(timeout=300)
            assert (output, errors, parent.returncode) == ("interrupted\n", "", 0)
            assert not alive(pid)


@contextlib.contextmanager
def running(code: str, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes, **options) as child:
        yield child
        child.kill()


def test_processes_that_evaluate_load_no_torch():
    evaluate = Posterior(functions.heavy_modules, [(0, 1)]).evaluate
    with ProcessExecutor(1, evaluate) as executor:
        assert executor.submit(evaluate, np.array([0.5])).result(300).y == 0.0
    with guarded(evaluate, Limits(isolate=True)) as call:
        assert call(np.array([0.5])).y == 0.0
