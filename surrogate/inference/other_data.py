"""Posteriors for other data from a run's evaluations: new comparisons of its outputs, or sums of parts.

No call is made unless requested. The surrogate is the one that a run would make of the same evaluations. The result
says where it is uncertain, and further calls can be made there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.arrays import Array, default_float_errors
from surrogate.executors.blas import one_thread
from surrogate.inference.checks.edges import held_back
from surrogate.inference.conclusion import conclude
from surrogate.inference.learning import learn
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.nuisances import with_amplitudes
from surrogate.inference.reliability import largest_stated_error, stated_error
from surrogate.inference.setup import Setup
from surrogate.inference.view import View
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.nuisances import Nuisances
from surrogate.problem.observables import BoundObservables, Observables
from surrogate.problem.outputs import Outputs
from surrogate.problem.prior import Prior
from surrogate.problem.target import Posterior

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["combine", "compared_with"]


_ROUNDS = 3  # successive fits, each whitened by the draws of the one before
_CUT = 0.01  # nats of evidence from which the status names what is cut off
_UNSURE = 0.1  # error of the surrogate, in posterior sds, above which a parameter is named


@default_float_errors()
def compared_with(
    result: Result,
    compare: Callable[..., Any],
    prior: Any,
    *,
    vectorized: bool,
    calls: Mapping[str, Any],
    seed: int,
    n_samples: int,
) -> Result:
    """The result for another comparison of a run's outputs, see ``Result.compare_with``.

    Args:
        result: Result of the run.
        compare: The other comparison.
        prior: Another prior, or None.
        vectorized: Whether ``compare`` takes many points in one call.
        calls: Arguments of ``infer`` for calls of the simulator, ``max_evaluations`` among them; empty for none.
        seed: Seed of all random numbers.
        n_samples: Effective number of independent draws.
    """
    target = None if result.target is None else result.target.observables
    if target is None:
        msg = "compare_with needs the result of a run of Observables, in the process that made the run"
        raise ValueError(msg)
    slow = [target.names[j] for j in target.columns]
    other = Observables(target.target.simulator, compare, slow, vectorized=vectorized)
    asked = result.target.prior if prior is None and result.target is not None else Prior.of(prior)
    posterior = Posterior(other, asked)
    data = _reevaluate(result.data, target, posterior)
    if calls:
        from surrogate.inference.run import infer

        given = {"progress": False, "n_samples": n_samples, "confirm": False, **calls}
        return infer(other, asked, initial=data, seed=seed, **given)
    nuisances = Nuisances.of(posterior)
    if nuisances is None:
        return _from_data(Setup(asked, observables=posterior.observables), posterior, data, seed, n_samples)
    inner, data = nuisances.marginal, nuisances.reduced(data)
    found = _from_data(Setup(inner.prior, observables=inner.observables), inner, data, seed, n_samples)
    return with_amplitudes(nuisances, found, seed)


@default_float_errors()
def combine(
    result: Result,
    parts: Sequence[str] | Mapping[str, float],
    prior: Any = None,
    *,
    seed: int = 0,
    n_samples: int = 10_000,
) -> Result:
    """The result for a new sum of log-likelihoods that a run recorded separately, without any call.

    For a log-likelihood that returns its parts as derived values, such as (total, {"sn": -10.2, "bao": -5.1}), any
    other sum can be learned from the same evaluations. These lie where the posterior of the run is. The sum of only
    some parts has a wider posterior and is known less well, which the status says.

    Args:
        result: Result of the run.
        parts: Names of derived values to add, or a dict of weights by name.
        prior: Another prior of the same parameters; by default that of the run.
        seed: Seed of all random numbers.
        n_samples: Effective number of independent draws.

    Returns:
        A result like that of a run; ``converged`` says whether the surrogate is certain enough of it.

    Raises:
        ValueError: If a name is not among the derived values, or the prior has other parameters.

    >>> import surrogate
    >>> result = surrogate.infer(lambda a: (-a * a - (a - 1) ** 2, {"one": -a * a}), {"a": (-5, 5)}, progress=False)
    >>> bool(abs(surrogate.combine(result, ["one"]).mean[0]) < 0.1)
    True
    """
    weights = parts if isinstance(parts, Mapping) else dict.fromkeys(parts, 1.0)
    data = result.data
    if missing := [name for name in weights if name not in data.derived_names]:
        known = ", ".join(data.derived_names) or "none"
        msg = f"parts must be derived values of the run ({known}); not among them: {', '.join(missing)}"
        raise ValueError(msg)
    if result.setup is None:
        msg = "combine needs the result of a run"
        raise ValueError(msg)
    asked = result.setup.prior if prior is None else Prior.of(prior)
    if asked.names != result.names:
        msg = f"the prior must have the parameters {', '.join(result.names)}, got {', '.join(asked.names)}"
        raise ValueError(msg)
    columns = [data.derived_names.index(name) for name in weights]
    total = data.derived[:, columns] @ np.array(list(weights.values()))
    evaluations = [Evaluation(float(y), "ok") if np.isfinite(y) else Evaluation(-np.inf, "infeasible") for y in total]
    again = Dataset.empty(asked.d).append(data.x, evaluations, -1)
    setup = replace(result.setup, prior=asked, reference=None, fast=None, gradient=False, observables=None)
    return _from_data(setup, result.target, again, seed, n_samples)


def _reevaluate(data: Dataset, before: BoundObservables, posterior: Posterior) -> Dataset:
    """The evaluations under another comparison; new fast parameters get the medians of their priors."""
    after, prior = posterior.observables, posterior.prior
    if after is None or data.layout is None:
        msg = "the run has no outputs"
        raise ValueError(msg)
    x = np.repeat(prior.quantile(np.full((1, prior.d), 0.5)), len(data), axis=0)
    for j, name in enumerate(prior.names):
        if name in before.names:
            x[:, j] = data.x[:, before.names.index(name)]
    rows = np.isfinite(prior.log_density(x))
    slow = list(after.columns)
    middle = prior.quantile(np.full((1, prior.d), 0.5))[0]
    for i in np.flatnonzero(~rows):  # fast parameters outside the new prior
        moved = middle.copy()
        moved[slow] = x[i, slow]
        x[i] = moved
    rows = np.isfinite(prior.log_density(x))
    evaluations = []
    for i in np.flatnonzero(rows):
        if data.has_outputs[i]:
            evaluations.append(after.compared(Outputs(data.layout, data.outputs[i]), x[i]))
        elif data.reasons[i]:
            evaluations.append(Evaluation.failure(data.reasons[i]))
        else:
            evaluations.append(Evaluation(-np.inf, "infeasible"))
    return Dataset.empty(prior.d).append(x[rows], evaluations, -1)


def _from_data(setup: Setup, target: Posterior | None, data: Dataset, seed: int, n_samples: int) -> Result:
    """The result of a run without any evaluation of its own."""
    loop = PosteriorLoop(setup)
    with one_thread():
        state = loop.init(seed, data)
        if state.parameters is None:
            msg = f"{int(data.finite.sum())} evaluations with a finite value are too few for a surrogate: use refine="
            raise ValueError(msg)
        for step in range(1, _ROUNDS):
            state = learn(loop.view(replace(state, step=step)), 1.0).state
        view = loop.view(state)
        sure, words = _sure(view)
        result = conclude(loop, state, words, n_samples)
    unsure = _unsure(result.record.surrogate_error["mean"], result.draws.sd, setup.prior.names)
    status = f"{result.status}; {unsure}" if unsure and not sure else result.status
    record = replace(result.record, converged=sure, status=status, n_evaluations=0)
    return replace(result, record=record, setup=setup, target=target)


def _sure(view: View) -> tuple[bool, str]:
    """Whether the surrogate is certain enough of posterior and evidence, and a sentence that says so."""
    limits, spread = view.setup.thresholds, view.spread
    lost = held_back(view)
    sure = spread.bulk < limits.spread and spread.warm < limits.warm and spread.log_evidence < limits.log_evidence
    stated, most = view.once(stated_error)[2], largest_stated_error(view)
    sure = sure and lost < limits.log_evidence and stated <= most
    numbers = f"paths of the surrogate differ from its mean by {spread.bulk:.2g} (limit {limits.spread:g})"
    evidence = f"their log evidences by {spread.log_evidence:.2g} (limit {limits.log_evidence:g})"
    beyond = f"; {lost:.2g} nats of evidence are cut off where evaluations end" if lost > _CUT else ""
    beyond += f"; the error of the log evidence is {stated:.2g} (limit {most:g})" if stated > most else ""
    return sure, f"{'sure' if sure else 'unsure'}, without further calls: {numbers}, {evidence}{beyond}"


def _unsure(error: Array, sd: Array, names: Sequence[str]) -> str:
    """Text that names parameters with uncertain means, with errors in posterior sds."""
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.nan_to_num(error / sd)
    worst = [f"{name} ({part:.2g} sd)" for name, part in zip(names, share, strict=True) if part > _UNSURE]
    return f"least sure of {', '.join(worst)}: refine=n buys n calls there" if worst else "refine=n buys n calls"
