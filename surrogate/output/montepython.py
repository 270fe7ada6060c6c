"""Chains in the layout of MontePython, which its ``info`` analyses."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from surrogate.output.cobaya import save_covariance
from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["save_chain"]


def save_chain(
    result: Result,
    folder: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    derived_names: Sequence[str] | None = None,
) -> Path:
    """Writes ``YYYY-MM-DD_N__1.txt``, ``.paramnames``, ``.covmat`` and ``.bestfit`` into a folder.

    The chain has the columns multiplicity, minus log-likelihood, parameters, derived values; the other files are called
    like the folder. ``log.param`` is MontePython's own.

    Args:
        result: What to write.
        folder: Of the chains; it is made if need be.
        names: Of the parameters as MontePython spells them; those of the result unless given.
        derived_names: Of the derived values, likewise.

    Returns:
        The chain file.

    Raises:
        OSError: If a file cannot be written.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    spelled, derived = list(names or result.names), list(derived_names or result.derived_names)
    weight = result.weights / result.weights.max()
    path = place / f"{datetime.date.today().isoformat()}_{len(weight)}__1.txt"
    with replacing(path) as file:
        columns = [weight, result.log_prior - result.log_posterior, result.samples, result.derived]
        np.savetxt(file, np.column_stack(columns), fmt="%.8g", delimiter="\t")
    stem = place / place.resolve().name
    with replacing(Path(f"{stem}.paramnames")) as file:
        labels = [*result.labels, *derived]
        file.write("".join(f"{n}\t{t}\n" for n, t in zip([*spelled, *derived], labels, strict=True)).encode())
    save_covariance(Path(f"{stem}.covmat"), [f"{name}," for name in spelled[:-1]] + spelled[-1:], result.covariance)
    with replacing(Path(f"{stem}.bestfit")) as file:
        np.savetxt(file, result.best_fit[None], header=", ".join(spelled))
    return path
