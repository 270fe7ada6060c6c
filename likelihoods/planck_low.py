"""Planck 2018 at low multipoles in five bins: log-normal densities of the mean band power in each.

Prince & Dunkley (2022), arXiv:2104.05715, who fitted them to the Planck likelihoods; two bins of temperature and three
of E-mode polarisation. Their values are entered below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EE_BINS", "TT_BINS", "cobaya_low_l", "log_likelihood"]

# First and last multipole, mean and sd of the logarithm, and offset; band powers l (l + 1) C_l / 2 pi in microkelvin^2.
TT_BINS = (
    (2, 15, 6.717116274813354, 0.09246982093348896, 0.0),
    (16, 29, 6.733861137941956, 0.06038337798709543, 0.0),
)
EE_BINS = (
    (2, 5, -3.2021233001783513, 0.5113593277417658, 0.0),
    (6, 9, -3.9973872345587576, 0.3458173615714616, -0.018511796825340376),
    (10, 29, -3.358413048106572, 0.11384095195920513, -0.03462076357220606),
)


def log_likelihood(tt: NDArray[np.float64], ee: NDArray[np.float64]) -> float:
    """Log-likelihood of band powers from multipole 0 to at least 29, -inf where a bin is below its offset."""
    return sum(_bin(tt, *b) for b in TT_BINS) + sum(_bin(ee, *b) for b in EE_BINS)


def _bin(band_powers: NDArray[np.float64], first: int, last: int, mu: float, sigma: float, offset: float) -> float:
    power = float(np.mean(band_powers[first : last + 1])) - offset
    if not power > 0:
        return -np.inf
    return -0.5 * ((np.log(power) - mu) / sigma) ** 2 - np.log(power * sigma * np.sqrt(2 * np.pi))


def cobaya_low_l(_self: Any = None) -> float:
    """The same as an external likelihood of Cobaya with the requirement ``Cl: {tt: 29, ee: 29}``."""
    spectra = _self.provider.get_Cl(ell_factor=True, units="muK2")
    return log_likelihood(spectra["tt"], spectra["ee"])
