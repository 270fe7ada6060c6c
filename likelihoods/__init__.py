"""Ready targets: analytic ones with exact answers, and real-data ones."""

from collections.abc import Callable

from likelihoods import analytic, desi
from likelihoods.analytic import (
    angle,
    angles,
    banana,
    cliff,
    forbidden,
    funnel,
    gaussian,
    himmelblau,
    lognormal,
    needle,
    noisy_gaussian,
    ring,
    rosenbrock,
    shell,
    student,
    truncated_gaussian,
    twisted,
    two_modes,
)
from likelihoods.desi import desi_lcdm, desi_w0wacdm
from likelihoods.target import Target

TARGETS: dict[str, Callable[[], Target]] = {
    **analytic.TARGETS,
    "desi_lcdm": desi_lcdm,
    "desi_w0wacdm": desi_w0wacdm,
}
"""All targets by name; each value builds its target afresh."""

__all__ = [
    "TARGETS",
    "Target",
    "analytic",
    "angle",
    "angles",
    "banana",
    "cliff",
    "desi",
    "desi_lcdm",
    "desi_w0wacdm",
    "forbidden",
    "funnel",
    "gaussian",
    "himmelblau",
    "lognormal",
    "needle",
    "noisy_gaussian",
    "ring",
    "rosenbrock",
    "shell",
    "student",
    "truncated_gaussian",
    "twisted",
    "two_modes",
]
