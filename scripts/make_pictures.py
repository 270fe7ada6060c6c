"""Draws the pictures of docs/failures.md: likelihoods that a surrogate learns badly, and how a run shows it.

    scripts/make_pictures.py [FOLDER] [NAME ...]        # FOLDER defaults to docs/assets

Each picture shows the true posterior (grey, on a grid), the posterior of the run (blue) with its evaluations, and the
signals of convergence over their limits. The figures beside the pictures in the page are those that this script prints.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

import surrogate
from surrogate.output.plots import trace_figure
from surrogate.output.style import style

GRID = 300  # points along each side of the grid of the true posterior
SEED = 1
BUDGET = 120  # evaluations: enough for what converges, and a picture of what does not


@dataclass(frozen=True)
class Case:
    """A likelihood of two parameters, how its posterior is called, and options of the run."""

    likelihood: Callable[[float, float], float]
    prior: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    noiseless: Callable[[float, float], float] | None = None


def exchange(a: float, b: float) -> float:
    """Two lines of a spectrum, measured at 0.35 and 0.6: which is called a and which b is open."""
    return float(np.logaddexp(_normal(a, 0.35, b, 0.6), _normal(b, 0.35, a, 0.6)))


def _normal(a: float, a0: float, b: float, b0: float, sd: float = 0.05) -> float:
    return -0.5 * (((a - a0) / sd) ** 2 + ((b - b0) / sd) ** 2)


def kink(a: float, b: float) -> float:
    """A cone: its top is a point, which no smooth function has."""
    return -abs(a) / 0.3 - 0.5 * ((b - 0.5 * a) / 0.4) ** 2


def jump(a: float, b: float) -> float:
    """A normal density, and three nats less where a is positive: a table with too few digits, a switch of a solver."""
    return -0.5 * (a**2 + (b - 0.3 * a) ** 2) / 0.25 - (3.0 if a > 0.1 else 0.0)


def narrow(a: float, b: float) -> float:
    """A broad peak that every run finds, and one of 0.01 of the prior's width that holds two thirds of the mass."""
    broad = -0.5 * (a**2 + b**2) / 0.5**2
    height = np.log(2.0 * (0.5 / 0.02) ** 2)
    return float(np.logaddexp(broad, height - 0.5 * ((a - 1.37) ** 2 + (b + 1.21) ** 2) / 0.02**2))


def smooth(a: float, b: float) -> float:
    """What the noisy likelihoods estimate."""
    return -0.5 * (a**2 + (b - a**2) ** 2) / 0.4**2


def noisy(sd: float) -> Callable[[float, float], float]:
    """An estimate of it, with an error of its own at each point."""

    def likelihood(a: float, b: float) -> float:
        seed = np.frombuffer(np.array([a, b]).tobytes(), dtype=np.uint32)
        return smooth(a, b) + sd * float(np.random.default_rng(seed).standard_normal())

    return likelihood


BOX = {"a": (-2.0, 2.0), "b": (-2.0, 2.0)}
CASES = {
    "labels": Case(exchange, {"a": (0.0, 1.0), "b": (0.0, 1.0)}),
    "kink": Case(kink, BOX),
    "jump": Case(jump, BOX),
    "narrow": Case(narrow, BOX),
    "noise": Case(noisy(1.0), BOX, noiseless=smooth),
    "noise_declared": Case(noisy(1.0), BOX, {"noise": 1.0}, noiseless=smooth),
}


def main(folder: str = "docs/assets", *names: str) -> None:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for name in names or CASES:
        case = CASES[name]
        result = surrogate.infer(
            case.likelihood, case.prior, seed=SEED, max_evaluations=BUDGET, progress=False, **case.options
        )
        picture(case, result).savefig(place / f"failure_{name}.png", dpi=110, bbox_inches="tight")
        print(f"{name}: {result.n_evaluations} evaluations, {result.status}")
        print(f"    mean {np.round(result.mean, 3)}, sd {np.round(result.sd, 3)}, check {result.check}")
        mean, sd = moments(case)
        print(f"    true {np.round(mean, 3)}, sd {np.round(sd, 3)}", flush=True)


def truth(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Axes and the true posterior on a grid, normalised to a maximum of one."""
    (a0, a1), (b0, b1) = case.prior["a"], case.prior["b"]
    a, b = np.linspace(a0, a1, GRID), np.linspace(b0, b1, GRID)
    value = np.vectorize(case.noiseless or case.likelihood)(*np.meshgrid(a, b))
    return a, b, np.exp(value - value.max())


def moments(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """True means and standard deviations, from the grid."""
    a, b, density = truth(case)
    weights = density / density.sum()
    points = np.stack(np.meshgrid(a, b), axis=-1).reshape(-1, 2)
    mean = weights.ravel() @ points
    return mean, np.sqrt(weights.ravel() @ (points - mean) ** 2)


def picture(case: Case, result: Any) -> Any:
    """True and found posterior beside the signals."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(8.6, 3.6))
        left, right = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1.0, 1.35], "wspace": 0.28})
        a, b, density = truth(case)
        levels = mass_levels(density)
        left.contourf(a, b, density, levels=[levels[0], levels[1], 1.01], colors=["#dddddd", "#bbbbbb"])
        draws = result.samples[:: max(1, len(result.samples) // 4000)]
        counts, a_edges, b_edges = np.histogram2d(
            draws[:, 0], draws[:, 1], bins=45, range=[(a[0], a[-1]), (b[0], b[-1])]
        )
        middle = [0.5 * (edges[1:] + edges[:-1]) for edges in (a_edges, b_edges)]
        counts = gaussian_filter(counts, 1.2)
        found = mass_levels(counts)
        left.contour(*middle, counts.T, levels=sorted(set(found)), colors="#1b6ca8", linewidths=1.0)
        left.plot(*result.data.x.T, ".", ms=3.5, color="#d1495b")
        left.set(xlabel="$a$", ylabel="$b$", xlim=(a[0], a[-1]), ylim=(b[0], b[-1]))
        left.set_title("grey: truth; blue: the run; red: evaluations", fontsize=8.5)
        signals(right, result)
    return figure


def signals(axes: Any, result: Any) -> None:
    """The signals over their limits, as in the report."""
    upper = trace_figure(result.evidence, result.record).axes[0]
    for line in upper.get_lines():
        if not line.get_label().startswith("_"):
            axes.plot(*line.get_data(), "o-", ms=3, lw=1.1, color=line.get_color(), label=line.get_label())
    axes.axhspan(1e-300, 1.0, color="#eef4ea", lw=0, zorder=0)
    axes.axhline(1.0, color="#4d7c32", lw=0.9)
    axes.set(yscale="log", ylim=upper.get_ylim(), xlabel="evaluations", ylabel="signal / its limit")
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3, fontsize=7.5, columnspacing=1.0, handlelength=1.2
    )


def mass_levels(density: np.ndarray) -> list[float]:
    """Heights whose contours hold 95 and 68 % of the mass."""
    ordered = np.sort(density.ravel())[::-1]
    mass = np.cumsum(ordered) / ordered.sum()
    return [float(ordered[np.searchsorted(mass, level)]) for level in (0.95, 0.68)]


if __name__ == "__main__":
    main(*sys.argv[1:])
