"""The files that a run writes beside Cobaya's output prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cobaya.yaml import yaml_dump

from surrogate.arrays import Array
from surrogate.interfaces.cobaya.best_fit import ENDINGS
from surrogate.interfaces.cobaya.products import append_progress
from surrogate.output.cobaya import save_chain, save_covariance, save_log_evidence
from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["OutputFiles", "patterns"]

_FOLDER = "surrogate"
_ENDINGS = ("covmat", "logZ", "progress", *(f"{e}{t}" for e in ENDINGS.values() for t in ("", r"\.txt")))

Pattern = tuple[re.Pattern[str], str | None]
"""A regular expression for names of files, and their folder, which is None for that of the output."""


def patterns(output: Any, *, minimal: bool) -> list[Pattern]:
    """Patterns of the files that a run writes.

    Args:
        output: Cobaya's output.
        minimal: Whether to return only patterns that identify an old run.
    """
    prefix = output.prefix_regexp_str
    proof: list[Pattern] = [
        (output.collection_regexp(name=None), None),
        (re.compile(prefix + r"checkpoint$"), None),
    ]
    if minimal:
        return proof
    others: list[Pattern] = [(re.compile(prefix + ending + "$"), None) for ending in _ENDINGS]
    return [*proof, *others, (re.compile(".*"), output.add_suffix(_FOLDER, separator="_"))]


@dataclass(frozen=True, eq=False)
class OutputFiles:
    """The files of a run; nothing is written if there is no output.

    Attributes:
        output: Cobaya's output; false if there is none.
        sampler: Name of the sampler, for the checkpoint.
        mpi_size: Number of ranks, for the checkpoint.
    """

    output: Any
    sampler: str
    mpi_size: int

    def __bool__(self) -> bool:
        return bool(self.output)

    @property
    def folder(self) -> str | None:
        """Folder of the posterior run; None without an output."""
        return self.output.add_suffix(_FOLDER, separator="_") if self.output else None

    def _path(self, ending: str) -> Path:
        return Path(self.output.folder) / f"{self.output.prefix}.{ending}"

    def write_chain(self, columns: Mapping[str, Array]) -> None:
        """Writes or replaces the chain, with Cobaya's columns."""
        if self.output:
            save_chain(Path(self.output.prepare_collection(name="1")[0]), columns)

    def write_progress(self, row: Mapping[str, float]) -> None:
        """Appends an iteration to `.progress` and updates the checkpoint."""
        if self.output:
            append_progress(self._path("progress"), row)
            self.write_checkpoint(converged=False, n_evaluations=int(row["n_evaluations"]))

    def write_checkpoint(self, *, converged: bool, n_evaluations: int) -> None:
        """Writes the checkpoint with the progress of the run."""
        if self.output:
            entry = {"converged": bool(converged), "mpi_size": self.mpi_size, "n_evaluations": n_evaluations}
            with replacing(self._path("checkpoint")) as file:
                file.write(yaml_dump({"sampler": {self.sampler: entry}}).encode())

    def write_result(self, result: Result, columns: Mapping[str, Array]) -> str:
        """Writes the chain, the covariance, the evidence and the checkpoint of a finished run.

        Returns:
            A warning, or "". `.logZ` is written only if the run has converged, because scripts read only the numbers.
        """
        if not self.output:
            return ""
        self.write_chain(columns)
        save_covariance(self._path("covmat"), result.names, result.covariance)
        evidence = self._path("logZ")
        if result.converged:
            save_log_evidence(evidence, result.log_evidence, result.log_evidence_error)
        else:
            evidence.unlink(missing_ok=True)
        self.write_checkpoint(converged=result.converged, n_evaluations=result.n_evaluations)
        return "" if result.converged else f"{evidence.name} is not written, as the run has not converged."
