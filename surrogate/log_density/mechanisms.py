"""The mechanisms of a posterior run that can be switched off, to measure what each of them is worth."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

__all__ = ["Mechanisms"]


@dataclass(frozen=True)
class Mechanisms:
    """Which parts of a posterior run are at work; all of them unless something is to be measured or tested.

    Attributes:
        structures: Kernel, trend and warps are chosen by evidence.
        input_warps: Warps of the parameters are among the choices.
        output_warps: Warps of the log-density are.
        couplings: Coordinates may be bent and scaled by others.
        noise: Noise that the likelihood did not declare is looked for.
        temperature: While the points lie far below the mode the log-density is mapped at a raised temperature.
        promising: One point of each batch is the one most likely to matter among points of the whole prior.
        explore: Anything is evaluated for the sake of further modes; without it none of the next four is.
        probes: Places that could be closer to a mode than the found posterior says are evaluated.
        holes: Places far from all evaluations are.
        exchanges: The best point with parameters of equal priors exchanged is evaluated before other holes are.
        label_checks: Where forbidden regions are known, labels of the bulk are.
        overlooked: Before a claim places are evaluated where the surrogate is higher than all of its draws.
        gaps: Before a claim the emptiest part of the warm posterior is evaluated.
        feasibility_doubt: Doubt of what is feasible counts in the choice of batches.
        jumps: The final sampler draws from a mixture as well.
    """

    structures: bool = True
    input_warps: bool = True
    output_warps: bool = True
    couplings: bool = True
    noise: bool = True
    temperature: bool = True
    promising: bool = True
    explore: bool = True
    probes: bool = True
    holes: bool = True
    exchanges: bool = True
    label_checks: bool = True
    overlooked: bool = True
    gaps: bool = True
    feasibility_doubt: bool = True
    jumps: bool = True

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all mechanisms."""
        return tuple(field.name for field in fields(cls))

    def without(self, name: str) -> Mechanisms:
        """All of these but one.

        Raises:
            ValueError: If there is no mechanism of that name.

        >>> Mechanisms().without("probes").probes
        False
        """
        if name not in self.names():
            msg = f"mechanism must be one of {', '.join(self.names())}, got {name!r}"
            raise ValueError(msg)
        return replace(self, **{name: False})
