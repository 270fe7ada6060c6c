"""All ranks of COMM_WORLD as one executor: rank 0 runs the loop, every rank evaluates, and none is spawned."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Any

from surrogate.executors.interruption import Interrupted, StopRequest, leaving
from surrogate.executors.threads import ThreadExecutor

__all__ = ["MPIExecutor", "Ranks", "ranks"]

_PATIENCE = 10.0  # seconds that ranks get to abandon calls whose results are no longer needed
_STOP = 17  # tag of the message that requests this


class Ranks:
    """The MPI ranks of a job.

    Attributes:
        rank: Number of this rank.
        size: Number of ranks.
    """

    def __init__(self) -> None:
        from mpi4py import MPI

        self._world = MPI.COMM_WORLD
        self._threads = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self.rank = int(self._world.Get_rank())
        self.size = int(self._world.Get_size())

    def run(self, call: Callable[..., Any], main: Callable[[Executor], Any], stop: StopRequest) -> Any:
        """Runs ``main(executor)`` on rank 0, and returns or raises its outcome on all ranks; collective.

        Rank 0 runs ``main`` while the others evaluate ``call`` for it. An exception on another rank ends the job.

        Args:
            call: Function that evaluates one point; each rank uses its own.
            main: Function of the executor.
            stop: Tells rank 0 whether the run should end, and other ranks whether to abandon their calls.
        """
        with ending_the_job_by_exceptions():
            if self.rank == 0:
                outcome = self._lead(call, main)
            else:
                self._follow(call, stop)
                outcome = None
            result, error = self._world.bcast(outcome, root=0)
        if error is not None:
            raise error
        return result

    def _lead(self, call: Callable[..., Any], main: Callable[[Executor], Any]) -> tuple[Any, Exception | None]:
        from mpi4py.futures import MPICommExecutor

        result, error = None, None
        with MPICommExecutor(self._world, root=0) as pool:
            executor = MPIExecutor(pool, call, self.size)
            try:
                result = main(executor)
            except Exception as raised:  # raised on all ranks
                error = self._portable(raised)
            except BaseException:  # exiting the pool would wait for calls that may never end
                traceback.print_exc()
                self.abort(130)
                raise
            self._end_calls(executor)
        return result, error

    def _portable(self, error: Exception) -> Exception:
        """The exception, or a RuntimeError with its message if it cannot be sent to other ranks."""
        from mpi4py import MPI

        try:
            MPI.pickle.dumps(error)
        except Exception as reason:  # pickling a user's exception may raise anything
            words = f"{type(error).__name__}: {error} ({type(reason).__name__} when it was sent to all ranks)"
            return RuntimeError(words)
        return error

    def _end_calls(self, executor: MPIExecutor) -> None:
        """Asks the other ranks to abandon their calls; ends the job if one does not."""
        executor.shutdown(wait=False)
        if self._threads:
            for rank in range(1, self.size):
                self._world.send(None, dest=rank, tag=_STOP)
        if not leaving(_PATIENCE, lambda: not executor.remote_calls):
            sys.stderr.write(
                f"surrogate: a call of the likelihood on {executor.remote_calls} ranks cannot be interrupted, so "
                "the job ends here; its files are complete\n"
            )
            self.abort(1)

    def _follow(self, call: Callable[..., Any], stop: StopRequest) -> None:
        """Evaluates points for rank 0 until it has finished."""
        from mpi4py.futures import MPICommExecutor

        _served.append((call, stop))
        ended = threading.Event()
        listener = threading.Thread(target=self._listen, args=(stop, ended), daemon=True)
        if self._threads:
            listener.start()
        try:
            with MPICommExecutor(self._world, root=0):
                pass  # serves until rank 0 exits
        finally:
            _served.pop()
            if self._threads:
                listener.join()

    def _listen(self, stop: StopRequest, ended: threading.Event) -> None:
        """Waits for the message that ends the calls; each run sends one."""
        while not self._world.iprobe(source=0, tag=_STOP):
            ended.wait(0.1)
        self._world.recv(source=0, tag=_STOP)
        stop.leave("rank 0 is done")

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0, on all ranks."""
        return self._world.bcast(value, root=0)

    def abort(self, code: int) -> None:
        """Ends all ranks at once."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._world.Abort(code)


_served: list[tuple[Callable[..., Any], StopRequest]] = []


def _evaluate_here(*args: Any, **kwargs: Any) -> Any:
    """Evaluates a point on a rank other than 0, in its main thread; returns a `_Left` if the call was abandoned."""
    call, stop = _served[-1]
    try:
        with stop.interruptible():
            return call(*args, **kwargs)
    except Interrupted as interruption:
        return _Left(str(interruption))


class _Left(str):
    """The reason why a call was abandoned."""

    __slots__ = ()


class MPIExecutor(Executor):
    """Evaluations on all ranks; rank 0 evaluates in a thread, and only while all others are busy.

    Each rank calls its own copy of the function, whatever is submitted, so only points are sent. A call that holds
    Python's global lock, as some compiled code does, keeps rank 0 from receiving answers and signals. With three or
    more ranks, rank 0 therefore makes no further calls after the first that does so.

    Args:
        pool: Executor of mpi4py on rank 0 with ``size - 1`` workers.
        call: Evaluates a point on rank 0.
        size: Number of ranks.
    """

    def __init__(self, pool: Any, call: Callable[..., Any], size: int) -> None:
        self.workers = size
        self.tells = True  # its futures report whether they are running
        self._pool = pool
        self._call = call
        self._lanes: queue.PriorityQueue[int] = queue.PriorityQueue()  # rank 0, the largest, comes last
        for lane in range(size):
            self._lanes.put(lane)
        self._local = size - 1
        self._remote: set[Future[Any]] = set()
        self._threads = ThreadExecutor(size, self._run)

    @property
    def remote_calls(self) -> int:
        """Number of calls in progress on other ranks."""
        return sum(not future.done() for future in list(self._remote))

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future with the evaluation of a point on the next free rank."""
        return self._threads.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Stops accepting points; without ``wait``, cancels those that no rank has started."""
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        lane = self._lanes.get()
        if lane == self._local:
            return self._run_here(*args, **kwargs)
        try:
            future = self._pool.submit(_evaluate_here, *args, **kwargs)
            self._remote.add(future)
            answer = future.result()
            self._remote.discard(future)
        finally:
            self._lanes.put(lane)
        if isinstance(answer, _Left):
            raise Interrupted(str(answer))
        return answer

    def _run_here(self, *args: Any, **kwargs: Any) -> Any:
        pulse = _Pulse()
        try:
            return self._call(*args, **kwargs)
        finally:
            if pulse.stood_still() and self.workers > 2:
                sys.stderr.write(
                    "surrogate: a call of the likelihood blocked rank 0, which makes no further calls; "
                    "isolate=True runs calls in child processes\n"
                )
            else:
                self._lanes.put(self._local)


class _Pulse:
    """Detects whether other threads are blocked from running, from now on."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._longest = 0.0
        self._ended = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        while not self._ended.wait(_BEAT):
            self._note()

    def _note(self) -> None:
        now = time.monotonic()
        self._longest, self._last = max(self._longest, now - self._last), now

    def stood_still(self) -> bool:
        """Whether other threads were blocked for a second and for half of the time; ends the measurement."""
        self._note()
        self._ended.set()
        return self._longest > max(_STILL, 0.5 * (self._last - self._start))


