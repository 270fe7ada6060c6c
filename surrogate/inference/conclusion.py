"""The conclusion of a run: its result from the final state, whether or not it has converged."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from surrogate.arrays import Array
from surrogate.inference.checks.hidden import known_of
from surrogate.inference.derived import derived_values
from surrogate.inference.draws import ScaledPrior
from surrogate.inference.driving.budget import calls
from surrogate.inference.hidden_modes import EXPECTED_SHIFT, REFUSED, SMALLEST_SHARE, is_refused
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.mixed.chains import chain_of_levels
from surrogate.inference.mixed.sampling import LevelSamples
from surrogate.inference.mixed.weights import level_probabilities
from surrogate.inference.reliability import UNSEEN_INFLATION, self_check, stated_error, surrogate_error, unseen_share
from surrogate.inference.result import Result
from surrogate.inference.shortage import shortage
from surrogate.inference.state import State
from surrogate.inference.symmetry import symmetries, words_of_symmetries
from surrogate.inference.view import View
from surrogate.log_density.predictor import Predictor
from surrogate.log_density.protocol import Extrapolating, LogDensity
from surrogate.output.probabilities import Probabilities
from surrogate.output.record import Evidence, EvidenceCheck, Record
from surrogate.samplers.bridge import Bridge, bridge_sample
from surrogate.samplers.ensemble import WALKERS, Chain, independent_chain, sample_ensemble
from surrogate.samplers.evidence import ImportanceSample
from surrogate.samplers.samples import Samples
from surrogate.samplers.smc import systematic_resample

__all__ = ["Emulator", "conclude", "conclude_at_once"]


_BRIDGE = 20_000  # draws of the chain that a second estimate of the evidence uses
_FEW = 100  # effective size up to which a sample has too few different draws to start a chain from
_INDEPENDENT = 0.2  # effective share of a known mixture from which its draws take the place of a chain
_MORE = 1.1  # factor on the number of these draws, lest fewer are effective than asked for


@dataclass(frozen=True, eq=False)
class Emulator:
    """The emulator: the surrogate of a finished run, in the coordinates of the prior.

    Attributes:
        model: Surrogate of the log-likelihood in scaled coordinates.
        scaled: Prior in those coordinates.
        inflation: Factor on the surrogate's variance, which is too small at the end of a run.
    """

    model: LogDensity
    scaled: ScaledPrior
    inflation: float = 1.0

    @classmethod
    def of(cls, view: View) -> Emulator:
        """The emulator from a view."""
        return cls(view.model, view.setup.scaled, UNSEEN_INFLATION * view.inflation)

    def predict(self, x: ArrayLike) -> tuple[Array, Array]:
        """Mean and sd of the log-likelihood at x with shape (m, d), each with shape (m,).

        Valid where the likelihood is feasible; ``feasibility`` says how probable that is. Far from the data the sd is
        that of an extrapolation, and may be as large as the depth itself.
        """
        t = self._unit(x)
        mean, sd = self.model.predict(t)
        sd = np.sqrt(self.inflation) * sd
        return mean, np.hypot(sd, self.model.unseen_sd(t)) if isinstance(self.model, Extrapolating) else sd

    def log_likelihood(self, x: ArrayLike) -> Array:
        """The sampled log-likelihood, -inf where infeasible, with shape (m,); faster than ``predict``, without sd.

        For single points ``predictor()`` is much faster.
        """
        return self.model.y_max + self.model.relative(self._unit(x)) * self.model.temperature

    def predictor(self, names: tuple[str, ...], bounds: Array) -> Predictor:
        """A fast predictor made of plain arrays, see ``Predictor``."""
        scaled = self.scaled
        origin = {} if scaled.decades is None else {"origin": scaled.decades.origin}
        return self.model.predictor(names, bounds, scaled.location, scaled.scale, **origin)

    def log_prior(self, x: ArrayLike) -> Array:
        """Log prior density at x with shape (m, d), with shape (m,)."""
        return self.scaled.log_density_x(np.atleast_2d(np.asarray(x, dtype=np.float64)))

    def feasibility(self, x: ArrayLike) -> Array:
        """Probability that the likelihood is finite at x with shape (m, d), with shape (m,)."""
        return self.model.feasibility.probability(self.model.whiten(self._unit(x)))

    def _unit(self, x: ArrayLike) -> Array:
        return self.scaled.to_unit(np.atleast_2d(np.asarray(x, dtype=np.float64)))


def conclude(
    loop: PosteriorLoop, state: State, reason: str, n_samples: int, *, max_seconds: float | None = None
) -> Result:
    """The result of a run, from sampling its current surrogate.

    Args:
        loop: The loop of the run.
        state: Its last state.
        reason: Why the run stopped.
        n_samples: Effective number of independent draws.
        max_seconds: Time limit of the final chain; None for no limit.

    Raises:
        ValueError: If the run has no surrogate.
    """
    if state.parameters is None:
        lack = shortage(state.data)
        raise ValueError(reason if lack in reason else f"{reason}. {lack}")
    state = loop.cool(state)
    view = loop.view(state)
    model, n_weighted = view.model, max(20_000, 2 * n_samples)
    levels = None if loop.setup.levels is None else view.sample_levels(n_weighted, "final")
    if levels is None:
        sample = view.importance_sample(n_weighted, "final")
        chain, bridge = _chain(view, sample, n_samples, max_seconds), None
        chain = replace(chain, samples=_in_random_orders(view, chain.samples))
    else:
        sample = levels.combined()
        chain, bridge = chain_of_levels(view, levels, n_samples, _chain, _bridge, max_seconds=max_seconds)
    refused = bool(levels is None and is_refused(_hidden_probability(state), known_of(view), loop.setup.explore))
    reason = _reason(loop, view, reason, refused=refused)
    check = _evidence_check(view, sample, bridge or _bridge(view, chain))
    # A run that learns outputs states the very error that its checks have judged, not a second estimate of it.
    mean_error, sd_error, evidence_spread = (
        view.once(stated_error) if view.learns_outputs else surrogate_error(view, sample)
    )
    record = Record(
        converged=state.verdict.stop and state.verdict.converged and chain.converged and check.agrees and not refused,
        status=_status(reason, chain, check),
        n_evaluations=calls(state),
        data=state.data,
        log_prior=loop.scaled.log_density_x(state.data.x),
        trace=tuple(dict(row) for row in state.rows()),
        surrogate_error={"mean": mean_error * loop.scaled.slopes(sample.weights @ sample.x), "sd": sd_error},
        sampler=_quality(chain, sample),
        check={**(self_check(view, sample) if len(sample.x) else {}), "hidden_mode": _hidden_probability(state)},
        priors=_prior_words(loop),
        predicted=state.predicted,
    )
    error = _evidence_error(check, evidence_spread, _hidden_probability(state))
    evidence = Evidence(model.y_max + sample.log_integral, error, check, _probabilities(view, levels))
    return Result(_samples(loop, state, model, chain), evidence, record, Emulator.of(view), loop.setup)


def conclude_at_once(loop: PosteriorLoop, state: State, reason: str) -> Result:
    """The result of a run from the draws of its last step, if there is no time to sample the surrogate.

    The draws are equally weighted, at most a few thousand, and the evidence is that of the last iteration.
    """
    state = loop.cool(state)
    view = loop.view(state)
    draws = view.draws.posterior
    log_density = view.log_posterior(draws)
    inside = np.isfinite(log_density)
    n, words = int(inside.sum()), "no time was left to sample the surrogate"
    unknown = np.full(loop.d, np.nan)
    chain = Chain(draws[inside], log_density[inside], unknown, float(n), np.nan, 0, 0, False, words)
    last = state.rows()[-1] if len(state.trace) else {}
    record = Record(
        converged=False,
        status=f"{reason}; {words}: these are the {n} draws of its last iteration",
        n_evaluations=calls(state),
        data=state.data,
        log_prior=loop.scaled.log_density_x(state.data.x),
        trace=tuple(dict(row) for row in state.rows()),
        surrogate_error={"mean": unknown, "sd": unknown},
        priors=_prior_words(loop),
        predicted=state.predicted,
    )
    probabilities = None if loop.setup.levels is None else _probabilities(view, view.level_samples)
    evidence = Evidence(last.get("log_evidence", np.nan), last.get("log_evidence_error", np.nan), None, probabilities)
    return Result(_samples(loop, state, view.model, chain), evidence, record, Emulator.of(view), loop.setup)


def _prior_words(loop: PosteriorLoop) -> tuple[str, ...]:
    return tuple(parameter.prior_words for parameter in loop.prior.parameters)


def _probabilities(view: View, samples: LevelSamples | None) -> Probabilities | None:
    """Probabilities of levels with their errors; None without categories and integers."""
    if samples is None:
        return None
    inflate, rng = UNSEEN_INFLATION * view.inflation, view.rng("final probabilities")
    return level_probabilities(view.model, samples, view.model.y_max, rng, inflate=inflate)


def _bridge(view: View, chain: Chain) -> Bridge:
    """The evidence by a bridge from the chain to a mixture."""
    return bridge_sample(
        view.log_posterior,
        chain.samples[:_BRIDGE],
        chain.log_density[:_BRIDGE],
        chain.ess * min(1.0, _BRIDGE / len(chain.samples)),
        view.rng("bridge"),
    )


def _evidence_check(view: View, sample: ImportanceSample, bridge: Bridge) -> EvidenceCheck:
    """The evidence by importance sampling and by a bridge from the chain."""
    y_max = view.model.y_max
    first, second = y_max + sample.log_integral, y_max + bridge.log_integral
    return EvidenceCheck(first, sample.log_integral_error, second, bridge.log_integral_error)


def _hidden_probability(state: State) -> float:
    """Probability of a hidden mode with more than 5 % of the mass; nan if the run did not search for one."""
    probability = state.column("hidden")
    return float(probability[-1]) if len(probability) else np.nan


def _evidence_error(evidence: EvidenceCheck, spread: float, hidden: float) -> float:
    """Standard error of the log evidence.

    It combines the errors of sampling and of the surrogate, the expected contribution of a hidden mode, and the
    difference between two estimates if their errors do not explain it.
    """
    errors = [evidence.importance_error, spread, EXPECTED_SHIFT * np.nan_to_num(hidden)]
    if not evidence.agrees and np.isfinite(evidence.difference):
        errors.append(evidence.bridge - evidence.importance)
    return float(np.linalg.norm(errors))


def _status(reason: str, chain: Chain, evidence: EvidenceCheck) -> str:
    """Why the run stopped, with any problem of its final draws."""
    words = [reason]
    if not chain.converged:
        words.append(f"its final chain did not converge: {chain.reason}")
    if not evidence.agrees:
        words.append(str(evidence))
    return "; ".join(words)


def _reason(loop: PosteriorLoop, view: View, reason: str, *, refused: bool) -> str:
    """Why the run stopped, with what it says of further modes, of outputs that were not used, and of symmetries."""
    words, hidden = [reason], _hidden_probability(view.state)
    if not view.state.verdict.converged:
        words.append(_looked_at(view))
    elif np.isfinite(hidden):
        clause = f"a further mode with more than {100.0 * SMALLEST_SHARE:g} % of the mass: probability {hidden:.1%}"
        limit = f", above the limit of {REFUSED[loop.setup.explore]:.0%} beside several modes"
        words.append(clause + limit if refused else clause)
    if loop.setup.observables is not None and not view.learns_outputs:
        words.append("the log-likelihood itself was learned, because the outputs predict it less well")
    words.append(words_of_symmetries(loop.prior.names, symmetries(view)))
    return "; ".join(part for part in words if part)


def _looked_at(view: View) -> str:
    """A clause that states how much of the prior could hold further modes."""
    return f"further modes are not excluded in {100.0 * unseen_share(view):.2g} % of the prior"


def _chain(view: View, sample: ImportanceSample, n_samples: int, max_seconds: float | None) -> Chain:
    """Draws of the surrogate posterior, in unit coordinates: independent ones where a mixture close to it is known."""
    if view.conditionals is not None and sample.ess > _INDEPENDENT * len(sample.x):
        n = int(_MORE * n_samples * len(sample.x) / sample.ess)
        return independent_chain(view.importance_sample(n, "chain"), n_samples, view.rng("chain"))
    rng = view.rng("final")
    return sample_ensemble(
        view.log_posterior,
        view.window.unrolled(_start(view, sample, rng)),
        rng=rng,
        ess=n_samples,
        max_seconds=max_seconds,
        bounds=view.window.window(view.setup.prior.bounds),
        jumps=view.setup.switches.jumps,
    )


def _in_random_orders(view: View, t: Array) -> Array:
    """The draws t, with shape (n, d), each in a random order of the parameters that can be exchanged.

    A sampler that rarely moves between equal modes gives each another number of draws.
    """
    if len(view.orders) == 1:
        return t
    chosen = view.rng("orders").integers(len(view.orders), size=len(t))
    return np.take_along_axis(t, view.orders[chosen], 1)


def _start(view: View, sample: ImportanceSample, rng: np.random.Generator) -> Array:
    """Points of finite density to start from: draws of the sample, or the view's own if few of those are effective.

    The last evaluations may have shown most of the view's own draws to be infeasible. If fewer than 4 d are left, the
    draws of the sample are used in any case.
    """
    if sample.ess <= _FEW:
        draws = view.draws.posterior
        possible = draws[np.isfinite(view.log_posterior(draws))]
        if len(possible) >= 4 * view.d:
            return possible
    return _walkers(sample, max(WALKERS, 4 * view.d), rng)


def _walkers(sample: ImportanceSample, n: int, rng: np.random.Generator) -> Array:
    """Equally weighted draws in the proportions of the modes."""
    with np.errstate(divide="ignore"):
        return sample.x[systematic_resample(np.log(sample.weights), n, rng)]


def _samples(loop: PosteriorLoop, state: State, model: LogDensity, chain: Chain) -> Samples:
    """The samples: the chain in the coordinates of the prior, with emulated derived values."""
    scaled, prior = loop.scaled, loop.prior
    x = np.clip(scaled.from_unit(chain.samples), prior.bounds[:, 0], prior.bounds[:, 1])
    log_prior = prior.log_density(x)
    log_posterior = chain.log_density + model.y_max - scaled.log_volume(chain.samples)
    return Samples(
        names=prior.names,
        labels=prior.labels,
        bounds=prior.bounds,
        x=x,
        weights=np.full(len(x), 1.0 / len(x)),
        log_posterior=log_posterior,
        log_prior=log_prior,
        periodic=tuple(map(bool, prior.periodic)) if prior.periodic.any() else (),
        levels=prior.levels,
        **derived_values(loop, state.data, model, chain.samples, log_posterior - log_prior),
    )


def _quality(chain: Chain, sample: ImportanceSample) -> dict[str, float]:
    return {
        "autocorrelation_time": float(np.max(chain.autocorrelation_time)),
        "ess": float(chain.ess),
        "acceptance": float(chain.acceptance),
        "importance_ess": float(sample.ess),
    }
