"""Chains in the layout of MontePython, which its ``info`` analyses."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surrogate.output.cobaya import save_covariance
from surrogate.output.record import Record
from surrogate.samplers.samples import Samples
from surrogate.storage.files import replacing

__all__ = ["save_chain"]


def save_chain(
    samples: Samples,
    record: Record,
    folder: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    derived_names: Sequence[str] | None = None,
) -> Path:
    """Writes ``YYYY-MM-DD_N__1.txt``, ``.paramnames``, ``.covmat`` and ``.bestfit`` into a folder.

    The chain has the columns multiplicity, minus log-likelihood, parameters, derived values; the other files are named
    after the folder. ``log.param`` is left to MontePython.

    Args:
        samples: Draws to write.
        record: Record of the run; its best fit is written.
        folder: Folder of the chains; created if needed.
        names: Names of the parameters as MontePython spells them; those of the samples unless given.
        derived_names: Names of the derived values, likewise.

    Returns:
        The chain file.

    Raises:
        OSError: If a file cannot be written.
    """
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    spelled, derived = list(names or samples.names), list(derived_names or samples.derived_names)
    weight = samples.weights / samples.weights.max()
    path = place / f"{datetime.date.today().isoformat()}_{len(weight)}__1.txt"
    with replacing(path) as file:
        columns = [weight, samples.log_prior - samples.log_posterior, samples.x, samples.derived]
        np.savetxt(file, np.column_stack(columns), fmt="%.8g", delimiter="\t")
    stem = place / place.resolve().name
    with replacing(Path(f"{stem}.paramnames")) as file:
        labels = [*samples.labels, *derived]
        file.write("".join(f"{n}\t{t}\n" for n, t in zip([*spelled, *derived], labels, strict=True)).encode())
    save_covariance(Path(f"{stem}.covmat"), [f"{name}," for name in spelled[:-1]] + spelled[-1:], samples.covariance)
    with replacing(Path(f"{stem}.bestfit")) as file:
        np.savetxt(file, record.best_fit[None], header=", ".join(spelled))
    return path
