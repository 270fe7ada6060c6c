"""A child process that holds one function and evaluates it at the arguments it receives."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

__all__ = ["Child", "ChildTimeoutError", "WorkerDiedError", "WorkerStartError", "payload_of"]

_CONTEXT = multiprocessing.get_context(
    "spawn"
)  # forked children would inherit locks held by threads that do not exist in them
_RANKS = ("PMIX_", "PMI_", "OMPI_COMM_WORLD", "OMPI_MCA_", "PRTE_", "MPI_LOCAL")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


class WorkerDiedError(RuntimeError):
    """A worker process ended in the middle of a call."""


class ChildTimeoutError(RuntimeError):
    """A child process took too long and was killed."""


class WorkerStartError(BrokenExecutor):
    """A worker process could not be started; a RuntimeError."""


class Child:
    """A process that holds one function, and the pipe to it; used by one thread at a time, except for `kill`."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._lock = threading.Lock()
        self._ended = False
        self._waits = False  # whether the process was waiting for a task at its last message

    def start(self) -> None:
        """Starts the process without waiting until it is ready.

        Raises:
            WorkerStartError: If the process was killed permanently.
        """
        with self._lock, _one_thread_each():
            if self._ended:
                msg = "the executor was shut down"
                raise WorkerStartError(msg)
            self._line, theirs = _CONTEXT.Pipe()
            self._process = _CONTEXT.Process(target=_serve, args=(theirs,), name="surrogate-worker")
            self._process.start()
            theirs.close()

    def wait_until_ready(self) -> None:
        """Sends the function and waits until the process has loaded it.

        Raises:
            WorkerStartError: If the process ended or could not load the function.
        """
        try:
            self._line.send_bytes(self._payload)
            error = self._answer()
        except (WorkerDiedError, OSError):
            msg = (
                f"{self._obituary()} before it was ready; its error message is above. A script that "
                "uses processes must "
                "start its work under  if __name__ == '__main__':  because every process imports the script"
            )
            raise WorkerStartError(msg) from None
        if error is not None:
            msg = f"a worker process could not load the likelihood ({error}). {_REMEDY}"
            raise WorkerStartError(msg)
        self._waits = True

    @property
    def ended(self) -> bool:
        """Whether the process was killed permanently."""
        return self._ended

    @property
    def name(self) -> str:
        """Host name and process id."""
        return f"{socket.gethostname()}:{self._process.pid if hasattr(self, '_process') else 0}"

    def revive(self) -> None:
        """Makes sure that the process is idle: kills it if it is still busy, and starts a new one if needed.

        Raises:
            WorkerStartError: If the process cannot be started.
        """
        if self._waits and self._process.is_alive():
            return
        if hasattr(self, "_process"):
            self._retire()
        self.start()
        self.wait_until_ready()

    def call(self, task: tuple[Any, ...], seconds: float | None = None) -> tuple[bool, Any]:
        """Runs a task in the process; returns whether it succeeded, and its result or exception.

        The process is revived first. A process acknowledges each task before starting it. If it dies before that (a
        dying process may look alive for a while), the task has not started and is given to another process.

        Args:
            task: Function (None for the process's own), positional arguments and keyword arguments.
            seconds: Time limit, counted from when the process gets the task, after which it is killed; None for none.

        Raises:
            WorkerDiedError: If the process died during the task, which is not repeated.
            ChildTimeoutError: If the task took too long.
            WorkerStartError: If several processes in a row ended before accepting the task.
        """
        message = bytes(ForkingPickler.dumps(task))
        for _ in range(_ATTEMPTS):
            self.revive()
            self._waits = False
            limit = math.inf if seconds is None else time.monotonic() + seconds
            if self._hand_over(message, limit):
                answer = self._answer(limit)
                self._waits = True
                return answer
        msg = (
            f"{_ATTEMPTS} worker processes in a row ended before they began a call; the last one: "
            f"{self._obituary()}. Look for what ends them, such as a limit on memory or of the batch system; "
            "fewer processes need less memory: executor='processes:N' with a smaller N"
        )
        raise WorkerStartError(msg)

    def _hand_over(self, message: bytes, limit: float) -> bool:
        """Sends the task; returns False if the process died before it acknowledged the task."""
        try:
            self._line.send_bytes(message)
            self._receive(limit)
        except (WorkerDiedError, OSError):
            return False
        return True

    def hang_up(self) -> None:
        """Tells an idle process to exit."""
        self._line.close()

    def wait_for_end(self) -> None:
        """Waits a few seconds for a process to exit after it was told to."""
        self._process.join(_PATIENCE)

    def kill(self) -> None:
        """Kills the process permanently."""
        with self._lock:
            self._ended = True
            if hasattr(self, "_process") and self._process.pid is not None:
                self._process.kill()
                self._process.join()

    def _retire(self) -> None:
        """Cleans up a process from which no more messages are expected."""
        self._process.kill()
        self._process.join(_PATIENCE)
        self._line.close()

    def _answer(self, limit: float = math.inf) -> Any:
        return ForkingPickler.loads(self._receive(limit))

    def _receive(self, limit: float) -> bytes:
        """The next message; kills the process if none arrives before ``time.monotonic()`` reaches ``limit``."""
        try:
            # Grandchildren may keep the pipe open after the process dies, so the process is checked too.
            while not self._line.poll(max(0.0, min(1.0, limit - time.monotonic()))):
                if not self._process.is_alive() and not self._line.poll():
                    raise WorkerDiedError(self._obituary())
                if time.monotonic() >= limit:
                    self._process.kill()
                    self._process.join()
                    raise ChildTimeoutError
            return self._line.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDiedError(self._obituary()) from None

    def _obituary(self) -> str:
        self._process.join(_PATIENCE)
        code = self._process.exitcode
        who = f"worker process {self._process.pid}"
        if code is None:
            return f"{who} does not answer any more"
        if code >= 0:
            return f"{who} ended with exit code {code}"
        memory = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"{who} was killed by {signal.Signals(-code).name}{memory}"


