"""Checks and times on one CUDA device everything that has a device, in one command of less than eight minutes.

    python scripts/gpu_check.py [--device cuda] [--only cg,fused] [--budget 460]
    python scripts/gpu_check.py --device cpu        # the same code at tiny sizes: a smoke test, its times mean nothing

    python scripts/gpu_check.py --only fit-million,fit-largest --limit 470       # not among those run by default

Run it with the package installed or with PYTHONPATH=. in the root. Each line of the table is a quantity with what it
should be where that is known beforehand; a part that is missing or fails is a line as well. The exit status is the
number of lines that are not as they should be.

The checks run in a process of their own. One that takes longer than its limit is killed, and so is one that breaks the
device for those after it, as an illegal memory access does; the others go on in a new process. Nothing is running any
more ten seconds after the budget.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import math
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from surrogate.linalg.logdet import log_determinant
from surrogate.linalg.lowrank import random_cholesky, randomised_svd
from surrogate.linalg.operators import KernelOperator
from surrogate.linalg.preconditioners import NystromPreconditioner
from surrogate.linalg.solvers import Cholesky, cg, refine

DIMENSIONS = 8
STARTING = 30.0  # seconds that a process may take to import torch and find the card


@dataclass(frozen=True)
class Row:
    """A line of the table; ``good`` is None where there is nothing to compare with."""

    quantity: str
    value: str
    wanted: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Bench:
    """Where to run, and how large."""

    device: torch.device

    @property
    def large(self) -> bool:
        """Whether the sizes are those of a card."""
        return self.device.type == "cuda"

    def size(self, full: int, tiny: int) -> int:
        """One of two sizes."""
        return full if self.large else tiny

    def generator(self, seed: int = 0) -> torch.Generator:
        """A seeded generator on the device."""
        return torch.Generator(device=self.device).manual_seed(seed)

    def normal(self, *shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Standard normal numbers."""
        return torch.randn(*shape, dtype=dtype, device=self.device, generator=self.generator(seed))

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.large:
            torch.cuda.synchronize()

    def timed(self, function: Callable[[], object], rounds: int = 3) -> float:
        """Seconds of the fastest round, after one to warm up."""
        function()
        times = []
        for _ in range(rounds):
            self.wait()
            start = time.perf_counter()
            function()
            self.wait()
            times.append(time.perf_counter() - start)
        return min(times)

    def once(self, function: Callable[[], Any]) -> tuple[Any, float]:
        """The result and the seconds of one call."""
        self.wait()
        start = time.perf_counter()
        result = function()
        self.wait()
        return result, time.perf_counter() - start

    def kernel(self, kind: str, n: int, **options) -> KernelOperator:
        """The kernel of n normal points, in float32 unless asked otherwise."""
        lengthscale = options.pop("lengthscale", 1.5)
        return KernelOperator.of(kind, self.normal(n, DIMENSIONS), lengthscale=lengthscale, **options)


def below(quantity: str, value: float, bound: float, unit: str = "") -> Row:
    return Row(quantity, f"{value:.3g}{unit}", f"<= {bound:g}{unit}", bool(value <= bound))


def seconds(quantity: str, value: float) -> Row:
    return Row(quantity, f"{value:.3g} s")


def rows_of(operator: KernelOperator, index: torch.Tensor) -> KernelOperator:
    """Some of the rows in float64: the reference that is cheap at any size."""
    double = operator.to(torch.float64)
    return replace(double, scaled=double.scaled[index], others=double.scaled, tiled=True)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def triton(bench: Bench) -> Iterator[Row]:
    """The fused programs beside the tiled form, at odd sizes, before anything is timed with them."""
    n = bench.size(1531, 203)
    for kind in ("rbf", "matern12", "matern32", "matern52"):
        for precision, k, bound in (("full", 1, 1e-4), ("full", 11, 1e-4), ("tf32", 11, 3e-3), ("float16", 70, 3e-3)):
            operator, v = bench.kernel(kind, n, precision=precision), bench.normal(n, k, seed=1)
            v = v.abs()  # no cancellation: the error is that of the entries
            plain = replace(operator.to(torch.float64), tiled=True).matmul(v.double())
            yield below(f"{kind}, {precision}, {k} columns: error", relative(operator.matmul(v), plain), bound)


