"""Runs with hardly any finite evaluations: whether to continue the design, and the message for the user."""

from __future__ import annotations

import numpy as np

from surrogate.inference.mixed.families import is_staged
from surrogate.inference.phases import Phase, Verdict
from surrogate.inference.setup import Setup
from surrogate.log_density.mixed.learner import begun
from surrogate.problem.dataset import FAILED, Dataset

__all__ = ["design_verdict", "fewest", "has_enough", "shortage"]


_MAX_DESIGN = 30.0  # times d^1.5: half of a usual budget, after which a longer design is unlikely to help
_REASONS = 3  # failures listed in a message


def fewest(d: int) -> int:
    """Number of finite values that a surrogate needs, d + 2."""
    return d + 2


def has_enough(setup: Setup, data: Dataset) -> bool:
    """Whether there are enough finite values for a surrogate; with several families of levels, for one of these."""
    if is_staged(setup) and setup.levels is not None:
        return bool(begun(setup.levels, data.x[data.finite]))
    return int(data.finite.sum()) >= fewest(setup.n_learned)


def design_verdict(setup: Setup, data: Dataset) -> Verdict:
    """The verdict while there is no surrogate: whether to continue the design or give up."""
    if len(data) >= int(np.ceil(_MAX_DESIGN * setup.d**1.5)):
        return Verdict(Phase.GAVE_UP, f"gave up: {shortage(data)}")
    text = f"{int(data.finite.sum())} of {fewest(setup.n_learned)} finite values that a surrogate needs"
    return Verdict(Phase.DESIGN, text)


def shortage(data: Dataset) -> str:
    """A message that says why a run has no surrogate, with the first failures and the remedy."""
    finite, failed = int(data.finite.sum()), int((data.status == FAILED).sum())
    text = (
        f"{finite} finite values in {len(data)} evaluations, at least {fewest(data.x.shape[1])} are needed "
        f"({failed} failed, {len(data) - finite - failed} were -inf). Narrow the prior, allow more evaluations, or "
        "pass reference= or initial= with points where the log-likelihood is finite"
    )
    reasons = list(dict.fromkeys(r for r in data.reasons if r))[:_REASONS]
    return text + (f". First failures: {'; '.join(reasons)}" if reasons else "")
