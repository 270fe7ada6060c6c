"""An executor in virtual time: calls take the seconds that they are said to take, and nobody waits for them.

The clock goes on by the CPU time of the loop, times a factor, while calls "run" beside it, and jumps to the end of the
next call where the loop waits. Runs with any number of workers are so measured on one core, whatever else the machine
does, and as often as wanted.
"""

from __future__ import annotations

import contextlib
import heapq
import time
from collections import deque
from concurrent.futures import Executor, Future
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock


class VirtualExecutor(Executor):
    """Workers that begin calls in the order of submission and end them when their time is over.

    Args:
        workers: Number of workers.
        seconds: Time of the call at a point with shape (d,).
        overhead: Virtual seconds per second of CPU time of the loop.
    """

    tells = True

    def __init__(self, workers, seconds, overhead=1.0):
        self.workers, self._seconds, self._overhead = workers, seconds, overhead
        self.now, self.cpu = 0.0, 0.0
        self.log = []  # begin and end of every call that was begun
        self._last = time.process_time()
        self._queue, self._running, self._number = deque(), [], 0

    def submit(self, fn, /, *args, **kwargs):
        """A future that is done at a virtual time."""
        self.clock()
        future = _VirtualFuture(self)
        self._queue.append((future, fn, args, kwargs))
        self._begin(self.now)
        return future

    def clock(self):
        """The virtual time, after what has ended by now has ended."""
        cpu = time.process_time()
        self.cpu += cpu - self._last
        self._advance(self.now + self._overhead * (cpu - self._last))
        self._last = time.process_time()
        return self.now

    def wait(self, futures, timeout=None, return_when=None):  # noqa: ARG002  # as of concurrent.futures
        """Goes on to the end of the next call or of the time-out, unless one of the futures is done."""
        self.clock()
        if self._running and not any(future.done() for future in futures):
            self._advance(self._running[0][0] if timeout is None else min(self._running[0][0], self.now + timeout))

    @contextlib.contextmanager
    def installed(self):
        """The package's clock is this one, inside."""
        with (
            mock.patch("surrogate.executors.evaluate.wait", self.wait),
            mock.patch("surrogate.inference.driving.asynchronous.time", SimpleNamespace(monotonic=self.clock)),
            mock.patch("surrogate.executors.evaluate.time", SimpleNamespace(monotonic=self.clock)),
        ):
            self._last = time.process_time()
            yield self

    def _advance(self, until):
        while self._running and self._running[0][0] <= until:
            end, _, begin, (future, fn, args, kwargs) = heapq.heappop(self._running)
            future.finish(replace(fn(*args, **kwargs), seconds=end - begin))
            self._begin(end)
        self.now = max(self.now, until)

    def _begin(self, at):
        while self._queue and len(self._running) < self.workers:
            task = self._queue.popleft()
            if task[0].begin():
                self._number += 1
                end = at + self._seconds(task[2][0])
                self.log.append((at, end))
                heapq.heappush(self._running, (end, self._number, at, task))


class _VirtualFuture(Future):
    """Looks at the clock before it says how it is."""

    def __init__(self, executor):
        super().__init__()
        self._executor = executor

    def begin(self):
        return super().set_running_or_notify_cancel()

    def finish(self, result):
        super().set_result(result)

    def done(self):
        self._executor.clock()
        return super().done()

    def running(self):
        self._executor.clock()
        return super().running()

    def cancel(self):
        self._executor.clock()
        return super().cancel()
