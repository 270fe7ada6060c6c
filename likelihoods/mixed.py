"""Targets with categories and integers, whose level probabilities are known.

* `peaks`: a category of three and an integer from 1 to 6 beside two continuous parameters, exact by enumeration;
* `backgrounds`: wCDM and w0waCDM as two categories, with the data of `likelihoods.desi`;
* `fifty`: a category of fifty beside two continuous parameters, most of them far below the best, exact;
* `radial_velocities`: none, one or two planets, simulated, exact by quadrature over the periods.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

import surrogate
from likelihoods.desi import _LOG_EVIDENCE, desi_w0wacdm
from likelihoods.target import Array

__all__ = ["MixedTarget", "Velocities", "backgrounds", "fifty", "peaks", "radial_velocities"]


@dataclass(frozen=True, eq=False)
class MixedTarget:
    """A log-likelihood with categories or integers, and what is known about its posterior.

    Args:
        name: Name of the target.
        log_likelihood: Takes the parameters by name.
        prior: As ``surrogate.infer`` takes it.
        probabilities: Posterior probability of each value of each discrete parameter.
        log_evidence: Natural log of the evidence, or None.
        mean: Posterior mean of the continuous parameters, or None.
        sd: Their standard deviations, or None.
    """

    name: str
    log_likelihood: Callable[..., float]
    prior: dict[str, Any]
    probabilities: dict[str, dict[Any, float]]
    log_evidence: float | None = None
    mean: Array | None = None
    sd: Array | None = None


_KINDS = ("a", "b", "c")
_SIDE = 4.0  # of the box of x and y, centred on the origin


def _peak(kind: Any, n: Any, x: Any, y: Any) -> Any:
    """Log-likelihood of `peaks`: skewed peaks whose place, width and height depend on kind and n."""
    k = _KINDS.index(kind)
    left, low = 0.3 * np.sin(0.9 * n) + 0.25 * k - 0.1, 0.12 * (n - 3) - 0.2 * (k == 1)
    u, v = (x - left) / 0.22, (y - low - 0.5 * (x - left)) / (0.15 + 0.02 * n)
    height = (0.0, 0.6, -0.8)[k] - 0.25 * (n - 3.4) ** 2 + 0.15 * k * n
    return height - 0.5 * (u * u + v * v) - 0.08 * u**3 / (1.0 + 0.3 * u * u)


def _peak_at(kind: str, n: int, x: float, y: float) -> float:
    return float(_peak(kind, n, x, y))


def peaks(cells: int = 400) -> MixedTarget:
    """18 peaks, by a grid of ``cells`` times ``cells`` points for each level: good to 1e-6."""
    side = _SIDE * ((np.arange(cells) + 0.5) / cells - 0.5)
    x, y = np.meshgrid(side, side, indexing="ij")
    mass, first, second = np.zeros((3, 6)), np.zeros((3, 6, 2)), np.zeros((3, 6, 2))
    for k, kind in enumerate(_KINDS):
        for n in range(1, 7):
            density = np.exp(_peak(kind, n, x, y)) / cells**2
            mass[k, n - 1] = density.sum()
            first[k, n - 1] = (density * x).sum(), (density * y).sum()
            second[k, n - 1] = (density * x**2).sum(), (density * y**2).sum()
    share, mean = mass / mass.sum(), first.sum((0, 1)) / mass.sum()
    integers = dict(zip(range(1, 7), share.sum(0).tolist(), strict=True))
    return MixedTarget(
        "peaks",
        _peak_at,
        {
            "kind": surrogate.Parameter("kind", categories=_KINDS),
            "n": surrogate.Parameter("n", integers=(1, 6)),
            "x": (-_SIDE / 2, _SIDE / 2),
            "y": (-_SIDE / 2, _SIDE / 2),
        },
        {"kind": dict(zip(_KINDS, share.sum(1).tolist(), strict=True)), "n": integers},
        float(np.log(mass.sum() / 18)),
        mean,
        np.sqrt(second.sum((0, 1)) / mass.sum() - mean**2),
    )


@dataclass(frozen=True, eq=False)
class _Fifty:
    """Gaussians of one shape, at places and heights of their own."""

    places: Array
    heights: Array

    def __call__(self, kind: str, x: float, y: float) -> float:
        k = int(kind[1:])
        u, v = (x - self.places[k, 0]) / 0.12, (y - self.places[k, 1] - 0.4 * (x - self.places[k, 0])) / 0.2
        return float(self.heights[k] - 0.5 * (u * u + v * v))


def fifty(seed: int = 0) -> MixedTarget:
    """Fifty Gaussians that lie well within the box, with heights that spread over forty nats."""
    rng = np.random.default_rng(seed)
    places, heights = rng.uniform(-0.3, 0.3, (50, 2)), -rng.exponential(10.0, 50)
    share = np.exp(heights - logsumexp(heights))
    names = tuple(f"k{k}" for k in range(50))
    return MixedTarget(
        "fifty",
        _Fifty(places, heights),
        {"kind": surrogate.Parameter("kind", categories=names), "x": (-2.0, 2.0), "y": (-2.0, 2.0)},
        {"kind": dict(zip(names, share.tolist(), strict=True))},
        float(logsumexp(heights) + np.log(2.0 * np.pi * 0.12 * 0.2 / 16.0 / 50.0)),
    )


_LOG_EVIDENCE_WCDM = -28.008  # of a uniform prior, to 0.002: importance sampling with 150,000 draws of a Student t


@dataclass(frozen=True, eq=False)
class _Backgrounds:
    """Log-likelihood of one of two backgrounds; wa has no effect in wCDM."""

    log_likelihood: Callable[..., Any]

    def __call__(self, background: str, H0: float, Omega_m: float, w0: float, wa: float, omega_b: float) -> float:  # noqa: N803
        bend = 0.0 if background == "wCDM" else wa
        return float(self.log_likelihood(np.array([H0, Omega_m, w0, bend, omega_b])))


def backgrounds() -> MixedTarget:
    """WCDM and w0waCDM with equal prior probabilities; the evidence of wCDM was found by importance sampling."""
    target = desi_w0wacdm()
    ratio = float(np.exp(_LOG_EVIDENCE_WCDM - _LOG_EVIDENCE))
    return MixedTarget(
        "backgrounds",
        _Backgrounds(target.log_likelihood),
        {
            "background": surrogate.Parameter("background", categories=("wCDM", "w0waCDM")),
            **target.prior,
            "wa": surrogate.Parameter("wa", target.prior["wa"], only={"background": ["w0waCDM"]}),
        },
        {"background": {"wCDM": ratio / (1.0 + ratio), "w0waCDM": 1.0 / (1.0 + ratio)}},
    )


@dataclass(frozen=True, eq=False)
class Velocities:
    """Radial velocities of a star with none, one or two planets on circular orbits.

    v(t) = offset + sum_p (a_p cos(2 pi t / P_p) + b_p sin(2 pi t / P_p)); the offset has a flat prior and is integrated
    out. Units are days and m/s.

    Attributes:
        time: Epochs, with shape (n,).
        velocity: With shape (n,).
        sd: Standard deviation of the noise.
        periods: Bounds of the uniform prior of each period, with shape (2, 2).
        amplitude: Prior sd of a and b.
    """

    time: Array
    velocity: Array
    sd: float
    periods: tuple[tuple[float, float], tuple[float, float]]
    amplitude: float

    def __call__(
        self,
        n_planets: int,
        a1: float,
        b1: float,
        P1: float,
        a2: float,
        b2: float,
        P2: float,  # noqa: N803
    ) -> float:
        """Log-likelihood; parameters of planets that are not there have no effect."""
        model = np.zeros_like(self.time)
        for a, b, period in ((a1, b1, P1), (a2, b2, P2))[:n_planets]:
            phase = 2.0 * np.pi * self.time / period
            model += a * np.cos(phase) + b * np.sin(phase)
        residual = self.velocity - model
        return float(-0.5 * ((residual - residual.mean()) ** 2).sum() / self.sd**2)

    def prior(self) -> dict[str, Any]:
        """The prior as ``surrogate.infer`` takes it."""
        out: dict[str, Any] = {"n_planets": surrogate.Parameter("n_planets", integers=(0, 2))}
        for planet, bounds in enumerate(self.periods, start=1):
            out |= {f"a{planet}": norm(0.0, self.amplitude), f"b{planet}": norm(0.0, self.amplitude)}
            out[f"P{planet}"] = bounds
        for planet, names in enumerate(("a1 b1 P1", "a2 b2 P2"), start=1):
            for name in names.split():
                out[name] = surrogate.Parameter(name, out[name], only={"n_planets": list(range(planet, 3))})
        return out

    def log_evidences(self, cells: int = 60) -> Array:
        """Log evidences of none, one and two planets, with shape (3,): exact in a and b, a grid in the periods."""
        (low1, high1), (low2, high2) = self.periods
        middle = (np.arange(cells) + 0.5) / cells
        first = [self._columns(p) for p in low1 + (high1 - low1) * middle]
        second = [self._columns(p) for p in low2 + (high2 - low2) * middle]
        none = self._log_marginal(np.empty((len(self.time), 0)))
        one = logsumexp([self._log_marginal(a) for a in first]) - np.log(cells)
        two = logsumexp([self._log_marginal(np.hstack([a, b])) for a in first for b in second]) - 2.0 * np.log(cells)
        return np.array([none, one, two])

    def _columns(self, period: float) -> Array:
        phase = 2.0 * np.pi * self.time / period
        columns = np.stack([np.cos(phase), np.sin(phase)], 1)
        return columns - columns.mean(0)

    def _log_marginal(self, columns: Array) -> float:
        """Log-likelihood integrated over the prior of the coefficients of some columns."""
        scaled, y = columns * (self.amplitude / self.sd), self._residual
        precision = np.eye(columns.shape[1]) + scaled.T @ scaled
        right = scaled.T @ y
        return float(
            0.5 * right @ np.linalg.solve(precision, right) - 0.5 * y @ y - 0.5 * np.linalg.slogdet(precision)[1]
        )

    @cached_property
    def _residual(self) -> Array:
        return (self.velocity - self.velocity.mean()) / self.sd


def radial_velocities(seed: int = 0) -> MixedTarget:
    """40 epochs in 60 days with two weak planets, of which the second may as well be noise.

    Nested sampling (dynesty 3.1.0, 800 live points, a run for each number of planets, 177,000 calls) agrees with the
    exact answers: log evidences of -32.434 (±0.088) and -32.157 (±0.111) for one and two planets, exactly -32.464 and
    -32.218; probabilities of 0.000, 0.431 and 0.568 for none, one and two, exactly 0.000, 0.439 and 0.561.
    `scripts/planets_by_nested_sampling.py` does this.
    """
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0.0, 60.0, 40))
    velocity = 3.3 * np.cos(2.0 * np.pi * time / 4.3 + 0.7) + 2.2 * np.cos(2.0 * np.pi * time / 15.1 + 2.0)
    star = Velocities(time, velocity + rng.normal(0.0, 3.0, 40), 3.0, ((4.0, 4.6), (13.0, 17.5)), 5.0)
    log_evidence = star.log_evidences()
    share = np.exp(log_evidence - logsumexp(log_evidence))
    return MixedTarget(
        "radial_velocities",
        star,
        star.prior(),
        {"n_planets": dict(zip(range(3), share.tolist(), strict=True))},
        float(logsumexp(log_evidence) - np.log(3)),
    )
