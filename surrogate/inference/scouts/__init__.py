"""The scouts, which propose points to evaluate, one per file; `SCOUTS` lists them in order."""

from surrogate.inference.scouts.beyond import Beyond
from surrogate.inference.scouts.denied import Denied
from surrogate.inference.scouts.emptiest import Emptiest
from surrogate.inference.scouts.fill import Fill
from surrogate.inference.scouts.fit import Fit
from surrogate.inference.scouts.images import Images
from surrogate.inference.scouts.levels import UnseenLevels
from surrogate.inference.scouts.local_fit import LocalFit
from surrogate.inference.scouts.misfit import Misfit
from surrogate.inference.scouts.own_draws import OwnDraws
from surrogate.inference.scouts.probes import Probes
from surrogate.inference.scouts.promising import Promising
from surrogate.inference.scouts.scout import Place, Scout
from surrogate.inference.scouts.survey import Survey
from surrogate.inference.scouts.top import Top

__all__ = ["MIXED_SCOUTS", "SCOUTS", "Place", "Scout"]

SCOUTS: tuple[Scout, ...] = (
    LocalFit(),
    OwnDraws(),
    Top(),
    Emptiest(),
    Denied(),
    Promising(),
    Fit(),
    Misfit(),
    Beyond(),
    Fill(),
    Images(),
    Survey(),
    Probes(),
)

MIXED_SCOUTS: tuple[Scout, ...] = (*SCOUTS, UnseenLevels())
"""Scouts of runs with categories and integers."""
