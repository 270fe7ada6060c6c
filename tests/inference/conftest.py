"""A short run with forbidden points whose states go through the phases, shared by the tests of its parts."""

from functools import cache

import numpy as np
import pytest

from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.phases import Phase
from surrogate.inference.setup import Setup
from surrogate.log_density.search.structure import StructureSearch
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

BOX = {"a": (-4.0, 4.0), "b": (-4.0, 4.0)}


def half_forbidden(points):
    """A normal of which the half x > 0.8 is forbidden."""
    out = []
    for x in points:
        value = -0.5 * float(x[0] ** 2 / 0.6 + (x[1] - 0.3 * x[0]) ** 2 / 0.3)
        out.append(Evaluation(value, "ok") if x[0] <= 0.8 else Evaluation(-np.inf, "infeasible"))
    return out


@cache
def short_run():
    """A loop, and the last of its views in each phase that its batches led to."""
    plain = StructureSearch(structures=False, noise=False)
    loop = PosteriorLoop(Setup(Prior.of(BOX), particles=200, batch_size=4, search=plain))
    state, views = loop.init(3), {}
    for _ in range(14):
        x = loop.ask(state)
        before = None if state.parameters is None else loop.model(state)
        state = loop.tell(state, x, half_forbidden(x))
        views[state.verdict.phase] = loop.view(state).replace(before=before)
        if state.verdict.stop:
            break
    return loop, views


@pytest.fixture(scope="session")
def views():
    """A view for each phase of a short run."""
    return short_run()[1]


@pytest.fixture(scope="session")
def armed(views):
    """The view of a state in which all checks agree."""
    return next(views[phase] for phase in (Phase.ARMED, Phase.EXPLORE, Phase.DONE) if phase in views)