_PATIENCE = 5.0  # seconds that an idle process gets to exit
_ATTEMPTS = 3  # processes tried for a task that none has started
_TAKEN = b"taken"  # acknowledgement of a task
_REMEDY = (
    "Define it at the top level of a module that can be imported, without lambdas or open files, "
    "or use executor='threads:N'."
)


def payload_of(function: Callable[..., Any] | None) -> bytes:
    """The function serialised for another process."""
    try:
        payload = bytes(ForkingPickler.dumps(function))
    except Exception as error:  # pickling a user's function may raise anything
        msg = f"the likelihood cannot be sent to worker processes ({type(error).__name__}: {error}). {_REMEDY}"
        raise TypeError(msg) from error
    main = sys.modules["__main__"]
    if b"__main__" in payload and getattr(main, "__spec__", None) is None and not hasattr(main, "__file__"):
        msg = f"a likelihood that is defined in an interactive session cannot be sent to worker processes. {_REMEDY}"
        raise TypeError(msg)
    return payload


_ENVIRONMENT_LOCK = threading.Lock()


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Context in which new child processes use one thread, unless the user has set a number of threads.

    It sets environment variables, because a spawned process loads the libraries before any code of this package.
    """
    with _ENVIRONMENT_LOCK:
        added = {name: "1" for name in _THREADS if name not in os.environ}
        # A child is not an MPI rank, so mpi4py imported by a likelihood must not initialise MPI there.
        removed = {name: value for name, value in os.environ.items() if name.startswith(_RANKS)}
        os.environ.update(added)
        for name in removed:
            del os.environ[name]
        try:
            yield
        finally:
            os.environ.update(removed)
            for name in added:
                del os.environ[name]


_GROUP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


def _serve(line: Connection) -> None:
    """Main loop of a worker process: receives the function, then tasks until the pipe is closed."""
    for number in _GROUP_SIGNALS:
        signal.signal(number, lambda *_: None)  # signals reach all processes; the parent reacts
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        function = line.recv()
    except Exception as error:  # importing a user's module may raise anything
        line.send(f"{type(error).__name__}: {error}")
        return
    line.send(None)
    while (reply := _reply(line, function)) is not None:
        try:
            line.send(reply)
        except Exception as error:  # the result cannot be pickled
            line.send((False, TypeError(f"the result cannot be sent back ({type(error).__name__}: {error})")))


def _reply(line: Connection, function: Callable[..., Any]) -> tuple[bool, Any] | None:
    """Whether the next task succeeded, with its result or exception; None if the pipe is closed."""
    try:
        task = line.recv_bytes()
        line.send_bytes(_TAKEN)
    except (EOFError, OSError):
        return None
    try:
        fn, args, kwargs = ForkingPickler.loads(task)  # may import the user's modules
        return True, (function if fn is None else fn)(*args, **kwargs)
    except BaseException as error:  # raised in the parent
        return False, error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
