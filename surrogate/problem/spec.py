"""Priors as JSON text, which makes the folder of a run self-contained; reading it back runs no code."""

from __future__ import annotations

import json
from typing import Any

from scipy import stats

from surrogate.problem.discrete import Discrete
from surrogate.problem.prior import Parameter, Prior

__all__ = ["prior_from_text", "prior_to_text"]


def prior_to_text(prior: Prior) -> str:
    """The prior as JSON, for ``prior_from_text``: names, labels, and bounds, values or named distributions."""
    return json.dumps([_entry(p) for p in prior.parameters])


def _entry(parameter: Parameter) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": parameter.name, "label": parameter.label, "periodic": parameter.periodic}
    if parameter.only:
        entry["only"] = parameter.only
    if parameter.above is not None:
        entry["above"] = parameter.above
    if isinstance(parameter.prior, tuple):
        return entry | {"bounds": [float(b) for b in parameter.prior]}
    if isinstance(parameter.prior, Discrete):
        return entry | {"values": list(parameter.prior.values), "weights": list(parameter.prior.weights)}
    frozen = parameter.prior
    args = [float(a) for a in frozen.args]
    kwds = {k: float(v) for k, v in frozen.kwds.items()}
    return entry | {"distribution": frozen.dist.name, "args": args, "kwds": kwds}


def prior_from_text(text: str) -> Prior:
    """The prior in the JSON of ``prior_to_text``.

    Raises:
        ValueError: If a distribution is not a continuous one of scipy.stats.
    """
    return Prior(tuple(_parameter(entry) for entry in json.loads(text)))


def _parameter(entry: dict[str, Any]) -> Parameter:
    common = {"label": entry["label"], "periodic": entry["periodic"]}
    common |= {name: entry.get(name) for name in ("only", "above")}
    if "bounds" in entry:
        low, high = entry["bounds"]
        return Parameter(entry["name"], (low, high), **common)
    if "values" in entry:
        return Parameter(entry["name"], Discrete(tuple(entry["values"]), tuple(entry["weights"])), **common)
    family = getattr(stats, entry["distribution"], None)
    if not isinstance(family, stats.rv_continuous):
        msg = (
            f"the prior of '{entry['name']}' is the distribution {entry['distribution']!r}, which scipy.stats does not "
            "have: pass the prior again to continue this run"
        )
        raise ValueError(msg)
    return Parameter(entry["name"], family(*entry["args"], **entry["kwds"]), **common)
