"""Makes one report of each kind, to look at.

    scripts/make_reports.py FOLDER [NAME ...]

Kinds: converged, unconverged, failures, reference, labelling; names (hostile ones, LaTeX); large (5,000 evaluations).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.stats

import surrogate

SEED = 1


def gaussian(a: float, b: float, c: float) -> float:
    return -0.5 * ((a - 0.3) ** 2 / 0.01 + (b - a) ** 2 / 0.04 + (c - 0.5 * b) ** 2 / 0.02)


PRIOR = {
    "a": surrogate.Parameter("a", (-1, 2), label=r"\Omega_m h^2"),
    "b": surrogate.Parameter("b", scipy.stats.norm(0, 2), label=r"\sigma_8"),
    "c": surrogate.Parameter("c", (-2, 2), label=r"\log_{10} A_s"),
}


def posterior(folder: Path, likelihood: Callable[..., float] = gaussian, **options: int) -> surrogate.Result:
    return surrogate.infer(likelihood, PRIOR, output=folder, seed=SEED, progress=False, **options)


def converged(folder: Path) -> None:
    posterior(folder / "run_converged").report(folder / "converged.html")


def unconverged(folder: Path) -> None:
    def banana(a: float, b: float, c: float) -> float:
        return -0.5 * (a**2 / 0.2 + (b - a**2) ** 2 / 0.01 + (c - b) ** 2 / 0.01)

    posterior(folder / "run_unconverged", banana, max_evaluations=24).report(folder / "unconverged.html")


def failures(folder: Path) -> None:
    def fragile(a: float, b: float, c: float) -> float:
        if b > 0.9:
            msg = "the solver did not converge after 1000 iterations: residual <0.3 & growing>"
            raise RuntimeError(msg)
        if c > 1.5:
            return float("nan")
        return -np.inf if a < -0.5 else gaussian(a, b, c)

    posterior(folder / "run_failures", fragile, max_evaluations=40).report(folder / "failures.html")


def reference(folder: Path) -> None:
    rng = np.random.default_rng(SEED)
    a = 0.3 + 0.1 * rng.standard_normal(20_000)
    b = a + 0.2 * rng.standard_normal(20_000)
    c = 0.5 * b + 0.02**0.5 * rng.standard_normal(20_000)
    exact = np.stack([a, b, c], axis=1)
    posterior(folder / "run_converged").report(folder / "reference.html", reference=exact)


def labelling(folder: Path) -> None:
    rng = np.random.default_rng(SEED)
    table = {
        "width": rng.uniform(1, 9, 300).round(2),
        "kind": rng.choice(["oak", "pine", "<b>ash</b>"], 300, p=[0.6, 0.3, 0.1]),
        "age": rng.integers(1, 80, 300).astype(float),
    }

    def price(row: dict) -> float:
        if row["age"] > 77:
            msg = "sold out"
            raise ValueError(msg)
        value = row["width"] ** 2 * {"oak": 3.0, "pine": 1.0}.get(row["kind"], 5.0)
        return 20 * value if row["age"] == 40 else value + rng.normal(0, 2)

    run = surrogate.label(table, "price ($)", oracle=price, budget=80, batch_size=20, progress=False)
    run.report(folder / "labelling.html")


def observables(folder: Path) -> None:
    times = np.linspace(0.0, 4.0, 30)

    def simulator(rate: float, amplitude: float) -> np.ndarray:
        return amplitude * np.exp(-rate * times)

    data = simulator(0.7, 2.0) + 0.05 * np.random.default_rng(SEED).standard_normal(30)
    target = surrogate.Observables(simulator, surrogate.GaussianData(data, np.full(30, 0.05**2)))
    prior = {"rate": (0.1, 2.0), "amplitude": (0.5, 5.0)}
    result = surrogate.infer(target, prior, output=folder / "run_observables", seed=SEED, progress=False)
    result.report(folder / "observables.html")


def names(folder: Path) -> None:
    """Names that a prior would refuse; a result made by hand may have them."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.finished import result

    made = result(
        names=("<script>alert(1)</script>", "x&y"), labels=("<script>alert(1)</script>", r"\frac{\Omega_m}{h^2}")
    )
    made.report(folder / "names.html")


def large(folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.finished import dataset, result, trace

    data = dataset(5000)
    made = result(n=10_000, data=data, trace=trace(data, rows=900), n_evaluations=5000)
    start, cpu = time.perf_counter(), time.process_time()
    made.report(folder / "large.html")
    size = (folder / "large.html").stat().st_size / 1e6
    print(
        f"5,000 evaluations: {time.perf_counter() - start:.1f} s, {time.process_time() - cpu:.1f} CPU s, {size:.2f} MB"
    )


KINDS = {
    made.__name__: made for made in (converged, unconverged, failures, reference, labelling, observables, names, large)
}


def main(folder: str, *kinds: str) -> None:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for kind in kinds or KINDS:
        KINDS[kind](place)
        print(place / f"{kind}.html", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
