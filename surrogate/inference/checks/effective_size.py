"""Whether there are draws enough to judge anything."""

from __future__ import annotations

import numpy as np

from surrogate.inference.checks.check import SIGNALS
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.view import View

__all__ = ["EffectiveSize", "too_few_draws"]


_FEWEST = 50.0  # effective draws below which moments mean nothing: an error of 14 % of an sd
_ENOUGH = 300.0  # effective draws with which a claim may be made: 6 % of an sd, below what the other checks allow


class EffectiveSize:
    """The effective number of weighted draws of the surrogate posterior is high enough."""

    name = "effective size"
    phases = SIGNALS
    columns = {"ess": 0.0}

    def look(self, view: View) -> Finding:
        """Too few draws come before any other reason; a claim that was made is not withdrawn for some too few."""
        ess = view.sample.ess
        if ess >= _ENOUGH:
            return Finding(view.nowhere, numbers={"ess": ess})
        claim = Claim.REFUTED if too_few_draws(view) else Claim.TOLERATED
        reason = f"effective sample size {ess:.0f} below {_ENOUGH:.0f}"
        return Finding(view.nowhere, claim, reason, {"ess": ess}, np.inf)


def too_few_draws(view: View) -> bool:
    """Whether nothing can be judged by the draws."""
    return view.sample.ess < _FEWEST
