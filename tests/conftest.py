"""Options, fixtures and limits that the whole suite shares.

The process that only hands out tests to others loads no torch: what needs it is imported where it is used.
"""

from __future__ import annotations

import faulthandler
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

if TYPE_CHECKING:
    import numpy as np
    import torch

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="where the numerical tests run, as torch spells it")
    parser.addoption("--dtype", default="float64", choices=["float32", "float64"], help="and in which precision")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small matrices are slower on many threads, and sums come out in one order."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_time_limit_for_slow_tests(request: pytest.FixtureRequest) -> None:
    """A test that takes longer than faulthandler_timeout ends its process, with the stack of every thread."""
    if request.node.get_closest_marker("slow"):
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    """Resets the root logger and the hook of exceptions, which programs such as Cobaya set."""
    root, hook = logging.getLogger(), sys.excepthook
    level, handlers = root.level, list(root.handlers)
    yield
    sys.excepthook = hook
    root.setLevel(level)
    for handler in set(root.handlers) - set(handlers):
        if type(handler) in (logging.StreamHandler, logging.FileHandler):  # those of pytest are of other types
            root.removeHandler(handler)


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> torch.device:
    import torch

    wanted = torch.device(pytestconfig.getoption("--device"))
    if wanted.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return wanted


@pytest.fixture(scope="session")
def dtype(pytestconfig: pytest.Config) -> torch.dtype:
    import torch

    return getattr(torch, pytestconfig.getoption("--dtype"))


@pytest.fixture(scope="session")
def tolerance(dtype: torch.dtype) -> Callable[..., dict[str, float]]:
    """How far two roundings of the same number may differ: `assert_close(a, b, **tolerance())`.

    The square root of the machine epsilon, times a factor for long sums or ill-conditioned solves: 1.5e-8 in float64
    and 3.5e-4 in float32. Of another dtype with `tolerance(dtype=torch.float32)`.
    """

    import torch

    def bound(factor: float = 1.0, *, dtype: torch.dtype = dtype) -> dict[str, float]:
        size = factor * torch.finfo(dtype).eps ** 0.5
        return {"rtol": size, "atol": size}

    return bound


@pytest.fixture
def rng() -> np.random.Generator:
    import numpy as np

    return np.random.default_rng(20240404)


@pytest.fixture(scope="session")
def shared_suite() -> Path:
    """The folder of the reference problems, kept beside the checkout and not in it."""
    folder = ROOT.parent / "shared" / "suite"
    if not (folder / "problems.py").is_file():
        pytest.skip("the reference problems are not beside this checkout")
    return folder


@pytest.fixture
def linear(monkeypatch):
    """Makes model="linear" least squares: a model that costs nothing, for labelling runs."""
    from surrogate.labelling import learners

    spec = importlib.util.spec_from_file_location("linear_model", ROOT / "tests" / "labelling" / "linear_model.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "linear_model", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(learners.LEARNERS, "linear", module.fit_linear)


@pytest.fixture(autouse=True)
def _no_signal_of_another_test():
    """A program begins no run after a signal has ended one; tests, and fixtures of modules, are many programs."""
    from surrogate.executors.interruption import forget_signals

    forget_signals()
    yield
    forget_signals()
