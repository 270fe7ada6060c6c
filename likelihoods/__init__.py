"""Ready targets: analytic ones with exact answers, and real-data ones."""

from likelihoods.desi import desi_lcdm, desi_w0wacdm
from likelihoods.target import Target

__all__ = ["Target", "desi_lcdm", "desi_w0wacdm"]
