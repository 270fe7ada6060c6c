"""Chains in the text layout of CosmoSIS."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["save_chain"]


def save_chain(
    result: Result,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a chain as CosmoSIS does: names, settings, rows with log_weight, prior and post, and the evidence.

    Args:
        result: What to write.
        path: The file.
        names: Of the parameters, such as ``cosmological_parameters--omega_m``; those of the result unless given.
        metadata: Settings for the head of the file.

    Raises:
        OSError: If it cannot be written.
    """
    head = [*(names or result.names), *result.derived_names, "log_weight", "prior", "post"]
    settings = {"sampler": "surrogate", "n_varied": len(result.names)} | dict(metadata or {})
    final = {
        "nsample": len(result.weights),
        "neff": 1.0 / float((result.weights**2).sum()),
        "log_z": result.log_evidence,
        "log_z_error": result.log_evidence_error,
        "converged": result.converged,
        "n_evaluations": result.n_evaluations,
    }
    with np.errstate(divide="ignore"):
        log_weight = np.log(result.weights)
    table = [result.samples, result.derived, log_weight, result.log_prior, result.log_posterior]
    with replacing(Path(path)) as file:
        file.write(("#" + "\t".join(head) + "\n").encode())
        file.write("".join(f"#{key}={value}\n" for key, value in settings.items()).encode())
        np.savetxt(file, np.column_stack(table), fmt="%.15g", delimiter="\t")
        file.write("".join(f"#{key}={value}\n" for key, value in final.items()).encode())
