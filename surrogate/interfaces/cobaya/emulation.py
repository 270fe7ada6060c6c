"""Emulation of slow theories in Cobaya models: their products are learned, the likelihoods are still called.

A model is a graph of components. The slow theories, with everything on which they depend, are the simulator; its
outputs are the products that other components request. These other components, mostly likelihoods, are the comparison:
Cobaya calls them as usual, but they receive emulated products.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from cobaya.model import Model, get_model

from surrogate.arrays import Array
from surrogate.interfaces.cobaya.model import CobayaLikelihood, recorded_names
from surrogate.interfaces.cobaya.requests import Desk, Product, StandIn, UnsuitedError
from surrogate.problem.evaluation import Evaluation, read_answer
from surrogate.problem.observables import BoundObservables, Observables
from surrogate.problem.outputs import Outputs
from surrogate.problem.words import did_you_mean

if TYPE_CHECKING:
    from surrogate.inference.result import Result

__all__ = ["CobayaObservables", "Pipeline", "UnsuitedError", "chosen", "emulated", "likelihoods_of"]

_SLOWER = 10.0  # ratio of the theories' time to the likelihoods' above which emulation is the default ...
_LONG = 5e-3  # ... and seconds of a call of the theories: shorter ones cost less than anything that is learned of them
_NEAR_SLOWEST = 0.1  # share of the slowest theory's time above which another theory is slow too
_TRIES = 10  # points tried in the search for a finite likelihood, where products are recorded
_PERTURBED = 1.001  # factor by which numbers are changed to detect which a likelihood uses
_ASIDE = 0.87  # prior quantile towards which parameters are moved to detect requests that depend on them
_ROUNDING = 1e-11  # tolerance of log-likelihoods, relative and in nats
_SHORT = 8  # length below which arrays are not trimmed


class Pipeline:
    """A model divided into slow and fast components, with the products that the fast ones request.

    Attributes:
        model: The model.
        bounds: Support of the parameters, with shape (d, 2).
        slow: The slow components, in the order in which they are computed.
        slow_parameters: Names of the sampled parameters on which they depend.
        desk: Receives requests to them.
    """

    def __init__(
        self,
        model: Model,
        bounds: Array,
        slow: Sequence[str],
        point: Array,
        products: Mapping[Any, Product] | None = None,
    ) -> None:
        """Divides the model; without ``products`` these are recorded at a point, by a call of the theories.

        Raises:
            UnsuitedError: If the products cannot be learned as numbers.
        """
        self.model, self.bounds, self.point = model, bounds, point
        # Cobaya has the order of components and their dependencies only in private attributes.
        order = model._component_order
        self._needs = list(model._params_of_dependencies)
        wanted = {c for c in order if c.get_name() in slow}
        wanted |= {d for c in wanted for d in model._dependencies.get(c, ())}
        self.slow = tuple(c for c in order if c in wanted)
        if likelihoods := [c.get_name() for c in self.slow if order[c] is not None]:
            msg = f"the likelihood {likelihoods[0]} is slow, or a slow theory depends on it"
            raise UnsuitedError(msg)
        self._fast = tuple(c for c in order if c not in wanted)
        self.slow_parameters = self._parameters_of(self.slow)
        if not self.slow_parameters:
            msg = "no sampled parameter enters the slow theories"
            raise UnsuitedError(msg)
        self.likelihood = CobayaLikelihood(model, bounds)
        self.desk = Desk(products)
        before = dict(model.provider.requirement_providers)
        try:
            self._stand_in()
            if products is None:
                self._note()
        except Exception:
            model.provider.requirement_providers.update(before)
            raise

    @property
    def slow_names(self) -> tuple[str, ...]:
        """Names of the slow components."""
        return tuple(c.get_name() for c in self.slow)

    @property
    def fast_parameters(self) -> tuple[str, ...]:
        """Names of the parameters on which no slow component depends."""
        return tuple(name for name in self._sampled if name not in self.slow_parameters)

    @property
    def _sampled(self) -> list[str]:
        return list(self.model.parameterization.sampled_params())

    def _parameters_of(self, components: Sequence[Any]) -> tuple[str, ...]:
        """Names of the sampled parameters on which components depend, directly or through other components."""
        taken: set[str] = set()
        for component, needs in zip(self.model._component_order, self._needs, strict=True):
            if component in components:
                taken |= set(component.input_params) | set(needs)
        enters = self.model.parameterization.sampled_input_dependence()
        return tuple(name for name in self._sampled if taken & {name, *enters.get(name, ())})

    @property
    def separate(self) -> bool:
        """Whether slow parameters enter the log-likelihood only through the products."""
        if self.model.prior.external:
            return False
        enters = self.model.parameterization.sampled_input_dependence()
        slow = {part for name in self.slow_parameters for part in (name, *enters.get(name, ()))}
        return not any(slow & set(component.input_params) for component in self._fast)

    def _stand_in(self) -> None:
        """Replaces the slow theories by stand-ins."""
        providers = self.model.provider.requirement_providers
        stand_ins = {id(c.get_provider()): StandIn(c.get_provider(), c.get_name(), self.desk) for c in self.slow}
        for requirement, theory in list(providers.items()):
            if isinstance(theory, StandIn):  # left by an earlier pipeline of this model
                theory = theory._theory
            if id(theory) in stand_ins:
                providers[requirement] = stand_ins[id(theory)]

    # The comparison

    def outputs(self) -> dict[str, Array]:
        """The products at the last point that the theories computed, by name.

        Raises:
            UnsuitedError: If their shapes have changed.
        """
        theories = {c.get_name(): c.get_provider() for c in self.slow}
        out: dict[str, Array] = {}
        for product in self.desk.products.values():
            method = getattr(theories[product.theory], product.method)
            out |= product.parts(method(*product.arguments, **product.options))
        return out

    def compare(
        self, outputs: Mapping[str, Any], parameters: Mapping[str, float], /, only: Sequence[str] | None = None
    ) -> float:
        """Log-likelihood with external priors, from products and all sampled parameters; -inf where impossible.

        Args:
            outputs: The products by name.
            parameters: Sampled parameters by name; those that are missing have the values of the recording.
            only: Names of the likelihoods that count; None for all.

        Raises:
            UnsuitedError: If a component makes a request that was not recorded.
        """
        entered = self._entered(parameters)
        external = sum(self.model.prior.logps_external(entered)) if self.model.prior.external else 0.0
        if external == -np.inf:
            return -np.inf
        return float(external) + sum(self._log_likelihoods(entered, outputs, only))

    def chi2s(
        self, outputs: Mapping[str, Any], parameters: Mapping[str, float], /, only: Sequence[str] | None = None
    ) -> dict[str, float]:
        """The chi2 of each likelihood and type under its recorded name, see ``compare``; NaN where impossible."""
        names = [c.get_name() for c, place in self.model._component_order.items() if place is not None]
        names = [name for name in names if only is None or name in only]
        found = self._log_likelihoods(self._entered(parameters), outputs, only)
        recorded = recorded_names(self.model)
        known = len(found) == len(names) and np.isfinite(found).all()
        values = -2.0 * np.array(found) if known else np.full(len(names), np.nan)
        chi2 = {name: float(value) for name, value in zip(names, values, strict=True)}
        return {recorded[f"chi2__{name}"]: value for name, value in chi2.items()} | {
            recorded[f"chi2__{kind}"]: sum(chi2[name] for name in of_kind)
            for kind, of_kind in self._kinds.items()
            if set(of_kind) <= set(chi2)
        }

    @property
    def _kinds(self) -> dict[str, list[str]]:
        """Names of the likelihoods of each type whose chi2 Cobaya sums as a derived parameter."""
        kinds: dict[str, list[str]] = {}
        for name, likelihood in self.model.likelihood.items():
            for kind in getattr(likelihood, "type_list", ()):
                kinds.setdefault(kind, []).append(name)
        summed = set(self.model.parameterization.derived_params()) - {f"chi2__{name}" for name in self.model.likelihood}
        return {kind: names for kind, names in kinds.items() if f"chi2__{kind}" in summed}

    def _entered(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """Input parameters of Cobaya; sampled ones that are missing have the values of the recording."""
        given = [parameters.get(name, known) for name, known in zip(self._sampled, self.point, strict=True)]
        return dict(self.model.parameterization.to_input(np.clip(given, *self.bounds.T)))

    def _log_likelihoods(
        self, entered: Mapping[str, float], outputs: Mapping[str, Any] | None, only: Sequence[str] | None = None
    ) -> list[float]:
        """Log-likelihoods of the fast components, from given products or from the theories themselves."""
        self.model.provider.set_current_input_params(entered)
        self.desk.outputs, found = outputs, []
        if outputs is not None:
            self.desk.reason = ""
        try:
            for (component, place), needs in zip(self.model._component_order.items(), self._needs, strict=True):
                if place is not None and only is not None and component.get_name() not in only:
                    continue
                if component in self._fast and not self._computed(component, entered, needs):
                    found = [-np.inf]
                    break
                if place is not None:
                    found.append(float(component.current_logp))
        finally:
            self.desk.outputs = None
        if self.desk.reason:
            raise UnsuitedError(self.desk.reason)
        return found

    def _computed(self, component: Any, entered: Mapping[str, float], needs: set[str]) -> bool:
        """Computes a fast component without changing its cache, which is reserved for results with true theories."""
        kept, component._states = component._states, deque(maxlen=1)
        try:
            return component.check_cache_and_compute(
                {name: entered[name] for name in component.input_params},
                want_derived=bool(self.model.requires_derived),
                dependency_params=[entered[name] for name in needs],
                cached=False,
            )
        finally:
            component._states = kept

    # Recording of the products

    def _note(self) -> None:
        """Records the requests of the fast components, and which numbers they use."""
        entered = dict(self.model.parameterization.to_input(self.point))  # a copy: Cobaya changes it
        if not np.isfinite(self.likelihood(self.point)[0]):
            msg = "the likelihood is zero at the point where products are recorded"
            raise UnsuitedError(msg)
        self.desk.start_noting()
        try:
            expected = self._log_likelihoods(entered, None)
        finally:
            self.desk.stop_noting()
        if self.desk.reason:
            raise UnsuitedError(self.desk.reason)
        outputs = self.outputs()
        if not outputs:
            msg = "the likelihoods request no numbers from the slow theories"
            raise UnsuitedError(msg)
        if not _equal(found := self._log_likelihoods(entered, outputs), expected):
            msg = f"log-likelihoods from the recorded products are {found}, but {expected} from the theories"
            raise UnsuitedError(msg)
        self._log_likelihoods(entered, {name: _PERTURBED * values for name, values in outputs.items()})
        self._log_likelihoods(self._moved(), outputs)
        self._trim(entered, outputs, expected)

    def _moved(self) -> Any:
        """Input parameters moved away from the point within the prior, to check that requests do not depend on them."""
        aside = np.array([pdf.ppf(_ASIDE) for pdf in self.model.prior.pdf])
        return self.model.parameterization.to_input(np.clip(0.9 * self.point + 0.1 * aside, *self.bounds.T))

    def _trim(self, entered: Mapping[str, float], outputs: Mapping[str, Array], expected: list[float]) -> None:
        """Trims entries at both ends of arrays that no likelihood uses, detected by changing them without effect."""

        def unused(name: str, part: slice) -> bool:
            changed = {key: np.array(values) for key, values in outputs.items()}
            changed[name][part] = _PERTURBED * changed[name][part] + 1e-3 * np.max(np.abs(changed[name]), initial=0.0)
            return _equal(self._log_likelihoods(entered, changed), expected)

        limits = {}
        for name, values in outputs.items():
            if np.ndim(values) and len(values) > _SHORT:
                n = len(values)
                start = _last(n, lambda k, name=name: unused(name, slice(0, k)))  # type: ignore[misc]
                stop = n - _last(n - start, lambda k, name=name, n=n: unused(name, slice(n - k, n)))  # type: ignore[misc]
                limits[name] = (start, stop)
        self.desk.trim(limits)

    def __reduce__(self) -> tuple[Any, ...]:
        packages = getattr(self.model, "packages_path", None)
        return _rebuild, (
            self.model.info(),
            packages,
            self.bounds,
            self.slow_names,
            self.point,
            dict(self.desk.products),
        )


def _rebuild(info: dict[str, Any], packages: str | None, bounds: Array, *rest: Any) -> Pipeline:
    """Rebuilds a pipeline in another process from its description, since models cannot be pickled."""
    return Pipeline(get_model(info, packages_path=packages), bounds, *rest)


def _equal(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether log-likelihoods are equal up to rounding, which depends on the memory layout of arrays."""
    return len(values) == len(others) and bool(np.allclose(values, others, rtol=_ROUNDING, atol=_ROUNDING))


