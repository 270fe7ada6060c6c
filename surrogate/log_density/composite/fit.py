"""Fitting the processes of components: which share a kernel, which have one of their own, and which trends."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from surrogate.gp.optimise import Fit
from surrogate.gp.process import Data
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.log_density.composite.parameters import SharedKernel, family

__all__ = ["Found", "fit_components"]


TRENDS = ("linear", "quadratic")
"""Trends among which the evidence chooses; a simulator that is linear, or nearly so, needs the first."""

_OWN_COST = 3.0  # nats by which a kernel of its own must be more probable: a component of few points has chance shapes
_OWN_FROM = 2  # points for each coefficient of a plane from which a kernel of its own means anything
_SMALL = float(np.log(0.01))  # log amplitude of a start at which the trend explains nearly everything
_FEW, _MANY = 25, 60  # evaluations of the evidence of a further start, and of the first


@dataclass(frozen=True, eq=False)
class Found:
    """The processes of components.

    Attributes:
        groups: Which components share which kernel.
        score: Log density of the components, with the priors of the hyperparameters.
        rescues: How often a nugget had to be raised.
    """

    groups: tuple[SharedKernel, ...]
    score: float
    rescues: int


def fit_components(
    data: Data, before: tuple[SharedKernel, ...], *, cold_start: bool, own: bool = True, kernel: str = "rbf"
) -> Found:
    """The most probable processes of K components with n rows.

    All components share one kernel at first, with the trend of more evidence. Each of them gets a kernel and a trend of
    its own where that is more probable by 3 nats.

    Args:
        data: Values with shape (n, K).
        before: The processes of the last step.
        cold_start: Whether to start from default hyperparameters as well.
        own: Whether components may have a kernel of their own.
        kernel: Name of the correlation function.

    Returns:
        The processes: O(K n^3) for each of some 60 evaluations.
    """
    d, size = data.u.shape[1], data.y.shape[1]
    starts = [max(before, key=lambda group: len(group.columns)).hyper] if before else []
    if cold_start or not starts:
        cold = Hyperparameters.default(d)
        starts += [cold, replace(cold, log_amplitude=_SMALL, log_shaping=np.log(1e-5))]
    families = {trend: family(kernel, trend) for trend in TRENDS}
    shared: dict[str, tuple[Hyperparameters, Fit]] = {
        trend: processes.fit(data, starts, max_evaluations=_MANY) for trend, processes in families.items()
    }
    best = max(TRENDS, key=lambda trend: shared[trend][1].value)
    rescues = sum(len(fit.rescues) for _, fit in shared.values())
    everything = SharedKernel(np.arange(size), kernel, best, shared[best][0])
    if not own or size == 1 or len(data.u) < _OWN_FROM * (d + 1):
        return Found((everything,), shared[best][1].value, rescues)
    # Components that share hyperparameters share the price of their prior as well.
    price = families[best].priors(everything.hyper).penalty(everything.hyper.vector())[0] * (1.0 - 1.0 / size)
    groups, score, left = [], shared[best][1].value, []
    for k in range(size):
        single = replace(data, y=data.y[:, k])
        common = families[best].log_posteriors(single, [everything.hyper])[0] + price
        trend, hyper, value = max(
            (_own(families[trend], single, shared[trend][0], trend) for trend in TRENDS), key=lambda found: found[2]
        )
        if value - common > _OWN_COST:
            groups.append(SharedKernel(np.array([k]), kernel, trend, hyper))
            score += value - common
        else:
            left.append(k)
    if left and groups:
        rest = replace(data, y=data.y[:, left])
        hyper, fit = families[best].fit(rest, [shared[best][0]], max_evaluations=_FEW)
        rescues += len(fit.rescues)
        groups.append(SharedKernel(np.array(left), kernel, best, hyper))
    elif left:
        groups = [everything]
    return Found(tuple(groups), score, rescues)


def _own(processes: Trended, data: Data, start: Hyperparameters, trend: str) -> tuple[str, Hyperparameters, float]:
    hyper, fit = processes.fit(data, [start], max_evaluations=_FEW)
    return trend, hyper, fit.value