def exact_process(bench: Bench) -> Iterator[Row]:
    """The engine of the posterior loop: marginal likelihood with gradient, fit, and prediction."""
    from surrogate.gp.process import Data
    from surrogate.gp.trended import Hyperparameters, Trended

    n = bench.size(4000, 150)
    x = np.random.default_rng(0).standard_normal((n, DIMENSIONS))
    y = -0.5 * (x**2).sum(1) + np.sin(2.0 * x[:, 0])
    hyper = Hyperparameters.default(DIMENSIONS)
    values, family = {}, Trended()
    for device in dict.fromkeys(("cpu", str(bench.device))):
        data = Data.of(x, y, device=device)
        take = lambda t=data: family.negative_log_evidence(t, hyper.vector())  # noqa: E731
        values[device] = take()[0]
        yield seconds(f"marginal likelihood and gradient, n = {n}, {device}", bench.timed(take, 2))
    first, last = values["cpu"], values[str(bench.device)]
    yield below("value beside that of the CPU, relative", abs(last / first - 1.0), 1e-9)
    few = data.subset(np.arange(bench.size(2000, 100)))
    fitted, elapsed = bench.once(lambda: family.fit(few, [hyper]))
    yield seconds(f"fit of the hyperparameters, n = {len(few.y)}", elapsed)
    model = family.condition(few, fitted[0])
    new = np.random.default_rng(1).standard_normal((200, DIMENSIONS))
    error = np.abs(model.mean(new) - (-0.5 * (new**2).sum(1) + np.sin(2.0 * new[:, 0]))).mean()
    yield below("mean error of 200 predictions", float(error), 0.05 if bench.large else 1.0)


