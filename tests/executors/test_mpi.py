"""The executor of all ranks, without ranks: a pool of threads stands for the others."""

import ctypes
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

import pytest

from surrogate.executors import mpi
from surrogate.executors.interruption import StopRequest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a C library with usleep")


@pytest.mark.parametrize("holds", [False, True])
def test_rank_0_makes_no_more_calls_after_one_that_stops_python(monkeypatch, capsys, holds):
    """A call on rank 0 that holds the lock of Python, as compiled code may, or gives it back, as it should."""
    monkeypatch.setattr(mpi, "_STILL", 0.3 if holds else 300.0)
    others, released = [], threading.Event()

    def elsewhere(x):
        others.append(x)
        released.wait(300)
        return "elsewhere"

    def here(x):
        ctypes.PyDLL(None).usleep(600_000) if holds else time.sleep(0.6)
        return "here"

    monkeypatch.setattr(mpi, "_served", [(elsewhere, StopRequest())])
    with ThreadPoolExecutor(2) as pool:
        executor = mpi.MPIExecutor(pool, here, 3)
        done, _ = wait([executor.submit(None, x) for x in (1, 2, 3)], 300, FIRST_COMPLETED)
        assert [future.result() for future in done] == ["here"]
        more = [executor.submit(None, x) for x in (4, 5)]
        if not holds:
            assert {future.result(300) for future in more} == {"here"}  # the others are busy for ever
        released.set()
        if holds:
            assert {future.result(300) for future in more} == {"elsewhere"}
        executor.shutdown()
    assert len(others) == (4 if holds else 2)
    assert ("makes no further calls" in capsys.readouterr().err) == holds
