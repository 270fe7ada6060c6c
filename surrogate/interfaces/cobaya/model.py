"""Cobaya models for `surrogate.infer`: log-likelihood, prior and reference.

The log-likelihood is the sum of the model's log-likelihoods and external priors; one-dimensional priors are exact.
Worker processes import this module to evaluate points, so torch and the rest of the engine are not imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cobaya.log import LoggedError
from cobaya.model import Model, get_model
from cobaya.yaml import yaml_load_file

from surrogate.arrays import Array
from surrogate.inference.design import Reference
from surrogate.problem.prior import Parameter, Prior

__all__ = ["CobayaLikelihood", "Problem", "Stopped", "prior_of", "problem_of", "recorded_names", "reference_of"]


class Stopped(BaseException):  # not an Exception, because those of a likelihood are recorded and the run continues
    """Raised if a likelihood raises and ``stop_at_error`` is set."""


@dataclass(frozen=True, eq=False)
class CobayaLikelihood:
    """The log-likelihood of a Cobaya model, including external priors, with its derived parameters and chi2s.

    Attributes:
        model: The model.
        bounds: Support of the parameters, with shape (d, 2).
    """

    model: Model
    bounds: Array

    def __call__(self, point: Any, /) -> tuple[float, dict[str, float]]:
        """Log-likelihood and derived values at a point with shape (d,).

        Raises:
            ValueError: If a likelihood returns NaN or +inf.
        """
        x = np.clip(np.atleast_1d(np.asarray(point, dtype=np.float64)), *self.bounds.T)
        try:
            return self._evaluated(x)
        except Exception as error:
            if any(getattr(component, "stop_at_error", False) for component in self.model.components):
                raise Stopped(str(error)) from error
            self.model.log.warning(
                "Evaluation failed (%s) at %s", error, dict(zip(self._names, x.tolist(), strict=True))
            )
            raise

    @property
    def _names(self) -> list[str]:
        return list(self.model.parameterization.sampled_params())

    def _evaluated(self, x: Array) -> tuple[float, dict[str, float]]:
        found = self.model.logposterior(x)
        external = float(np.sum(found.logpriors[1:]))
        if not len(found.loglikes):
            return -np.inf, {}
        loglikes = dict(zip(self.model.likelihood, map(float, found.loglikes), strict=True))
        wrong = {name: value for name, value in loglikes.items() if not value < np.inf}
        if wrong and -np.inf not in loglikes.values():
            words = ", ".join(f"{name} is {value}" for name, value in wrong.items())
            msg = f"the log-likelihood of {words}"
            raise ValueError(msg)
        total = sum(loglikes.values()) + external
        if not np.isfinite(total):
            return -np.inf, {}
        names = self.model.parameterization.derived_params()
        derived = {name: _as_float(v) for name, v in zip(names, found.derived, strict=True)}
        derived |= {f"chi2__{name}": -2.0 * value for name, value in loglikes.items()}
        recorded = recorded_names(self.model)
        return total, {recorded[name]: value for name, value in derived.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.model.info(), getattr(self.model, "packages_path", None), self.bounds)


def recorded_names(model: Model) -> dict[str, str]:
    """Mapping from Cobaya's names of derived parameters and chi2s to the names under which they are recorded.

    Cobaya allows any names of likelihoods, such as "BAO+SN". In recorded names every character other than letters,
    digits, ".", "-" and "_" becomes "_", and names that are then equal get a number.
    """
    names = [*model.parameterization.derived_params(), *(f"chi2__{name}" for name in model.likelihood)]
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)
        plain = plain if plain[:1].isalpha() else f"d{plain}"
        candidates = (plain, *(f"{plain}_{number}" for number in range(2, len(names) + 2)))
        found[name] = next(word for word in candidates if word not in found.values())
    return found


def _as_float(value: Any) -> float:
    return np.nan if value is None else float(value)


def _rebuild(info: dict[str, Any], packages_path: str | None, bounds: Array) -> CobayaLikelihood:
    """Rebuilds the likelihood in another process from its description, since models cannot be pickled."""
    return CobayaLikelihood(get_model(info, packages_path=packages_path), bounds)


@dataclass(frozen=True, eq=False)
class Problem:
    """A Cobaya model in the form for `surrogate.infer`.

    Attributes:
        log_likelihood: Log-likelihood of the model.
        prior: The one-dimensional priors.
        reference: Location of the posterior expected by the model, or None.
    """

    log_likelihood: CobayaLikelihood
    prior: Prior
    reference: Reference | None


def problem_of(target: Any, integers: Sequence[str] | None = None) -> Problem:
    """The problem for a Cobaya model, its info dictionary or its yaml file.

    Args:
        target: The model.
        integers: Parameters that take only whole numbers, see ``prior_of``; if there are any, there is no reference.

    Raises:
        ValueError: If Cobaya cannot make a model of it, or ``integers`` is invalid.
    """
    try:
        model = target if isinstance(target, Model) else get_model(_description(target))
    except LoggedError as error:
        msg = f"Cobaya cannot make a model of {target if isinstance(target, str | os.PathLike) else 'this'}: {error}"
        raise ValueError(msg) from error
    prior = prior_of(model, integers)
    reference = None if prior.levels is not None else reference_of(model)
    return Problem(CobayaLikelihood(model, prior.bounds), prior, reference)


def _description(target: Any) -> dict[str, Any]:
    info = dict(target) if isinstance(target, Mapping) else yaml_load_file(os.fspath(target))
    if not isinstance(info, dict) or "likelihood" not in info or "params" not in info:
        msg = f"a Cobaya model has the blocks 'likelihood' and 'params', got {sorted(info or {})}"
        raise ValueError(msg)
    return {key: value for key, value in info.items() if key not in ("sampler", "output", "force", "resume", "test")}


def prior_of(model: Model, integers: Sequence[str] | None = None) -> Prior:
    """The one-dimensional priors of a Cobaya model.

    Args:
        model: The model.
        integers: Names of parameters with a uniform prior that take only whole numbers: those within the bounds, with
            equal probabilities.

    Raises:
        ValueError: If a name is not that of a sampled parameter, its prior is not uniform, or holds fewer than two
            whole numbers.
    """
    whole = _whole_numbers(model, () if integers is None else integers)
    labels, infos = model.parameterization.labels(), model.parameterization.sampled_params_info()
    return Prior(
        tuple(
            Parameter(name, label=labels.get(name), integers=whole[name])
            if name in whole
            else Parameter(
                name,
                tuple(pdf.interval(1)) if pdf.dist.name == "uniform" else pdf,
                label=labels.get(name),
                periodic=bool(infos[name].get("periodic", False)),
            )
            for name, pdf in zip(model.prior.params, model.prior.pdf, strict=True)
        )
    )


def _whole_numbers(model: Model, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The lowest and the highest whole number of each of the named parameters."""
    if isinstance(names, str):
        msg = f"integers must be a list of parameters, got {names!r}"
        raise ValueError(msg)
    densities, out = dict(zip(model.prior.params, model.prior.pdf, strict=True)), {}
    for name in names:
        if name not in densities or densities[name].dist.name != "uniform":
            msg = f"integers must be sampled parameters with a uniform prior, got {name!r}"
            raise ValueError(msg)
        low, high = densities[name].interval(1)
        out[name] = (int(np.ceil(low)), int(np.floor(high)))
        if not out[name][0] < out[name][1]:
            msg = f"the prior of {name!r} holds fewer than two whole numbers: {float(low):g} to {float(high):g}"
            raise ValueError(msg)
    return out


def reference_of(model: Model, covariance: Array | None = None) -> Reference | None:
    """The location of the posterior according to `ref`; None if any parameter has no `ref`.

    Args:
        model: The model.
        covariance: Estimated covariance of the posterior, with shape (d, d). Without it the widths of `ref` are used,
            or twice the `proposal` if that is wider. If `ref` is a point, there is no width.
    """
    mean, width = np.array([_moments(pdf) for pdf in model.prior.ref_pdf]).T
    if np.isnan(mean).any():
        return None
    if covariance is not None:
        return Reference(mean, covariance)
    infos = model.parameterization.sampled_params_info().values()
    width = np.maximum(width, [2.0 * float(info.get("proposal") or 0.0) for info in infos])
    return Reference(mean, np.diag(width**2) if (width > 0).all() else None)


def _moments(pdf: Any) -> tuple[float, float]:
    """Mean and sd of a `ref`, which is a distribution or a number; nan if there is none."""
    return (float(pdf.mean()), float(pdf.std())) if hasattr(pdf, "mean") and hasattr(pdf, "rvs") else (float(pdf), 0.0)