_BEAT, _STILL = 0.05, 1.0  # seconds


# Detection of ranks


def ranks(spec: Any) -> Ranks | None:
    """The ranks for ``executor=spec``; None if this process is alone or ``spec`` selects another executor.

    None and "auto" check the environment variables of mpirun and srun; "mpi" queries MPI itself.

    Raises:
        RuntimeError: If there are several ranks but mpi4py is missing or sees only one.
    """
    if not (spec is None or (isinstance(spec, str) and spec in ("auto", "mpi"))):
        return None
    launched = _launched()
    if spec != "mpi" and launched < 2:
        return None
    try:
        world = Ranks()
    except ImportError as error:
        msg = (
            f"{max(launched, 1)} ranks were started together and mpi4py cannot be imported ({error}). "
            "Install it with: pip install mpi4py"
        )
        raise RuntimeError(msg) from error
    if launched > 1 and world.size == 1:
        msg = (
            f"{launched} ranks were started together, but mpi4py sees one: it uses another MPI library than mpirun. "
            "Build it with the MPI of mpirun (pip install --no-binary mpi4py mpi4py), or use the mpirun of its MPI"
        )
        raise RuntimeError(msg)
    return world if world.size > 1 else None


def _launched() -> int:
    """Number of ranks according to the environment; 1 for a process started alone."""
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    step = os.environ.get("SLURM_STEP_ID", "")  # batch scripts and allocations have no step number, or a huge one
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    return int(tasks) if step.isdigit() and int(step) < 2**31 and tasks.isdigit() else 1


# Exceptions


@contextlib.contextmanager
def ending_the_job_by_exceptions() -> Iterator[None]:
    """Context in which an exception ends all ranks with its traceback, as the others would wait forever.

    Later exceptions that end the program also end all ranks.
    """
    if sys.excepthook is not _end_the_job:
        _former_hook.append(sys.excepthook)
        sys.excepthook = _end_the_job
    try:
        yield
    except BaseException as error:
        if isinstance(error, SystemExit) and error.code in (None, 0):
            raise
        traceback.print_exc()
        _abort()
        raise


_former_hook: list[Callable[..., Any]] = []


def _end_the_job(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    _former_hook[0](kind, error, trace)
    _abort()


def _abort() -> None:
    from mpi4py import MPI

    sys.stdout.flush()
    sys.stderr.flush()
    if MPI.Is_initialized() and not MPI.Is_finalized() and MPI.COMM_WORLD.Get_size() > 1:
        MPI.COMM_WORLD.Abort(1)
