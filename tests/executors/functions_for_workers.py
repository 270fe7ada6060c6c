"""Likelihoods that worker processes can import; light, as every worker imports them."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np


def quadratic(x):
    return -float(np.sum(np.asarray(x) ** 2))


def heavy_modules(x):  # noqa: ARG001  # a likelihood of some point
    """How many libraries the process has loaded that evaluating a likelihood does not need."""
    return float(sum(name in sys.modules for name in ("torch", "sklearn", "matplotlib", "emcee")))


def of_all_kinds(x):
    """Derived values, -inf, an exception and NaN, by thirds of the unit interval."""
    kind = int(4 * x[0])
    if kind == 1:
        return -np.inf
    if kind == 2:
        msg = "not here"
        raise ValueError(msg)
    return np.nan if kind == 3 else (np.sin(x[0]), {"s": x[0] ** 3})


def by_name(a, b=2.0):
    return -a - b


def vectorized(x):
    return -np.sum(x**2, axis=1)


def slow_first(x):
    time.sleep(0.3 if x[0] < 0.1 else 0.0)
    return quadratic(x)


def deadly(x):
    """Dies of a signal, or ends the process, at some points."""
    if x[0] == 0.5:
        os.kill(os.getpid(), signal.SIGSEGV)
    if x[0] == 0.6:
        os._exit(3)
    return quadratic(x)


def deadly_with_a_child(file):
    """Dies while a child of its own keeps all open files open; the child's process id is in a file."""
    if (child := os.fork()) == 0:
        time.sleep(600)
        os._exit(0)
    Path(file).write_text(str(child))
    os.kill(os.getpid(), signal.SIGKILL)


def leaving(x):
    sys.exit("enough")


def endless(x):
    nap(600)
    return 0.0


def nap(seconds):
    """Sleeps in short pieces: a signal that arrives just before a long sleep would wait for its end."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def ignores_termination(x):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return endless(x)


def process_id(*_):
    return float(os.getpid())


def thread_id(*_):
    return float(threading.get_ident())


def environment(name):
    return os.environ.get(name)


def unpicklable():
    return lambda: None


def fail_with(error):
    raise error


class Large:
    """A likelihood with data, which counts how often it was sent."""

    def __init__(self, folder, size):
        self.folder, self.data = Path(folder), np.zeros(size)

    def __call__(self, x):
        return quadratic(x) + self.data[-1]

    def __setstate__(self, state):
        self.__dict__.update(state)
        (self.folder / f"{os.getpid()}.{time.monotonic_ns()}").touch()


class Noted:
    """Notes each call in a folder, by the process that it runs in, and does what another function does."""

    def __init__(self, folder, function):
        self.folder, self.function = Path(folder), function

    def __call__(self, x):
        (self.folder / f"{os.getpid()}.{time.monotonic_ns()}").touch()
        return self.function(x)

    @property
    def calls(self):
        """Number of calls so far."""
        return len(list(self.folder.iterdir()))


def ends_when_ready(line):
    """A worker process that understands its function and ends before any task."""
    line.recv()
    line.send(None)


def hangs_up_and_lives(line):
    """A worker process that takes a task, loses its line and goes on."""
    ends_when_ready(line)
    line.recv_bytes()
    line.send_bytes(b"taken")
    line.close()
    time.sleep(600)


class OddlyEqual:
    """Compares like an array."""

    __hash__ = None

    def __eq__(self, other):
        return np.array([True, False])

    def __call__(self, x):
        return quadratic(x)


class Unloadable:
    """Can be sent, but does not arrive."""

    def __call__(self, x):
        return 0.0

    def __reduce__(self):
        return fail_with, (ImportError("no module named cosmology"),)


class UnhappyStart:
    """Ends the process that receives it."""

    def __call__(self, x):
        return 0.0

    def __reduce__(self):
        return os._exit, (7,)
