"""The checks that must pass before a claim of convergence, one per file; `CHECKS` lists them in order."""

from surrogate.inference.checks.batch_error import BatchError
from surrogate.inference.checks.check import SEARCH, SIGNALS, Check
from surrogate.inference.checks.edges import Edges
from surrogate.inference.checks.effective_size import EffectiveSize
from surrogate.inference.checks.evidence import Evidence
from surrogate.inference.checks.exchanges import Exchanges
from surrogate.inference.checks.hidden import Hidden
from surrogate.inference.checks.holes import Holes
from surrogate.inference.checks.infeasible import Infeasible
from surrogate.inference.checks.labels import Labels
from surrogate.inference.checks.levels import EachLevel, LevelProbabilities
from surrogate.inference.checks.modes import Modes
from surrogate.inference.checks.moved import Moved
from surrogate.inference.checks.overlooked import Overlooked
from surrogate.inference.checks.pareto import Pareto
from surrogate.inference.checks.spread import Spread

__all__ = ["CHECKS", "MIXED_CHECKS", "SEARCH", "SIGNALS", "Check"]

CHECKS: tuple[Check, ...] = (
    EffectiveSize(),
    Spread(),
    BatchError(),
    Moved(),
    Pareto(),
    Infeasible(),
    Evidence(),
    Edges(),
    Overlooked(),
    Labels(),
    Exchanges(),
    Holes(),
    Hidden(),
    Modes(),
)

_LEVEL_BY_LEVEL = ("overlooked", "modes", "hidden")
"""Checks that need continuous parameters and are therefore made within each level."""

MIXED_CHECKS: tuple[Check, ...] = (
    *(EachLevel(check) if check.name in _LEVEL_BY_LEVEL else check for check in CHECKS),
    LevelProbabilities(),
)
"""Checks of runs with categories or integers."""
