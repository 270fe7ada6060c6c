"""The best fit of a run in the files of Cobaya's ``minimize``, written by Cobaya's own code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cobaya.collection import OnePoint
from cobaya.model import Model

from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from surrogate.inference.best_fit import BestFit

__all__ = ["ENDINGS", "checked_objective", "one_point", "write_best_fit"]

ENDINGS = {"posterior": "minimum", "likelihood": "bestfit"}
"""Extensions of the files by what was maximised; each file has a ``.txt`` beside it."""


def checked_objective(given: Any, model: Model) -> str | None:
    """The checked option ``best_fit``: None, "posterior" or "likelihood".

    Raises:
        ValueError: If it is something else, or "likelihood" for a model with external priors, which a run cannot
            separate from likelihoods.
    """
    if given == "likelihood" and len(model.prior) > 1:
        msg = (
            "best_fit: likelihood is not possible with external priors, which are learned together with it; use "
            "posterior"
        )
        raise ValueError(msg)
    if given is None or given in ENDINGS:
        return given
    msg = f"best_fit must be null, 'posterior' or 'likelihood', got {given!r}"
    raise ValueError(msg)


def one_point(model: Model, output: Any, best: BestFit) -> OnePoint:
    """The best fit with derived parameters, priors and chi2s, by one more evaluation of the model."""
    found = model.logposterior(best.x, cached=True)
    point = OnePoint(model, output, name="", extension=f".{ENDINGS[best.of]}.txt")
    point.add(
        best.x,
        derived=found.derived,
        logpost=found.logpost,
        logpriors=found.logpriors,
        loglikes=found.loglikes,
    )
    return point


def write_best_fit(model: Model, output: Any, best: BestFit) -> OnePoint:
    """Writes ``.minimum`` and ``.minimum.txt``, or ``.bestfit`` and ``.bestfit.txt``, if there is an output.

    As in Cobaya, the first two lines of the file without ``.txt``, in GetDist's format, are about the posterior.
    """
    from cobaya.samplers.minimize import Minimize

    point = one_point(model, output, best)
    if output:
        point.out_update()
        text = Minimize.getdist_point_text(SimpleNamespace(model=model), point, minuslogpost=point["minuslogpost"])
        with replacing(Path(output.folder) / f"{output.prefix}.{ENDINGS[best.of]}") as file:
            file.write(text.encode())
    return point
