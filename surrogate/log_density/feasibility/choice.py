"""The choice among classifiers of feasibility."""

from __future__ import annotations

from surrogate.arrays import Array, Flags
from surrogate.log_density.feasibility.process import FeasibilityProcess, fit_process
from surrogate.log_density.feasibility.protocol import Everywhere, Feasibility, FeasibilityArrays
from surrogate.log_density.feasibility.svm import FeasibilityMachine, fit_machine

__all__ = ["KINDS", "check_kind", "fit_feasibility", "restored"]


KINDS = ("process", "svm")
"""Kinds of classifiers: a Gaussian process, or a support vector machine."""


def check_kind(kind: str) -> str:
    """The kind, after checking its name.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in KINDS:
        msg = f"feasibility must be one of {', '.join(map(repr, KINDS))}, got {kind!r}"
        raise ValueError(msg)
    return kind


def fit_feasibility(
    kind: str, u: Array, feasible: Flags, *, doubtful: Flags | None = None, device: str = "cpu"
) -> Feasibility:
    """A fitted classifier, or ``Everywhere`` if no point is infeasible.

    Args:
        kind: One of ``KINDS``.
        u: Points in whitened coordinates, with shape (n, d).
        feasible: Whether each point is feasible, with shape (n,).
        doubtful: Whether each point may be infeasible by chance, with shape (n,), see ``points.trusted``.
        device: Device for a machine with very many points; all else runs on the CPU.

    Raises:
        ValueError: If the kind is unknown, or no point is feasible.
    """
    if check_kind(kind) == "svm":
        return fit_machine(u, feasible, doubtful=doubtful, device=device)
    return fit_process(u, feasible, doubtful=doubtful)


def restored(kind: str, arrays: FeasibilityArrays) -> Feasibility:
    """The classifier with these numbers, the inverse of ``Feasibility.arrays``.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind == "everywhere":
        return Everywhere()
    if check_kind(kind) == "svm":
        return FeasibilityMachine.of_arrays(arrays)
    return FeasibilityProcess.of_arrays(arrays)
