"""Chains in the text layout of CosmoSIS."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.output.record import Evidence, Record
from surrogate.samplers.samples import Samples
from surrogate.storage.files import replacing

__all__ = ["save_chain"]


def save_chain(
    samples: Samples,
    evidence: Evidence,
    record: Record,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Writes a chain as CosmoSIS does: names, settings, rows with log_weight, prior and post, and the evidence.

    Args:
        samples: Draws to write.
        evidence: Written at the end.
        record: Record of the run; its verdict is written at the end.
        path: The file.
        names: Names of the parameters, such as ``cosmological_parameters--omega_m``; those of the samples unless given.
        metadata: Settings for the head of the file.

    Raises:
        OSError: If it cannot be written.
    """
    head = [*(names or samples.names), *samples.derived_names, "log_weight", "prior", "post"]
    settings = {"sampler": "surrogate", "n_varied": len(samples.names)} | dict(metadata or {})
    mark = "" if record.converged else "unconverged_"  # so that nobody mistakes it for the evidence
    final = {
        "nsample": len(samples.weights),
        "neff": 1.0 / float((samples.weights**2).sum()),
        f"{mark}log_z": evidence.log_evidence,
        f"{mark}log_z_error": evidence.error,
        "converged": record.converged,
        "n_evaluations": record.n_evaluations,
    }
    with np.errstate(divide="ignore"):
        log_weight = np.log(samples.weights)
    table = [samples.x, samples.derived, log_weight, samples.log_prior, samples.log_posterior]
    with replacing(Path(path)) as file:
        file.write(("#" + "\t".join(head) + "\n").encode())
        file.write("".join(f"#{key}={value}\n" for key, value in settings.items()).encode())
        np.savetxt(file, np.column_stack(table), fmt="%.15g", delimiter="\t")
        file.write("".join(f"#{key}={value}\n" for key, value in final.items()).encode())
