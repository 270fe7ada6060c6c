"""Fits of the processes of components, including which components share a kernel and a trend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from surrogate.gp.process import Data
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.log_density.composite.parameters import SharedKernel, family

__all__ = ["Found", "fit_components"]


TRENDS = ("linear", "quadratic")
"""Trends among which the evidence chooses; the first suits a nearly linear simulator."""

_OWN_COST = 3.0  # nats by which a separate kernel must be more probable, because few points have random shapes
_OWN_FROM = 2  # points per coefficient of a plane above which a separate kernel is meaningful
_SMALL = float(np.log(0.01))  # log amplitude of a start in which the trend explains nearly everything
_FEW, _MANY = 25, 60  # evaluations of the evidence for further starts, and for the first


@dataclass(frozen=True, eq=False)
class Found:
    """Fitted processes of components.

    Attributes:
        groups: Groups of components that share a kernel.
        score: Log density of the leading components, with the priors of the hyperparameters.
        rescues: Number of times that a nugget had to be raised.
    """

    groups: tuple[SharedKernel, ...]
    score: float
    rescues: int


def fit_components(
    data: Data,
    before: tuple[SharedKernel, ...],
    *,
    cold_start: bool,
    leading: int | None = None,
    own: bool = True,
    kernel: str = "rbf",
) -> Found:
    """Maximum a posteriori processes of K components with n rows.

    At first all components share a kernel, with the trend of larger evidence. A component gets a separate kernel and
    trend if that is more probable by 3 nats.

    The last principal components of few rows are small and look like noise, whatever the function. Each has as much
    influence on the evidence as a large one, so kernels are chosen by the leading components alone.

    Args:
        data: Values with shape (n, K).
        before: The processes of the last step.
        cold_start: Whether to start from default hyperparameters as well.
        leading: Number of first components that choose the kernels, K unless given; the others take the common kernel.
        own: Whether components may have separate kernels.
        kernel: Name of the correlation function.

    Returns:
        The processes, after about 60 evaluations of O(K n^3).
    """
    rest = np.arange(data.y.shape[1] if leading is None else leading, data.y.shape[1])
    data = replace(data, y=data.y[:, : data.y.shape[1] - len(rest)])
    found = _of_leading(data, before, cold_start=cold_start, own=own, kernel=kernel)
    if not len(rest):
        return found
    common = max(found.groups, key=lambda group: len(group.columns))
    joined = replace(common, columns=np.concatenate([common.columns, rest]))
    return replace(found, groups=tuple(joined if group is common else group for group in found.groups))


def _of_leading(data: Data, before: tuple[SharedKernel, ...], *, cold_start: bool, own: bool, kernel: str) -> Found:
    """The result of ``fit_components`` where all components choose."""
    (n, d), size = data.u.shape, data.y.shape[1]
    families = {trend: family(kernel, trend) for trend in TRENDS}
    starts = _starts(before, d, cold=cold_start)
    shared = {trend: each.fit(data, starts, max_evaluations=_MANY) for trend, each in families.items()}
    best = max(TRENDS, key=lambda trend: shared[trend][1].value)
    everything = SharedKernel(np.arange(size), kernel, best, shared[best][0])
    together = Found((everything,), shared[best][1].value, sum(len(fit.rescues) for _, fit in shared.values()))
    if not own or size == 1 or n < _OWN_FROM * (d + 1):
        return together
    return _apart(data, families, {trend: hyper for trend, (hyper, _) in shared.items()}, together)


def _starts(before: tuple[SharedKernel, ...], d: int, *, cold: bool) -> list[Hyperparameters]:
    """The kernel of most components of the last step; default ones where there is none or they are wanted as well."""
    starts = [max(before, key=lambda group: len(group.columns)).hyper] if before else []
    if cold or not starts:
        default = Hyperparameters.default(d)
        starts += [default, replace(default, log_amplitude=_SMALL, log_shaping=np.log(1e-5))]
    return starts


def _apart(
    data: Data, families: Mapping[str, Trended], shared: Mapping[str, Hyperparameters], together: Found
) -> Found:
    """The components with kernels of their own where these are more probable, and one kernel for the rest.

    Args:
        data: Values with shape (n, K).
        families: Processes by trend.
        shared: Hyperparameters of all components together, by trend.
        together: The fit of one kernel for all.
    """
    (everything,), size = together.groups, data.y.shape[1]
    common = families[everything.trend]
    # Components that share hyperparameters also share the cost of the prior.
    price = common.priors(everything.hyper).penalty(everything.hyper.vector())[0] * (1.0 - 1.0 / size)
    groups, score, left = [], together.score, []
    for k in range(size):
        single = replace(data, y=data.y[:, k])
        value = common.log_posteriors(single, [everything.hyper])[0] + price
        found = [_own(families[trend], single, shared[trend], trend) for trend in families]
        trend, hyper, best = max(found, key=lambda one: one[2])
        if best - value > _OWN_COST:
            groups.append(SharedKernel(np.array([k]), everything.kernel, trend, hyper))
            score += best - value
        else:
            left.append(k)
    if not groups:
        return together
    if not left:
        return Found(tuple(groups), score, together.rescues)
    hyper, fit = common.fit(replace(data, y=data.y[:, left]), [everything.hyper], max_evaluations=_FEW)
    groups.append(SharedKernel(np.array(left), everything.kernel, everything.trend, hyper))
    return Found(tuple(groups), score, together.rescues + len(fit.rescues))


def _own(processes: Trended, data: Data, start: Hyperparameters, trend: str) -> tuple[str, Hyperparameters, float]:
    hyper, fit = processes.fit(data, [start], max_evaluations=_FEW)
    return trend, hyper, fit.value
