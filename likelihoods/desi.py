r"""Expansion history from DESI DR2: baryon acoustic oscillations, cosmic chronometers and nucleosynthesis.

Two posteriors of published numbers that need no other code or file:

* `desi_w0wacdm`: (H0, Omega_m, w0, wa, omega_b) of flat w0waCDM with all three data sets;
* `desi_lcdm`: (Omega_m, h r_d) of flat LambdaCDM with the BAO distances alone.

Conventions. Omega_m is all that is matter today: cold dark matter, baryons and one neutrino of 0.06 eV, which has long
been non-relativistic at the redshifts of the data. Photons (2.7255 K) and the two massless neutrinos, with two thirds
of N_eff = 3.044, are radiation. Dark energy fills up to flatness, with w(a) = w0 + wa (1 - a) (Chevallier & Polarski
2001, Linder 2003). Rates are in km/s/Mpc, distances comoving in Mpc. Log-likelihoods are -chi^2 / 2, natural, without
the constant of the data.

References:
    DESI Collaboration (2025), arXiv:2503.14738: distances (rounded from the released likelihood), priors, and the
        formula of the sound horizon.
    Moresco et al. (2016), arXiv:1601.01701, table 4: the compilation of H(z).
    Schoeneberg (2024), arXiv:2401.15054: omega_b from nucleosynthesis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.linalg import block_diag

from likelihoods.grid import Grid
from likelihoods.target import Array, RowWise, Target

__all__ = [
    "BAO_COVARIANCE",
    "BAO_DISTANCES",
    "BAO_REDSHIFTS",
    "CHRONOMETERS",
    "Background",
    "bao_distances",
    "derived",
    "desi_lcdm",
    "desi_w0wacdm",
    "log_likelihood",
    "observables",
    "sound_horizon",
]

SPEED_OF_LIGHT = 299792.458
HUBBLE_TIME_GYR = 977.7922217  # of a rate of 1 km/s/Mpc
N_EFF = 3.044
OMEGA_PHOTONS = 2.4728e-5  # times h^2, at 2.7255 K
OMEGA_RADIATION = OMEGA_PHOTONS * (1 + 7 / 8 * (4 / 11) ** (4 / 3) * N_EFF * 2 / 3)
OMEGA_NEUTRINO = 0.06 / 93.14  # times h^2, of the massive one
OMEGA_B_BBN, OMEGA_B_BBN_SD = 0.02218, 0.00055

# D_V / r_d, the one isotropic distance: z, value, sd.
_BAO_ISOTROPIC = (0.295, 7.942, 0.076)
# z, D_M / r_d, sd, D_H / r_d, sd, correlation of the two.
_BAO_PAIRS = np.array(
    [
        [0.510, 13.588, 0.168, 21.863, 0.429, -0.452],
        [0.706, 17.351, 0.180, 19.455, 0.334, -0.395],
        [0.934, 21.576, 0.162, 17.641, 0.201, -0.347],
        [1.321, 27.601, 0.325, 14.176, 0.225, -0.398],
        [1.484, 30.512, 0.764, 12.817, 0.518, -0.494],
        [2.330, 38.989, 0.532, 8.632, 0.101, -0.431],
    ]
)
BAO_REDSHIFTS: Array = np.append(_BAO_ISOTROPIC[0], _BAO_PAIRS[:, 0])
"""Effective redshifts of the seven bins, with shape (7,)."""

BAO_DISTANCES: Array = np.append(_BAO_ISOTROPIC[1], _BAO_PAIRS[:, [1, 3]])
"""Distances over r_d, with shape (13,): D_V of the first bin, then D_M and D_H of each of the others."""

BAO_COVARIANCE: Array = block_diag(
    _BAO_ISOTROPIC[2] ** 2, *([[s**2, r * s * t], [r * s * t, t**2]] for s, t, r in _BAO_PAIRS[:, [2, 4, 5]])
)
"""Covariance of `BAO_DISTANCES`, with shape (13, 13): bins are independent of one another."""

CHRONOMETERS: Array = np.array(
    [
        [0.0700, 69.0, 19.6],
        [0.0900, 69.0, 12.0],
        [0.1200, 68.6, 26.2],
        [0.1700, 83.0, 8.0],
        [0.1790, 75.0, 4.0],
        [0.1990, 75.0, 5.0],
        [0.2000, 72.9, 29.6],
        [0.2700, 77.0, 14.0],
        [0.2800, 88.8, 36.6],
        [0.3520, 83.0, 14.0],
        [0.3802, 83.0, 13.5],
        [0.4000, 95.0, 17.0],
        [0.4004, 77.0, 10.2],
        [0.4247, 87.1, 11.2],
        [0.4497, 92.8, 12.9],
        [0.4783, 80.9, 9.0],
        [0.4800, 97.0, 62.0],
        [0.5930, 104.0, 13.0],
        [0.6800, 92.0, 8.0],
        [0.7810, 105.0, 12.0],
        [0.8750, 125.0, 17.0],
        [0.8800, 90.0, 40.0],
        [0.9000, 117.0, 23.0],
        [1.0370, 154.0, 20.0],
        [1.3000, 168.0, 17.0],
        [1.3630, 160.0, 33.6],
        [1.4300, 177.0, 18.0],
        [1.5300, 140.0, 14.0],
        [1.7500, 202.0, 40.0],
        [1.9650, 186.5, 50.4],
    ]
)
"""Cosmic chronometers, with shape (30, 3): redshift, H(z) and its standard deviation in km/s/Mpc, independent."""

# Rows that whiten a residual: L^-1 of the covariance L L^T.
_BAO_WHITENING = np.linalg.inv(np.linalg.cholesky(BAO_COVARIANCE))
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_AGE_NODES, _AGE_WEIGHTS = np.polynomial.legendre.leggauss(64)

_NAMES = ("H0", "Omega_m", "w0", "wa", "omega_b")
_LABELS = ("H_0", r"\Omega_\mathrm{m}", "w_0", "w_a", r"\Omega_\mathrm{b} h^2")
_BOUNDS = np.array([[20.0, 100.0], [0.01, 0.99], [-3.0, 1.0], [-3.0, 2.0], [0.005, 0.1]])

# Posterior of w0waCDM by importance sampling with 4 million draws of a mixture fitted to a chain: the moments are good
# to 0.001 standard deviations, the evidence to 0.00015.
_LOG_EVIDENCE = -27.3895
_MEAN = np.array([64.7482, 0.350768, -0.507986, -1.57409, 0.02215547])
_COVARIANCE = np.array(
    [
        [4.19196, -0.0443103, -0.434161, 1.19847, 2.14803e-4],
        [-0.0443103, 8.1128e-4, 6.68487e-3, -0.0224701, -1.57359e-6],
        [-0.434161, 6.68487e-3, 0.0616184, -0.201150, -1.06445e-5],
        [1.19847, -0.0224701, -0.201150, 0.710953, 4.71935e-5],
        [2.14803e-4, -1.57359e-6, -1.06445e-5, 4.71935e-5, 2.89355e-7],
    ]
)
# Maximum over the box of the log-likelihood minus the log-density of `_proposal`, -19.587 by differential evolution.
_LOG_RATIO = -19.58


@dataclass(frozen=True, eq=False)
class Background:
    """Flat w0waCDM expansion histories, one for each of m rows.

    Args:
        hubble: H0 in km/s/Mpc, with shape (m,).
        matter: Omega_m, with shape (m,).
        w0: Equation of state of dark energy today, with shape (m,).
        wa: Minus its derivative with respect to the scale factor, with shape (m,).
    """

    hubble: Array
    matter: Array
    w0: Array
    wa: Array

    @property
    def radiation(self) -> Array:
        """Omega_r of photons and massless neutrinos, with shape (m,)."""
        return OMEGA_RADIATION / (self.hubble / 100) ** 2

    def rate(self, z: ArrayLike) -> Array:
        """H(z) in km/s/Mpc at redshifts with shape (k,), as an array with shape (m, k)."""
        stretch = 1 + np.asarray(z, dtype=np.float64)
        return self.hubble[:, None] * np.sqrt(self._density(stretch))

    def comoving_distance(self, z: ArrayLike) -> Array:
        """Comoving distance in Mpc to ascending redshifts with shape (k,), as an array with shape (m, k).

        Gauss-Legendre rule of 8 nodes between each redshift and the one before.
        """
        edges = np.append(0.0, z)
        half = np.diff(edges)[:, None] / 2
        nodes = edges[:-1, None] + half * (1 + _NODES)
        inverse = SPEED_OF_LIGHT / self.rate(nodes.ravel()).reshape(-1, *nodes.shape)
        return np.cumsum((inverse * half * _WEIGHTS).sum(-1), axis=1)

    def age(self) -> Array:
        """Age today in Gyr, with shape (m,), by a rule in the square root of the scale factor."""
        root = (1 + _AGE_NODES) / 2
        integrand = 2 / (root * np.sqrt(self._density(root**-2)))
        return HUBBLE_TIME_GYR / self.hubble * (integrand @ (_AGE_WEIGHTS / 2))

    def _density(self, stretch: Array) -> Array:
        """H^2 / H0^2 at 1 + z with shape (k,), as an array with shape (m, k)."""
        powers = np.stack([self.matter, self.radiation], axis=1) @ np.stack([stretch**3, stretch**4])
        exponents = np.stack([1 + self.w0 + self.wa, -self.wa], axis=1)
        dark = np.exp(exponents @ np.stack([3 * np.log(stretch), 3 * (1 - 1 / stretch)]))
        return powers + (1 - self.matter - self.radiation)[:, None] * dark


def sound_horizon(omega_b: ArrayLike, omega_bc: ArrayLike) -> Array:
    """Sound horizon at the drag epoch in Mpc, by the power law of the DESI paper.

    r_d = 147.05 Mpc (omega_b / 0.02236)^-0.13 (omega_bc / 0.1432)^-0.23 (N_eff / 3.04)^-0.1

    The pivot 0.1432 is Planck's matter with its neutrinos, so at Planck's omega_bc this is 0.1 % above Planck's r_d.

    Args:
        omega_b: Omega_b h^2, positive (not checked).
        omega_bc: The same of baryons and cold dark matter together, positive (not checked).
    """
    baryons = (np.asarray(omega_b) / 0.02236) ** -0.13
    return 147.05 * baryons * (np.asarray(omega_bc) / 0.1432) ** -0.23 * (N_EFF / 3.04) ** -0.1


def desi_w0wacdm() -> Target:
    """Posterior of (H0, Omega_m, w0, wa, omega_b) from BAO, cosmic chronometers and nucleosynthesis.

    The box is that of the DESI paper. The likelihood is -inf where w0 + wa >= 0, which has no matter era, and where
    there is less matter than baryons and neutrinos. Nucleosynthesis is a Gaussian factor of the likelihood. One call
    takes well below a millisecond. Draws are by rejection, of which one proposal in 17 is accepted.
    """
    return Target(
        name="desi_w0wacdm",
        names=_NAMES,
        labels=_LABELS,
        bounds=_BOUNDS.copy(),
        log_likelihood=RowWise(_log_likelihood_w0wacdm, 5),
        draw=_draw_w0wacdm,
        log_evidence=_LOG_EVIDENCE,
        mean=_MEAN.copy(),
        covariance=_COVARIANCE.copy(),
    )


def observables(H0: float, Omega_m: float, w0: float, wa: float, omega_b: float) -> Array | float:
    """What the data of `desi_w0wacdm` measure, 44 numbers, by parameter name; -inf where there is no such universe.

    The 13 distances over r_d in the order of `BAO_DISTANCES`, the rates of `CHRONOMETERS`, and omega_b.
    """
    omega_bc = Omega_m * (H0 / 100) ** 2 - OMEGA_NEUTRINO
    if w0 + wa >= 0.0 or omega_bc < omega_b:
        return -np.inf
    background = Background(*(np.array([a], dtype=np.float64) for a in (H0, Omega_m, w0, wa)))
    distances = bao_distances(background, np.atleast_1d(sound_horizon(omega_b, omega_bc)))[0]
    return np.concatenate([distances, background.rate(CHRONOMETERS[:, 0])[0], [omega_b]])


def log_likelihood(H0: float, Omega_m: float, w0: float, wa: float, omega_b: float) -> tuple[float, dict[str, float]]:
    """Log-likelihood of `desi_w0wacdm` by parameter name, and the derived quantities.

    >>> value, more = log_likelihood(H0=68.5, Omega_m=0.2975, w0=-1.0, wa=0.0, omega_b=0.02218)
    >>> f"{value:.2f} {more['h_r_d']:.2f}"
    '-12.55 101.52'
    """
    point = np.array([[H0, Omega_m, w0, wa, omega_b]], dtype=np.float64)
    value = float(_log_likelihood_w0wacdm(point)[0])
    return value, derived(H0, Omega_m, w0, wa, omega_b)


def derived(H0: float, Omega_m: float, w0: float, wa: float, omega_b: float) -> dict[str, float]:
    """Sound horizon r_d and h r_d in Mpc, age in Gyr, and omega_m = Omega_m h^2.

    The first two are NaN where there is no cold dark matter.
    """
    omega_bc = Omega_m * (H0 / 100) ** 2 - OMEGA_NEUTRINO
    r_d = float(sound_horizon(omega_b, omega_bc)) if omega_bc >= omega_b else np.nan
    background = Background(*(np.array([a], dtype=np.float64) for a in (H0, Omega_m, w0, wa)))
    values = {"r_d": r_d, "h_r_d": H0 / 100 * r_d, "age": background.age()[0], "omega_m": Omega_m * (H0 / 100) ** 2}
    return {name: float(value) for name, value in values.items()}


def desi_lcdm() -> Target:
    """Posterior of (Omega_m, h r_d) in flat LambdaCDM from the BAO distances alone, with draws from a fine grid.

    The published result is Omega_m = 0.2975 +- 0.0086 and h r_d = 101.54 +- 0.73 Mpc. The rate H0 is left free by these
    data and enters through the radiation alone, for which it is 68 km/s/Mpc.
    """
    bounds = np.array([[0.01, 0.99], [10.0, 1000.0]])
    # Seven standard deviations and more to each side; the density outside is below e^-25 of the peak.
    grid = Grid.of(_log_likelihood_lcdm, np.array([[0.235, 0.375], [96.0, 107.5]]), 400)
    mean, covariance = grid.moments()
    return Target(
        name="desi_lcdm",
        names=("Omega_m", "h_r_d"),
        labels=(r"\Omega_\mathrm{m}", r"h r_\mathrm{d}"),
        bounds=bounds,
        log_likelihood=RowWise(_log_likelihood_lcdm, 2),
        draw=grid.draw,
        log_evidence=grid.log_integral - float(np.log(np.diff(bounds, axis=1)).sum()),
        mean=mean,
        covariance=covariance,
    )


def _log_likelihood_w0wacdm(x: Array) -> Array:
    """Log-likelihood of rows (H0, Omega_m, w0, wa, omega_b), with shape (m,)."""
    hubble, matter, w0, wa, omega_b = x.T
    omega_bc = matter * (hubble / 100) ** 2 - OMEGA_NEUTRINO
    allowed = (w0 + wa < 0) & (omega_bc >= omega_b)
    background = Background(hubble, matter, w0, wa)
    r_d = sound_horizon(omega_b, np.where(allowed, omega_bc, 0.1432))
    chi2 = _chi2_bao(background, r_d) + _chi2_chronometers(background) + ((omega_b - OMEGA_B_BBN) / OMEGA_B_BBN_SD) ** 2
    return np.where(allowed, -0.5 * chi2, -np.inf)


def _proposal() -> stats._multivariate.multivariate_t_frozen:
    """Student t of 4 degrees, wider than the posterior."""
    return stats.multivariate_t(_MEAN, 2 * _COVARIANCE, df=4)


def _draw_w0wacdm(n: int, rng: np.random.Generator) -> Array:
    """Independent draws of (H0, Omega_m, w0, wa, omega_b), with shape (n, 5)."""
    kept = np.empty((0, 5))
    while len(kept) < n:
        x = _proposal().rvs(min(16 * n + 100, 10_000), random_state=rng)
        x = x[np.all((x >= _BOUNDS[:, 0]) & (x <= _BOUNDS[:, 1]), axis=1)]
        log_ratio = _log_likelihood_w0wacdm(x) - _proposal().logpdf(x) - _LOG_RATIO
        kept = np.concatenate([kept, x[np.log(rng.random(len(x))) < log_ratio]])
    return kept[:n]


def _log_likelihood_lcdm(x: Array) -> Array:
    """Log-likelihood of rows (Omega_m, h r_d), with shape (m,)."""
    matter, h_r_d = x.T
    hubble = np.full(len(x), 68.0)
    background = Background(hubble, matter, np.full(len(x), -1.0), np.zeros(len(x)))
    return -0.5 * _chi2_bao(background, h_r_d / 0.68)


def _chi2_bao(background: Background, r_d: Array) -> Array:
    """Chi-squared of the 13 distances, with shape (m,)."""
    residual = bao_distances(background, r_d) - BAO_DISTANCES
    return ((residual @ _BAO_WHITENING.T) ** 2).sum(1)


def bao_distances(background: Background, r_d: Array) -> Array:
    """The 13 distances over r_d, (m,) in Mpc, in the order of `BAO_DISTANCES`, with shape (m, 13)."""
    transverse = background.comoving_distance(BAO_REDSHIFTS)
    radial = SPEED_OF_LIGHT / background.rate(BAO_REDSHIFTS)
    isotropic = np.cbrt(BAO_REDSHIFTS[0] * transverse[:, :1] ** 2 * radial[:, :1])
    pairs = np.stack([transverse[:, 1:], radial[:, 1:]], axis=2)
    return np.concatenate([isotropic, pairs.reshape(len(pairs), 12)], axis=1) / r_d[:, None]


def _chi2_chronometers(background: Background) -> Array:
    """Chi-squared of the 30 expansion rates, with shape (m,)."""
    z, rate, sd = CHRONOMETERS.T
    return (((background.rate(z) - rate) / sd) ** 2).sum(1)