def _last(n: int, holds: Callable[[int], bool]) -> int:
    """The largest k <= n for which ``holds`` is true, by bisection with log2(n) calls."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


@dataclass(frozen=True, eq=False)
class CobayaObservables(Observables):
    """A target whose simulator is a model's slow theories, and whose comparison is its likelihoods.

    Attributes:
        pipeline: The divided model.
    """

    pipeline: Any = field(default=None, kw_only=True)

    @classmethod
    def of(cls, pipeline: Pipeline) -> CobayaObservables:
        """The target for a pipeline."""
        simulator = Simulator(pipeline)
        return cls(simulator, Likelihoods(pipeline), pipeline.slow_parameters, pipeline=pipeline)

    def bound(self, names: tuple[str, ...]) -> BoundObservables:
        """The target with the parameters of a prior."""
        found = super().bound(names)
        return _Bound(found.target, found.names, found.columns, found.by_name)


class _Bound(BoundObservables):
    """Evaluations by the complete Cobaya model, so that derived parameters may depend on all parameters."""

    def evaluate(self, x: Array) -> Evaluation:
        """The evaluation at x with shape (d,), including products; exceptions of the model are raised."""
        pipeline: Pipeline = self.target.pipeline  # type: ignore[attr-defined]
        evaluation = read_answer(pipeline.likelihood(x), self.names, noise=0.0)
        if evaluation.status != "ok":
            return evaluation
        return replace(evaluation, outputs=Outputs.of(pipeline.outputs()))


@dataclass(frozen=True, eq=False)
class Simulator:
    """Products of the slow theories as a function of the slow parameters, with shape (s,)."""

    pipeline: Pipeline

    def __call__(self, point: Any, /) -> dict[str, Array]:
        """The products at a point; other parameters have the values at which the products were recorded."""
        names = list(self.pipeline.model.parameterization.sampled_params())
        x = self.pipeline.point.copy()
        x[[names.index(name) for name in self.pipeline.slow_parameters]] = point
        self.pipeline.likelihood(x)
        return self.pipeline.outputs()


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """The likelihoods, or some of them, as a function of the products and all parameters.

    Attributes:
        pipeline: The divided model.
        only: Names of those that count; None for all.
    """

    pipeline: Pipeline
    only: tuple[str, ...] | None = None

    @property
    def smooth(self) -> bool:
        """Whether a run may approximate them by quadratics in output components and fast parameters."""
        return self.pipeline.separate

    def __call__(self, outputs: Mapping[str, Any], parameters: Mapping[str, float], /) -> float:
        """Log-likelihood with external priors, -inf where impossible."""
        return self.pipeline.compare(outputs, parameters, self.only)

    def parts(self, outputs: Mapping[str, Any], parameters: Mapping[str, float], /) -> dict[str, float]:
        """The chi2 of each likelihood by the name under which it is recorded, NaN where impossible."""
        return self.pipeline.chi2s(outputs, parameters, self.only)


def likelihoods_of(result: Result, names: Sequence[str]) -> Likelihoods:
    """Some of the likelihoods of a run that has emulated theories, for ``result.compare_with``.

    Args:
        result: Result of the run, in the process that made it.
        names: Names of the likelihoods in the model.

    Raises:
        ValueError: If the run emulated no theory, or a name is not that of a likelihood.
    """
    bound = None if result.target is None else result.target.observables
    compare = None if bound is None else bound.target.compare
    if not isinstance(compare, Likelihoods):
        msg = "likelihoods_of needs the result of a run that emulated theories, in the process that made the run"
        raise ValueError(msg)
    known = list(compare.pipeline.model.likelihood)
    if isinstance(names, str) or not names or (set(names) - set(known)):
        msg = f"names must be a list of likelihoods of the model ({', '.join(known)}), got {names!r}"
        raise ValueError(msg)
    return Likelihoods(compare.pipeline, tuple(names))


# The choice of slow theories


@dataclass(frozen=True)
class Costs:
    """Seconds of a call of each component.

    Attributes:
        theories: Seconds of the theories, by name.
        likelihoods: Seconds of the likelihoods, by name.
    """

    theories: dict[str, float]
    likelihoods: dict[str, float]

    @property
    def slow(self) -> list[str]:
        """Names of the slowest theory and of those that take at least a tenth of its time."""
        limit = _NEAR_SLOWEST * max(self.theories.values())
        return [name for name, seconds in self.theories.items() if seconds >= limit]


def costs_of(model: Model, point: Array) -> Costs:
    """Seconds of a call of each component: declared by ``speed`` (calls per second) or measured by one call."""
    entered = model.parameterization.to_input(point)
    model.provider.set_current_input_params(entered)
    seconds: dict[Any, float] = {}
    order = model._component_order
    for component, needs in zip(order, model._params_of_dependencies, strict=True):
        start = time.perf_counter()
        done = component.check_cache_and_compute(
            {name: entered[name] for name in component.input_params},
            want_derived=True,
            dependency_params=[entered[name] for name in needs],
        )
        seconds[component] = time.perf_counter() - start
        if (speed := float(component.get_speed() or -1.0)) > 0.0:
            seconds[component] = 1.0 / speed
        if not done:
            break
    of_theories = {c.get_name(): s for c, s in seconds.items() if order[c] is None}
    return Costs(of_theories, {c.get_name(): s for c, s in seconds.items() if order[c] is not None})


def chosen(given: Any) -> Any:
    """The checked option ``emulate``: "auto", "theory", "none" or a list of names of components.

    Raises:
        ValueError: If it is none of these.
    """
    words = ("auto", "theory", "none")
    if given is None or given in words:
        return given or "none"
    if isinstance(given, list | tuple) and given and all(isinstance(name, str) for name in given):
        return list(given)
    suggestion = did_you_mean(str(given), words)
    msg = f"emulate must be one of {', '.join(words)}, or a list of theories, got {given!r}{suggestion}"
    raise ValueError(msg)


def emulated(
    model: Model, bounds: Array, given: Any, rng: np.random.Generator, log: logging.Logger, *, obstacle: str = ""
) -> CobayaObservables | None:
    """The target of a run that emulates theories; None if there is nothing to emulate or it is unsafe.

    Args:
        model: The model.
        bounds: Support of the parameters, with shape (d, 2).
        given: The option ``emulate``, see ``chosen``.
        rng: Random numbers for the point where products are recorded.
        log: Logs what was chosen and why.
        obstacle: Why other options of the run exclude emulation; empty if they do not.

    Raises:
        UnsuitedError: If emulation was requested but is impossible.
    """
    if given == "none":
        return None
    try:
        if obstacle:
            raise UnsuitedError(obstacle)
        pipeline = _pipeline(model, bounds, given, rng)
    except Exception as error:  # whatever a component raises when it is called is no reason for ``auto`` to end the run
        if given != "auto":
            raise
        log.info("emulate: auto chose none, so the log-likelihood is learned: %s", error or type(error).__name__)
        return None
    count = sum(int(np.size(part)) for part in pipeline.outputs().values())
    log.info(
        "emulate: %s%d numbers of %s are learned as functions of %s; %s",
        "auto chose theory, since its calls are the cost of the run: " if given == "auto" else "",
        count,
        ", ".join(pipeline.slow_names),
        ", ".join(pipeline.slow_parameters),
        f"{', '.join(pipeline.fast_parameters)} cost no call" if pipeline.fast_parameters else "no parameter is fast",
    )
    return CobayaObservables.of(pipeline)


def _pipeline(model: Model, bounds: Array, given: Any, rng: np.random.Generator) -> Pipeline:
    """The model divided as requested."""
    if not model.theory:
        msg = "the model has no theory to emulate"
        raise UnsuitedError(msg)
    if isinstance(given, list):
        known = [c.get_name() for c in model.theory.values()]
        for name in given:
            if name not in known:
                msg = f"the model has no theory '{name}'{did_you_mean(name, known)} (it has {', '.join(known)})"
                raise UnsuitedError(msg)
    point, costs = _finite_point(model, bounds, rng)
    if isinstance(given, list):
        return Pipeline(model, bounds, given, point)
    theories, likelihoods = sum(costs.theories.values()), sum(costs.likelihoods.values())
    if given == "auto" and theories < _LONG:
        msg = f"theories take {theories:.2g} s per call, less than {_LONG:g} s"
        raise UnsuitedError(msg)
    if given == "auto" and theories < _SLOWER * likelihoods:
        msg = (
            f"theories take {theories:.2g} s per call, less than {_SLOWER:g} times the {likelihoods:.2g} s of the "
            "likelihoods"
        )
        raise UnsuitedError(msg)
    pipeline = Pipeline(model, bounds, costs.slow, point)
    if given == "auto" and not pipeline.separate:
        msg = "slow parameters enter likelihoods directly, or there are external priors: each draw would call them"
        raise UnsuitedError(msg)
    return pipeline


def _finite_point(model: Model, bounds: Array, rng: np.random.Generator) -> tuple[Array, Costs]:
    """A point with finite posterior, drawn from the references, and the costs of components there.

    Raises:
        UnsuitedError: If no such point was found.
    """
    for attempt in range(_TRIES):
        drawn = model.prior.reference(warn_if_no_ref=not attempt, random_state=rng)
        point = np.clip(np.asarray(drawn, dtype=np.float64), *bounds.T)
        if not np.isfinite(model.logpriors(point)).all():
            continue
        costs = costs_of(model, point)
        if np.isfinite(model.logposterior(point).logpost):  # cached by Cobaya
            return point, costs
    msg = f"none of {_TRIES} points drawn from the references has a finite likelihood"
    raise UnsuitedError(msg)
