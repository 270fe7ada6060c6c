"""The checks, one per file, that must pass before a claim of convergence. `CHECKS` has all, in order."""

from surrogate.inference.checks.batch_error import BatchError
from surrogate.inference.checks.check import SEARCH, SIGNALS, Check
from surrogate.inference.checks.effective_size import EffectiveSize
from surrogate.inference.checks.evidence import Evidence
from surrogate.inference.checks.exchanges import Exchanges
from surrogate.inference.checks.hidden import Hidden
from surrogate.inference.checks.holes import Holes
from surrogate.inference.checks.infeasible import Infeasible
from surrogate.inference.checks.labels import Labels
from surrogate.inference.checks.modes import Modes
from surrogate.inference.checks.moved import Moved
from surrogate.inference.checks.overlooked import Overlooked
from surrogate.inference.checks.pareto import Pareto
from surrogate.inference.checks.spread import Spread

__all__ = ["CHECKS", "SEARCH", "SIGNALS", "Check"]

CHECKS: tuple[Check, ...] = (
    EffectiveSize(),
    Spread(),
    BatchError(),
    Moved(),
    Pareto(),
    Infeasible(),
    Evidence(),
    Overlooked(),
    Labels(),
    Exchanges(),
    Holes(),
    Modes(),
    Hidden(),
)
