"""Check that there are enough effective draws for the other checks."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

import numpy as np

from surrogate.inference.checks.check import SIGNALS, Check, unmeasured
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.view import View

__all__ = ["EffectiveSize", "too_few_draws", "with_enough_draws"]

C = TypeVar("C", bound=Check)


_FEWEST = 50.0  # effective draws below which moments are useless: an error of 14 % of an sd
_ENOUGH = 300.0  # effective draws needed for a claim: an error of 6 % of an sd, less than the other checks allow


class EffectiveSize:
    """Requires a high enough effective number of weighted draws of the surrogate posterior."""

    name = "effective size"
    phases = SIGNALS
    columns = {"ess": 0.0}

    def look(self, view: View) -> Finding:
        """Refuses a claim if there are too few draws, with priority over other reasons; keeps an earlier claim."""
        ess = view.sample.ess
        if ess >= _ENOUGH:
            return Finding(view.nowhere, numbers={"ess": ess})
        claim = Claim.REFUTED if too_few_draws(view) else Claim.TOLERATED
        reason = f"effective sample size {ess:.0f} below {_ENOUGH:.0f}"
        return Finding(view.nowhere, claim, reason, {"ess": ess}, np.inf)


def with_enough_draws(look: Callable[[C, View], Finding]) -> Callable[[C, View], Finding]:
    """A decorator of a check's ``look``, which reports "not measured" while there are too few draws."""

    @wraps(look)
    def guarded(check: C, view: View) -> Finding:
        return unmeasured(check, view) if too_few_draws(view) else look(check, view)

    return guarded


def too_few_draws(view: View) -> bool:
    """Whether there are too few effective draws for any check."""
    return view.sample.ess < _FEWEST
