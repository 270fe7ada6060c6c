"""MontePython: its likelihood as a function, and runs that write chains for its ``info``.

MontePython does not support external samplers. This module uses the pair (cosmo, data) made by its ``initialise``, and
``sampler.compute_lkl``; see docs/cobaya.md for a script. It does not import MontePython.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surrogate.inference.result import Result
from surrogate.inference.run import infer
from surrogate.output.montepython import save_chain
from surrogate.problem.prior import Parameter, Prior

__all__ = ["MontePythonLikelihood", "infer_montepython", "prior_of"]

_IMPOSSIBLE = -1e29  # MontePython's `boundary_loglike` is -1e30


@dataclass(frozen=True, eq=False)
class MontePythonLikelihood:
    """The log-likelihood of MontePython's (cosmo, data), with its derived parameters.

    Attributes:
        cosmo: Instance of the Boltzmann code.
        data: Instance of MontePython's ``Data``; its current parameter values are changed by each call.
        compute_lkl: ``montepython.sampler.compute_lkl``.
    """

    cosmo: Any
    data: Any
    compute_lkl: Callable[[Any, Any], float]

    def __call__(self, point: NDArray[np.float64], /) -> tuple[float, dict[str, float]]:
        """Log-likelihood and derived values at a point, in MontePython's units (divided by the scale)."""
        for name, value in zip(self.data.get_mcmc_parameters(["varying"]), np.atleast_1d(point).tolist(), strict=True):
            self.data.mcmc_parameters[name]["current"] = value
        self.data.update_cosmo_arguments()
        value = float(self.compute_lkl(self.cosmo, self.data))
        if value < _IMPOSSIBLE:
            return -np.inf, {}
        derived = self.data.get_mcmc_parameters(["derived"])
        return value, {_word(name): float(self.data.mcmc_parameters[name]["current"]) for name in derived}


def prior_of(data: Any) -> Prior:
    """The priors of MontePython's varying parameters.

    Raises:
        ValueError: If a prior is not flat and bounded, which MontePython's nested samplers require too.
    """
    return Prior(tuple(_parameter(name, data.mcmc_parameters[name]) for name in data.get_mcmc_parameters(["varying"])))


def _parameter(name: str, entry: Any) -> Parameter:
    prior = entry["prior"]
    low, high = getattr(prior, "prior_range", (None, None))
    if prior.prior_type != "flat" or low is None or high is None:
        msg = f"the parameter '{name}' needs a flat prior with two bounds, got {prior.prior_type} with ({low}, {high})"
        raise ValueError(msg)
    return Parameter(_word(name), (float(low), float(high)), label=str(entry.get("tex_name") or name))


def _word(name: str) -> str:
    """A name with only letters, digits, '_', '.' and '-', made of names such as 100*theta_s or ln10^{10}A_s."""
    word = re.sub(r"[^\w.-]+", "_", name).strip("_")
    return word if word[:1].isalpha() else f"p_{word}"


def infer_montepython(
    cosmo: Any,
    data: Any,
    compute_lkl: Callable[[Any, Any], float],
    *,
    folder: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Result:
    """The result of `surrogate.infer` for a MontePython set-up.

    Args:
        cosmo: Instance of the Boltzmann code.
        data: Instance of MontePython's ``Data``.
        compute_lkl: ``montepython.sampler.compute_lkl``.
        folder: Folder to which to write the chain in MontePython's layout; None to write none.
        **options: Options of `surrogate.infer`.

    Raises:
        ValueError: If a prior is not flat and bounded, or an option is wrong.
    """
    result = infer(MontePythonLikelihood(cosmo, data, compute_lkl), prior_of(data), **options)
    if folder is not None:
        spelled = {_word(name): name for name in data.get_mcmc_parameters(["derived"])}
        save_chain(
            result.draws,
            result.record,
            folder,
            names=data.get_mcmc_parameters(["varying"]),
            derived_names=[spelled.get(name, name) for name in result.derived_names],
        )
    return result