def cholesky(bench: Bench) -> Iterator[Row]:
    n = bench.size(40_000, 300)
    operator = bench.kernel("matern32", n, dtype=torch.float64)
    b = bench.normal(n, seed=1, dtype=torch.float64)
    factor, elapsed = bench.once(lambda: Cholesky.of(operator, 1e-4))
    yield seconds(f"dense float64 Cholesky with its matrix, n = {n}", elapsed)
    x = factor.solve(b)
    index = torch.arange(0, n, max(1, n // 1000), device=bench.device)
    yield below(
        "residual at 1,000 rows", relative(rows_of(operator, index).matmul(x) + 1e-4 * x[index], b[index]), 1e-8
    )


def products(bench: Bench) -> Iterator[Row]:
    """Every kernel at n = 1e5, and one of 1e6, against float64 rows."""
    n = bench.size(100_000, 2000)
    index = torch.arange(0, n, max(1, n // 500), device=bench.device)
    for kind in ("rbf", "matern12", "matern32", "matern52"):
        operator = bench.kernel(kind, n)
        for k in (1, 11):
            v = bench.normal(n, k, seed=1)
            exact = rows_of(operator, index).matmul(v.double())
            for road, one in (("default", operator), ("tiled", replace(operator, tiled=True))):
                elapsed = bench.timed(lambda o=one, w=v: o.matmul(w), 2)
                yield seconds(f"{kind} n = {n}, {k} columns, {road}", elapsed)
                # entries of the tiled form are off by sqrt(eps) where points are near, for the roughest kernel
                yield below("  error of rows, relative", relative(one.matmul(v)[index], exact), 2e-3)


def million(bench: Bench) -> Iterator[Row]:
    n = bench.size(1_000_000, 4000)
    operator, v = bench.kernel("rbf", n), bench.normal(n, 1, seed=1)
    out, elapsed = bench.once(lambda: operator.matmul(v))
    out, elapsed = bench.once(lambda: operator.matmul(v)) if bench.large else (out, elapsed)
    yield seconds(f"rbf n = {n}, 1 column, float32", elapsed)
    index = torch.arange(0, n, max(1, n // 500), device=bench.device)
    exact = rows_of(operator, index).matmul(v.double())
    yield below("  error of rows, relative", relative(out[index], exact), 1e-4)


def fused(bench: Bench) -> Iterator[Row]:
    """The fused product beside the time that the card needs for its arithmetic alone."""
    if not bench.large or importlib.util.find_spec("triton") is None:
        yield Row("fused product", "not run: needs CUDA and Triton", "a CUDA device with Triton", None)
        return
    from gpu_rates import rates

    fma, exp = rates(bench.timed)
    yield Row("multiply-adds in float32", f"{fma:.3g} / s")
    yield Row("exponentials in float32", f"{exp:.3g} / s")
    n = 200_000
    for kind in ("rbf", "matern32"):
        operator, v = bench.kernel(kind, n), bench.normal(n, 1, seed=1)
        elapsed = bench.timed(lambda o=operator, w=v: o.matmul(w))
        # a difference and a multiply-add a dimension, one for the sum; the exponential and the root run beside them
        arithmetic = n * n * (2 * DIMENSIONS + 1) / fma
        special = n * n * (1 if kind == "rbf" else 2) / exp
        floor = max(arithmetic, special)
        yield Row(f"{kind} n = {n}: time and floor", f"{elapsed:.3g} s and {floor:.3g} s")
        yield below("  time over floor", elapsed / floor, 3.0)
        plain = replace(operator, tiled=True)
        tiled = bench.timed(lambda o=plain, w=v: o.matmul(w))
        yield below("  fused over tiled", elapsed / tiled, 1.0)


def half(bench: Bench) -> Iterator[Row]:
    n, k = bench.size(200_000, 1500), 16
    v = bench.normal(n, k, seed=1)
    full = bench.kernel("matern12", n)
    index = torch.arange(0, n, max(1, n // 500), device=bench.device)
    exact = rows_of(full, index).matmul(v.double())
    for road in ("default", "tiled"):
        times = {}
        for precision in ("full", "tf32", "float16"):
            operator = replace(full, precision=precision, tiled=road == "tiled")
            times[precision] = bench.timed(lambda o=operator: o.matmul(v), 2)
            yield seconds(f"matern12 n = {n}, {k} columns, {precision}, {road}", times[precision])
            yield below("  error of rows, relative", relative(operator.matmul(v)[index], exact), 1e-2)
        ratio = times["full"] / times["float16"]
        good = ratio >= 1.3 if bench.large and road == "default" else None
        yield Row(f"  float32 over float16, {road}", f"{ratio:.2f}", ">= 1.3", good)


def refinement(bench: Bench) -> Iterator[Row]:
    n = bench.size(20_000, 500)
    for kind, precision, noise in (("rbf", "full", 1e-3), ("matern12", "full", 1e-4), ("matern12", "float16", 1e-1)):
        operator = bench.kernel(kind, n, dtype=torch.float64, lengthscale=4.0)
        b = bench.normal(n, seed=1, dtype=torch.float64)
        p = NystromPreconditioner.build(operator, noise, rank=min(500, n // 3), generator=bench.generator())
        low = operator.to(torch.float32, precision=precision)
        solve, elapsed = bench.once(
            lambda o=operator, r=b, w=low, s=noise, q=p: refine(o, r, low=w, noise=s, preconditioner=q)
        )
        yield seconds(
            f"refinement {kind} {precision} noise {noise:g}, n = {n}, {solve.corrections} corrections", elapsed
        )
        yield below("  residual in float64, relative", float(solve.residual), 1e-7)


def gradients(bench: Bench) -> Iterator[Row]:
    """Conjugate gradients at n up to a million, the residual checked at rows in float64."""
    for n, kind, noise, rank, bound in (
        (bench.size(100_000, 1000), "matern32", 0.1, 500, 1e-3),
        (bench.size(1_000_000, 3000), "matern12", 0.5, 500, 1e-2),
    ):
        operator = bench.kernel(kind, n)
        b = bench.normal(n, seed=1)
        rank = min(rank, n // 5)
        p, built = bench.once(
            lambda o=operator, s=noise, r=rank: NystromPreconditioner.build(o, s, rank=r, generator=bench.generator())
        )
        solve, elapsed = bench.once(
            lambda o=operator, r=b, s=noise, q=p, t=bound: cg(
                o, r, noise=s, preconditioner=q, tolerance=t, max_iterations=80
            )
        )
        yield seconds(f"{kind} n = {n}, preconditioner of rank {rank}", built)
        yield seconds(f"{kind} n = {n}, {solve.iterations} iterations to {bound:g}: {solve.status}", elapsed)
        index = torch.arange(0, n, max(1, n // 1000), device=bench.device)
        x = solve.x.double()
        left = rows_of(operator, index).matmul(x) + noise * x[index]
        yield below("  residual at 1,000 rows in float64", relative(left, b[index]), 2.0 * bound)
    if bench.large:
        yield Row("peak memory", f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GB", "< 40 GB hoped for")


def preconditioner(bench: Bench) -> Iterator[Row]:
    n, rank = bench.size(200_000, 1500), bench.size(2000, 150)
    x = torch.rand(n, DIMENSIONS, device=bench.device, generator=bench.generator())
    operator = KernelOperator.of("rbf", x, lengthscale=1.5)
    b = torch.sin(6.0 * x[:, 0]) + x[:, 1] * x[:, 2] + 0.03 * bench.normal(n, seed=1)
    p, built = bench.once(lambda: NystromPreconditioner.build(operator, 1e-3, rank=rank, generator=bench.generator()))
    yield seconds(f"rank {p.rank} of a rbf kernel, n = {n}", built)
    solve, elapsed = bench.once(lambda: cg(operator, b, noise=1e-3, preconditioner=p, tolerance=1e-4))
    yield seconds(f"  {solve.iterations} iterations to 1e-4: {solve.status}", elapsed)
    yield below("  iterations", solve.iterations, 40)
    few = bench.size(50_000, 1000)
    part = operator.selected(torch.arange(few, device=bench.device))
    diag = part.diag().sum()
    errors = [
        float((diag - f.factor.square().sum()) / diag)
        for f in (
            NystromPreconditioner.build(part, 1.0, rank=100, generator=bench.generator(3)).factor,
            random_cholesky(part, 100, generator=bench.generator(4)),
        )
    ]
    yield below("  trace error, accelerated over simple", errors[0] / errors[1], 1.3)


def determinant(bench: Bench) -> Iterator[Row]:
    n, rank = bench.size(50_000, 1000), bench.size(1000, 100)
    operator = bench.kernel("matern32", n, dtype=torch.float64)
    for r in (0, rank):
        p = NystromPreconditioner.build(operator, 0.1, rank=r, generator=bench.generator()) if r else None
        estimate, elapsed = bench.once(
            lambda q=p: log_determinant(
                operator, noise=0.1, generator=bench.generator(1), preconditioner=q, max_iterations=200
            )
        )
        error = abs(estimate.standard_error / estimate.value)
        yield Row(f"log-determinant n = {n}, rank {r}", f"{estimate.value:.6g} +- {estimate.standard_error:.2g}")
        yield seconds("  time", elapsed)
    yield below("  standard error, relative", error, 1e-3 if bench.large else 1e-1)
    few = bench.size(10_000, 500)
    part = operator.selected(torch.arange(few, device=bench.device))
    p = NystromPreconditioner.build(part, 0.1, rank=rank, generator=bench.generator())
    estimate = log_determinant(part, noise=0.1, generator=bench.generator(1), preconditioner=p)
    exact = Cholesky.of(part, 0.1).logdet()
    yield below("  off that of Cholesky, standard errors", abs(estimate.value - exact) / estimate.standard_error, 4.0)


def singular(bench: Bench) -> Iterator[Row]:
    n, k = bench.size(100_000, 500), bench.size(200, 20)
    operator = bench.kernel("rbf", n, lengthscale=4.0)
    (u, s, v), elapsed = bench.once(lambda: randomised_svd(operator, k, generator=bench.generator()))
    yield seconds(f"randomised SVD of a kernel, n = {n}, k = {k}, one power", elapsed)
    probe = operator.matmul(v[:, :5]) - u[:, :5] * s[:5]
    yield below("  residual of the first five, relative", float(probe.norm() / s[:5].norm()), 1e-2)


def selection(bench: Bench) -> Iterator[Row]:
    """Largest cluster, maximum distance, on sketched features of a pool."""
    from surrogate.selection.batch import select_batch
    from surrogate.selection.features import DenseFeatures

    pool, train, p, count = (bench.size(*pair) for pair in ((200_000, 500), (2000, 50), (512, 16), (256, 8)))
    known, unknown = DenseFeatures(bench.normal(train, p, seed=2)), DenseFeatures(bench.normal(pool, p, seed=3))
    chosen, elapsed = bench.once(lambda: select_batch(unknown, count, train=known, method="lcmd-tp", transforms=()))
    yield seconds(f"LCMD: {count} of {pool} points, {p} features, {train} labelled", elapsed)
    yield Row("  distinct points", f"{len(chosen.indices.unique())}", f"{count}", len(chosen.indices.unique()) == count)
    few = min(pool, 2000)
    halves = [
        select_batch(
            DenseFeatures(unknown.matrix[:few].to(device)),
            32 if bench.large else 4,
            train=DenseFeatures(known.matrix.to(device)),
            method="lcmd-tp",
            transforms=(),
        ).indices.cpu()
        for device in ("cpu", bench.device)
    ]
    same = float((halves[0] == halves[1]).double().mean())
    yield Row("  same points as on the CPU", f"{same:.0%}", "100%", same == 1.0)


def regressor(bench: Bench) -> Iterator[Row]:
    """The Gaussian-process regressor with its hyperparameters, by Cholesky and by conjugate gradients."""
    for n in (bench.size(20_000, 300), bench.size(200_000, 600)):
        yield from fitted(bench, n)


def fit_million(bench: Bench) -> Iterator[Row]:
    """A million points, hyperparameters included."""
    yield from fitted(bench, bench.size(1_000_000, 700))


def fit_largest(bench: Bench) -> Iterator[Row]:
    """As many as the largest tables on which Gaussian processes have been reported."""
    yield from fitted(bench, bench.size(1_800_000, 800))


def fitted(bench: Bench, n: int) -> Iterator[Row]:
    """A fit to a table that it should learn."""
    regression = importlib.import_module("surrogate.estimators.gp").GPRegressor
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n + 2000, DIMENSIONS))
    truth = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.1 * (x[:, 3] ** 2)
    y = truth + 0.1 * rng.standard_normal(len(x))
    model, elapsed = bench.once(lambda: regression(device=str(bench.device)).fit(x[:n], y[:n]))
    yield below(f"GPRegressor.fit, n = {n}, hyperparameters included", elapsed, 480.0, " s")
    yield Row("  how", model.status_)
    error = math.sqrt(np.mean((model.predict(x[n:]) - truth[n:]) ** 2) / truth.var())
    yield below("  error of 2,000 predictions over their spread", error, 0.05 if bench.large else 0.6)
    if bench.large:
        yield Row("  peak memory", f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GB")


def machine(bench: Bench) -> Iterator[Row]:
    """Least-squares support vectors."""
    lssvc = importlib.import_module("surrogate.svm.lssvc").LSSVC
    n = bench.size(100_000, 400)
    x = np.random.default_rng(0).standard_normal((2 * n, DIMENSIONS))
    sides = np.where((x**2).sum(1) < DIMENSIONS, 1, -1)
    model, elapsed = bench.once(lambda: lssvc(device=str(bench.device)).fit(x[:n], sides[:n]))
    yield seconds(f"LSSVC.fit, n = {n}", elapsed)
    yield below(
        "  wrong of as many new points", float((model.predict(x[n:]) != sides[n:]).mean()), 0.05 if bench.large else 0.3
    )


def network(bench: Bench) -> Iterator[Row]:
    """The network of the labelling runs."""
    networks = importlib.import_module("surrogate.estimators.network").NetworkRegressor
    n = bench.size(10_000, 100)
    x = np.random.default_rng(0).standard_normal((n + 1000, DIMENSIONS))
    y = np.sin(x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]
    options = {"device": str(bench.device), "n_members": 1, "epochs": bench.size(64, 2)}
    model, elapsed = bench.once(lambda: networks(**options).fit(x[:n], y[:n]))
    yield seconds(f"NetworkRegressor.fit, n = {n}, {options['epochs']} epochs", elapsed)
    error = math.sqrt(np.mean((model.predict(x[n:]) - y[n:]) ** 2) / y.var())
    yield below("  error of 1,000 predictions over their spread", error, 0.2 if bench.large else 1.5)


CHECKS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "triton": triton,
    "exact": exact_process,
    "cholesky": cholesky,
    "products": products,
    "million": million,
    "fused": fused,
    "half": half,
    "refinement": refinement,
    "cg": gradients,
    "preconditioner": preconditioner,
    "determinant": determinant,
    "svd": singular,
    "selection": selection,
    "regressor": regressor,
    "lssvc": machine,
    "network": network,
}
LONG: dict[str, Callable[[Bench], Iterator[Row]]] = {"fit-million": fit_million, "fit-largest": fit_largest}
BROKEN = 3  # exit status of a process whose device can no longer be used


def guarded(name: str, bench: Bench) -> Iterator[Row]:
    """The lines of a check; what it lacks or breaks on is a line, so that the others still run."""
    try:
        yield from (CHECKS | LONG)[name](bench)
    except (ImportError, AttributeError) as error:
        yield Row(name, f"missing: {error}", "present", False)
    except Exception as error:  # noqa: BLE001 a report of all parts is the purpose
        words = str(error).splitlines()[0] if str(error) else ""
        yield Row(name, f"failed: {type(error).__name__}: {words}", "", False)


def usable(bench: Bench) -> bool:
    """Whether the device still computes: after an illegal access every call fails until the process ends."""
    try:
        torch.ones(1, device=bench.device).sum().item()
        if bench.large:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
    except RuntimeError:
        return False
    return True


def child(device: torch.device, checks: list[str]) -> int:
    """Runs the checks here, one line of JSON a row and an empty one after each check."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    bench = Bench(device)
    for check in checks:
        for row in guarded(check, bench):
            print(json.dumps(asdict(row)), flush=True)
        print(flush=True)
        if not usable(bench):
            return BROKEN
    return 0


@dataclass
class Report:
    """The table as it is printed, and how many lines are not as wanted."""

    bad: int = 0

    def add(self, check: str, row: Row) -> None:
        """Prints a line."""
        mark = "" if row.good is None else "ok" if row.good else "NOT"
        self.bad += row.good is False
        print(f"| {check} | {row.quantity} | {row.value} | {row.wanted} | {mark} |", flush=True)


def lines_of(process: subprocess.Popen[str]) -> tuple[queue.Queue[str | None], threading.Thread]:
    """What the process prints, line after line, and None at its end; and who reads it."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        with process.stdout as stream:
            for line in stream:
                lines.put(line.strip())
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    return lines, reader


def run_in_child(device: str, checks: list[str], report: Report, limit: float, end: float) -> list[str]:
    """Runs checks in a new process until one has to be given up; those that are still to be run."""
    command = [sys.executable, __file__, "--device", device, "--only", ",".join(checks), "--child"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    (lines, reader), rest = lines_of(process), list(checks)
    until = min(time.perf_counter() + limit + STARTING, end)
    try:
        while rest:
            line = lines.get(timeout=max(until - time.perf_counter(), 0.0))
            if line is None:
                status = process.wait()
                if status == BROKEN and len(rest) < len(checks):
                    return rest
                report.add(rest[0], Row(rest[0], f"its process ended with status {status}", "", False))
                return rest[1:]
            if line:
                report.add(rest[0], Row(**json.loads(line)))
                continue
            rest, until = rest[1:], min(time.perf_counter() + limit, end)
            if time.perf_counter() > end - 10.0:
                return rest
    except queue.Empty:
        report.add(rest[0], Row(rest[0], "killed: longer than its limit or than the budget", "", False))
        return rest[1:]
    finally:
        process.kill()
        process.wait()
        reader.join()
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or cpu for a smoke test")
    names = ", ".join([*CHECKS, *LONG])
    parser.add_argument("--only", default=",".join(CHECKS), help=f"names with commas between, of: {names}")
    parser.add_argument("--budget", type=float, default=460.0, help="seconds of all checks together")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds of one check")
    parser.add_argument("--child", action="store_true", help="run them in this process, and print lines of JSON")
    options = parser.parse_args()
    device, checks = torch.device(options.device), options.only.split(",")
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no CUDA device here; --device cpu is a smoke test", file=sys.stderr)
        return 2
    unknown = set(checks) - set(CHECKS | LONG)
    if unknown:
        parser.error(f"--only takes names of {sorted(CHECKS | LONG)}, got {sorted(unknown)}")
    if options.child:
        return child(device, checks)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, tiny sizes: times mean nothing"
    print(f"{card}; torch {torch.__version__}\n\n| check | quantity | measured | wanted | |\n|---|---|---|---|---|")
    start, report = time.perf_counter(), Report()
    while checks and time.perf_counter() < start + options.budget - 10.0:
        checks = run_in_child(options.device, checks, report, options.limit, start + options.budget)
    for check in checks:
        report.add(check, Row("not started", f"the budget of {options.budget:g} s is spent"))
    print(f"\n{time.perf_counter() - start:.0f} s, {report.bad} not as wanted")
    return min(report.bad, 100)


if __name__ == "__main__":
    sys.exit(main())
