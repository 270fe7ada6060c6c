"""The package's own parts keep the contracts that extensions inherit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from surrogate.executors import ProcessExecutor, SerialExecutor
from surrogate.gp.categories import Correlated, Rounded
from surrogate.gp.kernels import RBF, Linear, Matern12, Matern32, Matern52, Scale
from surrogate.inference.checks import CHECKS
from surrogate.inference.scouts import SCOUTS
from surrogate.selection.selection import max_det
from surrogate.testing import CheckContract, ExecutorContract, KernelContract, RuleContract, ScoutContract


class TestRBF(KernelContract):
    kernel = RBF([0.7, 1.5])


class TestMatern32OfOneColumn(KernelContract):
    kernel = Matern32(0.9).on([1])


class TestSumOfProducts(KernelContract):
    kernel = Scale(0.5) * Matern52([1.0, 2.0]) + Scale(2.0) * (Matern12(1.0).on([0]) * Linear(1.5).on([1]))


class TestMixedColumns(KernelContract):
    kernel = Correlated(3, 2).on([0]) * Matern52(1.0).on([1]) + Scale(0.7) * Rounded(RBF(0.8)).on([1])

    def points(self, n=12):
        x = super().points(n)
        x[:, 0] = np.arange(n) % 3
        return x


def of(contract, **members):
    """The laws of a contract for one part, called one after the other."""
    made = type(contract.__name__, (contract,), members)()
    laws = [getattr(made, name) for name in dir(made) if name.startswith("test_")]
    assert laws
    for law in laws:
        law()


@pytest.mark.parametrize("scout", SCOUTS, ids=lambda scout: scout.name)
def test_scouts(scout):
    of(ScoutContract, scout=scout)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_checks(check):
    of(CheckContract, check=check)


class TestMaxDet(RuleContract):
    rule = max_det


class TestSerial(ExecutorContract):
    make = SerialExecutor


class TestThreads(ExecutorContract):
    make = staticmethod(lambda: ThreadPoolExecutor(2))


@pytest.mark.slow
class TestProcesses(ExecutorContract):
    make = staticmethod(lambda: ProcessExecutor(2))


class Asymmetric(RBF):
    """Not a kernel: its columns belong to other points than its rows."""

    def cross(self, points, x):
        return super().cross(points, x + 0.1)


def test_a_broken_kernel_is_seen():
    with pytest.raises(AssertionError):
        of(KernelContract, kernel=Asymmetric(1.0))


def test_a_broken_rule_is_seen():
    with pytest.raises(AssertionError, match="order of the pool"):
        of(RuleContract, rule=lambda operator, n: torch.arange(n))
    with pytest.raises(AssertionError, match="distinct"):
        of(RuleContract, rule=lambda operator, n: torch.zeros(n, dtype=torch.int64))


class Forgetful:
    """A scout that draws from a stream of its own."""

    name, phases, place = "forgetful", SCOUTS[0].phases, SCOUTS[0].place
    stream = np.random.default_rng(0)

    def points(self, view):
        return self.stream.random((1, view.d))


def test_a_scout_with_a_memory_is_seen():
    with pytest.raises(AssertionError):
        of(ScoutContract, scout=Forgetful())
