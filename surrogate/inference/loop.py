"""The loop: init, ask, tell. Pure functions of an immutable state; evaluating the target is left to others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from surrogate.arrays import Array, Flags, Indices
from surrogate.inference.design import Reference, design
from surrogate.inference.draws import WARM_TEMPERATURE, Draws, ScaledPrior, draw, is_narrow
from surrogate.inference.explore import (
    exchanges,
    fruitless_rounds,
    holes,
    is_surprise,
    most_promising,
    overlooked,
    patience,
    representatives,
    search,
)
from surrogate.inference.fast import FastPoints
from surrogate.inference.state import TRACE_COLUMNS, State
from surrogate.inference.stopping import (
    Signals,
    Verdict,
    batch_error,
    hole_error,
    inflation,
    judge,
    moved,
    relevant,
    spread,
)
from surrogate.log_density.learner import ScalarLearner
from surrogate.log_density.mechanisms import Mechanisms
from surrogate.log_density.parameters import Structure, relevant_depth, trend_size
from surrogate.log_density.protocol import Learner, LogDensity, Parameters
from surrogate.log_density.training import FitProblem
from surrogate.problem.accuracy import Thresholds
from surrogate.problem.dataset import FAILED, OK, Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior
from surrogate.rng import generator
from surrogate.samplers.coordinates import Turns
from surrogate.samplers.evidence import ImportanceSample, importance_sample
from surrogate.samplers.psis import smooth_weights
from surrogate.samplers.smc import systematic_resample
from surrogate.selection.posterior import uncertain_batch

__all__ = ["PosteriorLoop"]


UNSEEN_INFLATION = 4.0
"""Factor on the variance of the surrogate in the errors of a result.

Between its points a finished surrogate is less sure than it says: over 17 runs on ten targets that are not Gaussian the
errors at independent draws of the true posterior were 1.5 to 2 of its standard deviations, while those of the last
batches, which were chosen where it was unsure, were one.
"""


@dataclass(frozen=True, eq=False)
class PosteriorLoop:
    """How a posterior is learned: every choice that is not the data.

    Attributes:
        prior: Of the parameters.
        reference: Where the posterior is expected, if anywhere.
        batch_size: Points per batch; max(2, d // 2) unless given.
        n_initial: Points of the initial design; 3 d to 4.5 d unless given.
        max_design: Design points after which a run without enough finite values gives up.
        thresholds: Limits of the stopping rule.
        particles: Draws of the surrogate in each iteration.
        mechanisms: Which parts of it are at work.
        device: Where the linear algebra of the process runs.
        feasibility: Kind of classifier of feasible points, "process" or "svm".
        fast: Parameters that are cheap to change, if there are any.
        gradient: Whether evaluations come with derivatives: d + 1 of them determine a quadratic, and d + 2 begin a run.

    Raises:
        ValueError: If there are gradients and periodic parameters, whose circles have directions without derivatives.
    """

    prior: Prior
    reference: Reference | None = None
    batch_size: int | None = None
    n_initial: int | None = None
    max_design: int | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    particles: int = 1000
    mechanisms: Mechanisms = field(default_factory=Mechanisms)
    device: str = "cpu"
    feasibility: str = "process"
    fast: FastPoints | None = None
    gradient: bool = False

    def __post_init__(self) -> None:
        if self.gradient and self.prior.periodic.any():
            names = [name for name, turns in zip(self.prior.names, self.prior.periodic, strict=True) if turns]
            msg = f"gradients cannot be used with periodic parameters, got {', '.join(names)}: leave out gradient=True"
            raise ValueError(msg)

    @property
    def d(self) -> int:
        """Number of parameters."""
        return self.prior.d

    @cached_property
    def scaled(self) -> ScaledPrior:
        """The prior in coordinates in which a box is the unit cube."""
        if self.prior.is_box:
            low, high = self.prior.bounds.T
            location, scale = low, high - low
        else:
            low, high = self.prior.quantile(np.array([[0.05], [0.95]]) * np.ones((2, self.d)))
            scale = (high - low) / 0.9
            location = low - 0.05 * scale
        turns = Turns.of((self.prior.bounds - location[:, None]) / scale[:, None], self.prior.periodic)
        return ScaledPrior(location, scale, self.prior.log_density, self.prior.sample, turns)

    def init(self, seed: int, initial: Dataset | None = None) -> State:
        """A run that has seen nothing, or the evaluations that it is given."""
        data = Dataset.empty(self.d) if initial is None else initial
        state = State(seed=seed, step=0, data=data, predicted=np.full((len(data), 2), np.nan))
        return self._refit(state, None) if self._enough(data) else state

    def model(self, state: State) -> LogDensity:
        """The present surrogate of a run.

        Raises:
            ValueError: If the run has none yet.
        """
        if state.parameters is None:
            msg = "the run has no surrogate yet: too few evaluations with a finite value"
            raise ValueError(msg)
        return self._build(state.data, state.parameters)

    def _build(self, data: Dataset, parameters: Parameters) -> LogDensity:
        data = self._scaled_data(data)
        return self.learner.build(data, self.scaled.to_unit(data.x), parameters, device=self.device)

    def _scaled_data(self, data: Dataset) -> Dataset:
        """The data with derivatives with respect to scaled coordinates, as the models take them."""
        return replace(data, gradient=data.gradient * self.scaled.scale) if data.has_gradients else data

    def log_posterior(self, model: LogDensity, t: Array, window: ScaledPrior | None = None) -> Array:
        """Surrogate log-posterior minus y_max, per unit of t, at scaled coordinates with shape (m, d).

        With a window, a prior whose circles are open, only one turn of each periodic parameter counts.
        """
        out = (window or self.scaled).log_density(t)
        inside = np.isfinite(out)
        out[inside] += model.relative(t[inside]) * model.temperature
        return out

    # ask

    def ask(self, state: State, pending: Array | None = None, n: int | None = None) -> Array:
        """The next batch, with shape (b, d): a function of the arguments alone.

        Args:
            state: What is known.
            pending: Points whose evaluations are under way, with shape (k, d): no others are chosen for what these will
                tell, which the surrogate knows without their values.
            n: Size of the batch; ``n_batch`` unless given. A design has a size of its own.
        """
        pending = np.empty((0, self.d)) if pending is None else pending.reshape(-1, self.d)
        if state.parameters is None:
            x = self._ask_design(state, pending)
        else:
            x = self._ask_posterior(state, pending, n or self._batch(state))
        return x if n or len(pending) else self._with_fast(state, x)

    def _with_fast(self, state: State, x: Array) -> Array:
        """The points, each followed by others of the same slow parameters if there are fast ones."""
        if self.fast is None or not len(x):
            return x
        cloud = x if state.draws is None else self.scaled.from_unit(state.draws.posterior)
        return self.fast.extended(x, cloud, self.prior, generator(state.seed, state.step, "fast"))

    def _ask_design(self, state: State, pending: Array) -> Array:
        data = state.data
        if len(pending):
            return self._rest_of_design(state, pending)
        first = len(data)
        n = self._design_size if first == 0 else max(self.d, self.n_batch)
        best = data.x[np.argmax(np.where(data.finite, data.y, -np.inf))] if data.finite.any() else None
        return design(self.prior, first, n, state.seed, reference=self.reference, best=best)

    def _rest_of_design(self, state: State, pending: Array) -> Array:
        """Points of the initial design that are neither evaluated nor under way, or else further ones."""
        known = {x.tobytes() for x in (*state.data.x, *pending)}
        initial = design(self.prior, 0, self._design_size, state.seed, reference=self.reference)
        if rest := [x for x in initial if x.tobytes() not in known]:
            return np.array(rest)
        return design(self.prior, len(known), max(self.d, self.n_batch), state.seed, reference=self.reference)

    @property
    def _design_size(self) -> int:
        """Points of the initial design: at least 3 d, and more where a quadratic needs them in any case."""
        d = self.d
        if self.gradient:
            return self.n_initial or d + 2
        if self.n_initial is None and self._knows_width:  # far outside of a narrow design a free trend has no limit
            return min(trend_size(d) + 2, 6 * d)
        if d > 20:  # a surrogate with fewer data than coefficients chases corners of the prior, of which there are many
            return self.n_initial or trend_size(d) + 2
        return self.n_initial or max(3 * d, 4, min(int(4.5 * d), int(0.8 * trend_size(d))))

    @property
    def _n_holes(self) -> int:
        """Space-filling points to add before convergence is claimed; none with a reference.

        For 4 d in all, or 2 d with gradients, each of which also says in which direction it goes uphill.
        """
        total = (2 if self.gradient else 4) * self.d
        return max(0, total - self._design_size) if self.reference is None and self.mechanisms.holes else 0

    @property
    def _explores(self) -> bool:
        """Whether further modes are looked for: not where the posterior is said to have a place and a width."""
        return self.mechanisms.explore and not self._knows_width

    @property
    def _knows_width(self) -> bool:
        return self.reference is not None and self.reference.covariance is not None

    @property
    def n_batch(self) -> int:
        """Points per batch."""
        return self.batch_size or max(2, self.d // 2)

    def _batch(self, state: State) -> int:
        """Points of the next batch: an eighth of those known where values are noisy, as none of them tells much."""
        noisy = self.batch_size is None and bool((self._noise(state) > 0.1).any())
        return max(self.n_batch, int(state.data.finite.sum()) // 8) if noisy else self.n_batch

    def _ask_posterior(self, state: State, pending: Array, n: int) -> Array:
        model = self.model(state)
        draws = self.draws(state)
        t = np.concatenate([draws.posterior[::2], draws.warm[::2]])
        searching = model.temperature > 1.0
        caution = np.sqrt(inflation(self._recent_errors(state, everywhere=True))) if searching else None
        index = uncertain_batch(
            model,
            t,
            self.scaled.log_density(t),
            min(n, len(t)),
            zeta=0.5 if searching else self.d**-0.85,
            caution=caution,
            pending=self.scaled.to_unit(pending),
            doubt=self.mechanisms.feasibility_doubt,
        )
        chosen = t[index]
        if state.verdict.armed and not state.verdict.converged:  # true values of plain draws before a claim
            shuffled = generator(state.seed, state.step, "own draws").permutation(draws.posterior)
            own = self._without(shuffled, pending)[: len(chosen) // 2]
            own = np.concatenate([own, self._gap(state, model, pending)])
            chosen = np.concatenate([own, chosen[: max(0, len(chosen) - len(own))], self._denied(state, model)])
        if self.mechanisms.promising and self._explores and state.probes is None and len(chosen) > 1:
            promising = self._promising(state, model)
            chosen = chosen if promising is None else np.concatenate([chosen[:-1], promising])
        missing = n - len(chosen)
        if missing > 0:
            rng = generator(state.seed, state.step, "fill")
            chosen = np.concatenate([chosen, rng.permutation(draws.warm)[:missing]])
        if state.probes is not None:
            confirmed = state.verdict.converged  # and only the search for modes goes on
            chosen = np.concatenate([chosen[:0] if confirmed else chosen, self._without(state.probes, pending)])
        return self.scaled.from_unit(chosen)

    def _promising(self, state: State, model: LogDensity) -> Array | None:
        """The point of the prior most likely to matter, with shape (1, d), if any is likely enough.

        Early on, and on odd steps while many points are taken for noise, a process with a constant mean is asked: the
        trend denies whatever lies far from the mode that it describes.
        """
        finite = int(state.data.finite.sum())
        early = finite < (2 * self.d if self.gradient else max(trend_size(self.d), 6 * self.d))
        temperature = model.temperature
        recent = state.data.step >= state.step - 6
        wasted = recent & ~(state.data.y_max - state.data.y < relevant_depth(self.d) * temperature)
        if not early and wasted.sum() >= 3 and state.step % 6:
            return None
        if early or (state.step % 2 and model.coarse):
            model = self._constant_model(state, temperature)
        candidates = self._candidates(state, model, 2000)
        if len(candidates) == 0:
            return None
        mean, sd = model.predict(candidates)
        target = state.data.y_max - temperature * (1.0 + 0.5 * self.d)
        best, score = most_promising(mean / temperature, sd / temperature, target / temperature)
        if early or score > -2.5 or (state.step % 5 == 0 and score > -6.0):
            return candidates[best : best + 1] if np.isfinite(score) else None
        return None

    def _constant_model(self, state: State, temperature: float) -> LogDensity:
        """A surrogate with a constant mean and no warps, fitted to the same data."""
        return self._build(state.data, self.learner.open_minded(self._problem(state, None, temperature)))

    def _problem(self, state: State, draws: Array | None, temperature: float) -> FitProblem:
        data, t = self._scaled_data(state.data), self.scaled.to_unit(state.data.x)
        return FitProblem(data, t, draws, temperature, self.device, self.feasibility)

    def _candidates(self, state: State, model: LogDensity, n: int) -> Array:
        """Points of the prior, in scaled coordinates, off its faces and where the likelihood is probably feasible."""
        rng = generator(state.seed, state.step, "candidates", n)
        points = self.scaled.to_unit(self.prior.quantile(0.005 + 0.99 * rng.random((n, self.d))))
        return points[model.feasibility.probability(model.whiten(points)) > 0.5]

    # tell

    def tell(self, state: State, x: Array, evaluations: list[Evaluation]) -> State:
        """The state after a batch: data, a new surrogate, draws of it, and a verdict."""
        predicted = np.full((len(x), 2), np.nan)
        probes = np.empty((0, self.d)) if state.probes is None else state.probes
        still_open = self._without(probes, x)
        before = None if state.parameters is None else self.model(state)
        if before is not None:
            predicted = np.stack(before.predict(self.scaled.to_unit(x)), 1)
        data = state.data.append(x, evaluations, state.step)
        state = replace(
            state,
            step=state.step + 1,
            data=data,
            predicted=np.concatenate([state.predicted, predicted]),
            previous=state.parameters,
            probes=None,
            explored=state.explored + len(probes) - len(still_open),
        )
        if state.parameters is None and not self._enough(data):
            return self._keep_designing(state)
        state = self._refit(state, before)
        if state.verdict.stop and state.explored == 0:
            return state  # a search from the beginning leaves nothing open: other points have answered for the probes
        return self._awaiting(state, still_open) if len(still_open) else state

    def _without(self, probes: Array, x: Array) -> Array:
        """Those probes, with shape (k, d), that are not among the points x."""
        known = {row.tobytes() for row in x}
        return probes[[row.tobytes() not in known for row in self.scaled.from_unit(probes)]]

    @staticmethod
    def _awaiting(state: State, probes: Array) -> State:
        """The state while probes are under way: no others are sent out, and the run does not end."""
        verdict = state.verdict
        if verdict.stop:
            verdict = Verdict(
                False, verdict.converged, verdict.armed, f"{len(probes)} probes for further modes are out"
            )
        return replace(state, probes=probes, verdict=verdict)

    def _enough(self, data: Dataset) -> bool:
        return int(data.finite.sum()) >= self.d + 2

    def _keep_designing(self, state: State) -> State:
        limit = self.max_design or int(np.ceil(30 * self.d**1.5))
        finite = int(state.data.finite.sum())
        if len(state.data) < limit:
            verdict = Verdict(False, False, False, f"{finite} of {self.d + 2} finite values that a surrogate needs")
            return replace(state, verdict=verdict)
        return replace(state, verdict=Verdict(True, False, False, f"gave up: {self.shortage(state)}"))

    def shortage(self, state: State) -> str:
        """What a run without a surrogate lacks, the first reasons of failures, and the remedy."""
        data = state.data
        finite, failed = int(data.finite.sum()), int((data.status == FAILED).sum())
        text = (
            f"{finite} finite values in {len(data)} evaluations, at least {self.d + 2} are needed ({failed} failed, "
            f"{len(data) - finite - failed} were -inf). Narrow the prior, allow more evaluations, or pass reference= "
            "or initial= with points where the log-likelihood is finite"
        )
        reasons = list(dict.fromkeys(r for r in data.reasons if r))[:3]
        return text + (f". First failures: {'; '.join(reasons)}" if reasons else "")

    def _temperature(self, state: State) -> float:
        """Temperature of the next fit: above 1 while the points lie far below what a posterior would show.

        The median gap of the best 2 d + 1 points, times 2 / d, is the temperature of a cloud drawn from exp(y / T) of a
        quadratic; 1.5 times the median error of the last batch says how well the surrogate knows its way. The smaller
        of both counts, at most three times the last one.
        """
        y = np.sort(state.data.y[state.data.finite])[::-1]
        best = y[: 2 * self.d + 1]
        from_gap = 2.0 / self.d * float(np.median(best[0] - best))
        last = (state.data.step == state.step - 1) & state.data.finite & np.isfinite(state.predicted[:, 0])
        errors = np.maximum(np.abs(state.data.y - state.predicted[:, 0]) - self._noise(state), 0.0)[last]
        previous = 1e6 if state.previous is None else state.previous.temperature
        from_error = 1.5 * float(np.quantile(errors, 0.5, method="lower")) if len(errors) else previous
        temperature = max(1.0, min(from_gap, from_error, 3.0 * previous))
        return temperature if temperature > 1.2 and self.mechanisms.temperature else 1.0

    @cached_property
    def learner(self) -> Learner:
        """How the surrogate is learned."""
        low, high = self.scaled.to_unit(self.prior.bounds.T)
        return ScalarLearner(Structure.plain(low, high, self.prior.periodic), self.mechanisms)

    def _refit(self, state: State, before: LogDensity | None) -> State:
        state = self._fitted(state, self._temperature(state))
        return self._assess(state, self.model(state), before)

    def _fitted(self, state: State, temperature: float) -> State:
        """The state with a new surrogate and draws of it."""
        t = self.scaled.to_unit(state.data.x)
        cloud = self._design_cloud(t[state.data.status == OK])
        if state.draws is not None:
            cloud = np.concatenate([state.draws.posterior, state.draws.warm])
        parameters = self.learner.fit(
            self._problem(state, cloud, temperature),
            state.parameters,
            cold_start=state.step % 3 == 0,
            search=self.mechanisms.structures and (state.step % 2 == 0 or self._missed(state)),
            noise=self.mechanisms.noise and state.step % 4 == 0,
        )
        model = self._build(state.data, parameters)
        finite = state.data.status == OK
        draws = draw(
            model,
            self.scaled,
            t[finite],
            state.data.y[finite],
            state.draws,
            generator(state.seed, state.step, "draws"),
            n=self.particles,
        )
        return replace(state, parameters=parameters, draws=draws)

    def _missed(self, state: State) -> bool:
        """Whether a point of the last batch was predicted worse than convergence would need, by a factor of two."""
        last = (state.data.step == state.step - 1) & state.data.finite & np.isfinite(state.predicted[:, 0])
        noise = self._noise(state)[last]
        error = batch_error(state.data.y[last], state.predicted[last, 0], state.data.y_max, noise=noise)
        return error > 2.0 * self.thresholds.batch

    @staticmethod
    def _noise(state: State) -> Array:
        """Sd of the noise of each value, what came with it and what the surrogate found, with shape (n,)."""
        return np.hypot(state.data.noise, 0.0 if state.parameters is None else state.parameters.noise)

    def _design_cloud(self, t: Array) -> Array | None:
        """The evaluated points, which set the scales of the first surrogate where a narrow reference was given."""
        return t if self.reference is not None and is_narrow(t) else None

    def draws(self, state: State) -> Draws:
        """Draws of the present surrogate.

        Raises:
            ValueError: If the run has none yet.
        """
        if state.draws is None:
            msg = "the run has no draws yet: too few evaluations with a finite value"
            raise ValueError(msg)
        return state.draws

    def cooled(self, state: State) -> State:
        """The state with a surrogate at temperature 1: itself, unless the run ended while it was searching."""
        if state.parameters is None or state.parameters.temperature == 1.0:
            return state
        return self._fitted(state, 1.0)

    # assess

    def importance_sample(self, state: State, model: LogDensity, n: int, *purpose: str) -> ImportanceSample:
        """n weighted draws of the surrogate posterior in scaled coordinates, and its evidence relative to y_max."""
        rng = generator(state.seed, state.step, "importance", *purpose)
        window = self.scaled.about(self.draws(state).posterior)
        return importance_sample(
            lambda p: self.log_posterior(model, p, window), window.unrolled(self.draws(state).posterior), n, rng
        )

    def surrogate_error(self, state: State, model: LogDensity, sample: ImportanceSample) -> tuple[Array, Array, float]:
        """How far the posterior moves over paths of the surrogate.

        Returns:
            The sd over paths of the mean, in scaled coordinates, and of the relative change of the sd, each with shape
            (d,); and the sd of the log evidence.
        """
        rng = generator(state.seed, state.step, "surrogate error")
        inflate = UNSEEN_INFLATION * inflation(self._recent_errors(state))
        weights = self._warm_log_weights(model, sample)
        _, _, evidence, mean, sd = spread(model, sample, weights, rng, inflate=inflate)
        return mean.std(0), sd.std(0), float(np.hypot(evidence, self._label_error(state, model, sample)))

    def self_check(self, state: State, model: LogDensity, sample: ImportanceSample) -> dict[str, float]:
        """How well the run predicted what it saw last, and how far its draws can be trusted.

        Returns:
            ``points``, the number of evaluations of the bulk in the last two batches; ``largest_error``, of their
            predictions from before they were made, in nats; and ``k_hat``, the 90 % quantile over paths of the
            surrogate of the Pareto shape of the importance weights that would turn its draws into theirs: below 0.7
            the posterior of each path is within reach of re-weighting.
        """
        rng = generator(state.seed, state.step, "self-check")
        recent = (state.data.step >= state.step - 2) & state.data.finite & np.isfinite(state.predicted[:, 0])
        recent &= state.data.y_max - state.data.y < 3.0 + 0.5 * self.d
        errors = np.abs(state.data.y - state.predicted[:, 0])[recent]
        x = sample.x[rng.choice(len(sample.x), 400, p=sample.weights)]
        paths = model.deviations(x, 32, rng, inflate=inflation(self._recent_errors(state)))
        shapes = [smooth_weights(path).k_hat if np.isfinite(path).any() else np.inf for path in paths]
        k_hat = np.quantile(shapes, 0.9, method="higher")
        return {
            "points": float(len(errors)),
            "largest_error": float(errors.max()) if len(errors) else np.nan,
            "k_hat": float(k_hat),
        }

    def unseen_share(self, state: State, model: LogDensity, *, n: int = 4000) -> float:
        """Share of the prior where the posterior could have mass that the run does not know of.

        A process with a constant mean is asked, which unlike a trend denies nothing: places where the mean plus three
        sds reaches the depth of the bulk, and the surrogate itself does not.
        """
        candidates = self._candidates(state, model, n)
        if len(candidates) == 0:
            return 0.0
        mean, sd = self._constant_model(state, model.temperature).predict(candidates)
        bulk = 6.0 + 0.5 * self.d
        could = (mean + 3.0 * sd > state.data.y_max - bulk) & (model.if_feasible(candidates) < -2.0 * bulk)
        return float(could.sum()) / n

    def _label_error(self, state: State, model: LogDensity, sample: ImportanceSample) -> float:
        """Sd of the log evidence that comes from forbidden regions without a label; 0 where none are known to exist."""
        if model.feasibility.everywhere:
            return 0.0
        return hole_error(self._n_within(state, model, sample.x, state.data.finite, 3.0 + 0.5 * self.d))

    def _n_within(self, state: State, model: LogDensity, draws: Array, of: Flags, depth: float) -> int:
        """How many of some evaluated points lie within a depth below the top of the surrogate without the gate."""
        top = float(model.if_feasible(np.concatenate([draws, self.scaled.to_unit(state.data.x)])).max())
        return int((top - model.if_feasible(self.scaled.to_unit(state.data.x[of])) < depth).sum())

    def _warm_log_weights(self, model: LogDensity, sample: ImportanceSample) -> Array:
        """Log weights of the draws for the density without trust region and gate at temperature 1 + 2 / sqrt(d)."""
        log_q = sample.log_density - np.log(np.maximum(sample.weights, 1e-300))
        return model.bare_mean(sample.x) / (1.0 + 2.0 / np.sqrt(self.d)) - log_q

    def _assess(self, state: State, model: LogDensity, before: LogDensity | None) -> State:
        if model.temperature > 1.0 or before is None:
            verdict = Verdict(False, False, False, f"searching at temperature {model.temperature:.3g}")
            return self._conclude(state, Signals(), None, 1.0, verdict)
        sample = self.importance_sample(state, model, 6000 if self.d <= 20 else 24_000)
        signals, inflate = self._signals(state, model, before, sample)
        verdict = judge(signals, self.thresholds, armed=state.verdict.armed)
        if signals.moved > 0.2 and state.explored > 0:  # something was found: the search begins again
            state = replace(state, explored=self._n_holes if np.isfinite(signals.batch) else 0)
        if not verdict.armed:
            return self._conclude(state, signals, sample, inflate, verdict)
        higher = self._overlooked(state, model, sample)
        points, radius = self._explore(state, model, sample) if self._explores else (higher[:0], np.nan)
        state = self._conclude(state, signals, sample, inflate, verdict, radius)
        if len(higher):
            verdict = Verdict(
                False, False, True, "the surrogate promises more than all of its draws where none has been"
            )
        elif len(points) and verdict.converged:
            reason = "looking for further modes: the found ones do not explain all that was seen"
            verdict = Verdict(False, True, True, reason)
        if len(higher) or len(points):
            state = replace(state, probes=np.concatenate([higher, points]), verdict=verdict)
        return state

    def _overlooked(self, state: State, model: LogDensity, sample: ImportanceSample) -> Array:
        """Points where the surrogate posterior is higher than all draws of it, in scaled coordinates, mostly none."""
        if not self.mechanisms.overlooked:
            return np.empty((0, self.d))
        rng = generator(state.seed, state.step, "overlooked")
        window = self.scaled.about(self.draws(state).posterior)  # that of the sample
        candidates = np.concatenate([window.sample(4000, rng), window.unrolled(self.draws(state).warm)])
        low, high = self._inner_box(window)  # at a face a density may rise without end, and hold nothing

        def inner(t: Array) -> Array:
            inside = ((t >= low) & (t <= high)).all(1)
            return np.where(inside, self.log_posterior(model, t, window), -np.inf)

        return overlooked(inner, candidates, float(sample.log_density.max()), rng)

    def _explore(self, state: State, model: LogDensity, sample: ImportanceSample) -> tuple[Array, float]:
        """Points to look at before the run may claim convergence, and the smallest radius of an unexplained one."""
        rng = generator(state.seed, state.step, "explore")
        n_holes = self._n_holes
        finite = state.data.finite
        window = self.scaled.about(self.draws(state).posterior)  # that of the sample
        t = window.unrolled(self.scaled.to_unit(state.data.x))
        first = np.empty((0, self.d))
        if state.explored == 0:
            u = rng.random((2000, self.d))
            u = np.where(self.prior.periodic, u, 0.1 + 0.8 * u)
            inner = window.unrolled(self.scaled.to_unit(self.prior.quantile(u)))
            inner = inner[model.feasibility.probability(model.whiten(inner)) > 0.5]
            images = self._exchanged(state, model)[: max(n_holes, 2) if self.mechanisms.exchanges else 0]
            missing = max(n_holes - len(images), 0) if len(inner) else 0
            empty = inner[holes(np.concatenate([t, images]), inner, missing)]
            first = np.concatenate([self._label_checks(state, model, rng), images, empty])
        spent = max(0, state.explored - n_holes)
        if spent >= 6 * self.d or not self.mechanisms.probes:
            return first, np.nan
        gave_up = self._fruitless_rounds(state) >= patience(self.d)
        top = float(model.smooth(sample.x).max())
        found = search(
            t[finite],
            state.data.y[finite],
            sample.x[rng.choice(len(sample.x), 4000, p=sample.weights)],
            model.trend_depth(t[finite]) if model.exact else None,
            model.left_out_depth(state.data.y[finite]),
            lambda m: top - model.smooth(m),
            self._inner_box(window),
            rng,
            count=0 if gave_up else 2,
        )
        return np.concatenate([first, found.probes]), found.nearest

    def _fruitless_rounds(self, state: State) -> int:
        """Rounds of probes that led nowhere, since the search for modes last began."""
        columns = [TRACE_COLUMNS.index(name) for name in ("step", "explored", "open_radius")]
        step, explored, nearest = state.trace[:, columns].T
        again = np.flatnonzero(np.diff(explored, append=state.explored) < 0)
        rounds = np.isfinite(nearest)
        rounds[: again[-1] + 1 if len(again) else 0] = False
        surprised = []
        for round_step, radius in zip(step[rounds], nearest[rounds], strict=True):
            rows = (state.data.step == round_step) & state.data.finite & np.isfinite(state.predicted[:, 0])
            gap, predicted_gap = state.data.y_max - state.data.y[rows], state.data.y_max - state.predicted[rows, 0]
            surprised.append(bool(is_surprise(gap, predicted_gap, radius, self.d).any()))
        return fruitless_rounds(nearest[rounds].tolist(), surprised)

    @cached_property
    def _equal_priors(self) -> list[Indices]:
        """Columns of parameters that have the same prior, group by group."""
        quantiles = self.prior.quantile(np.array([[0.01], [0.3], [0.7], [0.99]]) * np.ones((4, self.d)))
        return [np.flatnonzero((quantiles == column).all(0)) for column in np.unique(quantiles, axis=1).T[:, :, None]]

    def _exchanged(self, state: State, model: LogDensity) -> Array:
        """The best point with parameters of equal priors exchanged, where the surrogate denies it; shape (k, d)."""
        best = state.data.x[np.argmax(np.where(state.data.finite, state.data.y, -np.inf))]
        images = self.scaled.to_unit(best[exchanges(self._equal_priors, self.d)])
        top = float(model.smooth(self.draws(state).posterior).max())
        return images[top - model.smooth(images) > 6.0 + 0.5 * self.d]

    def _inner_box(self, window: ScaledPrior) -> tuple[Array, Array]:
        """Corners of the box in which modes are looked for: all but half a per cent of the prior at each end.

        Of a periodic parameter it holds the turn of the window.
        """
        ends = self.scaled.to_unit(self.prior.quantile(np.array([[0.005], [0.995]]) * np.ones((2, self.d))))
        turn = window.window(self.prior.bounds).T
        low, high = np.where(self.prior.periodic, turn, ends)
        return low, high

    def _draws_if_feasible(self, state: State, model: LogDensity, rng: np.random.Generator) -> Array:
        """Draws of the posterior as it would be without the gate, with shape (1000, d)."""
        warm = self.draws(state).warm
        return warm[systematic_resample((1.0 - 1.0 / WARM_TEMPERATURE) * model.if_feasible(warm), 1000, rng)]

    def _denied(self, state: State, model: LogDensity) -> Array:
        """The draw without the gate that the gate denies on the weakest ground, with shape (1, d), or none.

        It lies farthest from all points that were found infeasible: a part of the posterior that a border cuts off by
        mistake is in no other check, because the gate is sure of it.
        """
        if model.feasibility.everywhere or not self.mechanisms.label_checks:
            return np.empty((0, self.d))
        draws = self._draws_if_feasible(state, model, generator(state.seed, state.step, "denied"))
        denied = draws[model.feasibility.probability(model.whiten(draws)) < 0.5]
        return denied[holes(model.infeasible, model.whiten(denied), min(1, len(denied)))]

    def _gap(self, state: State, model: LogDensity, pending: Array) -> Array:
        """The warm draw farthest from all evaluated points, with shape (1, d); none where the trend explains the data.

        Where a process misjudges how a density bends it is sure of places that no point is near.
        """
        if model.exact or not self.mechanisms.gaps:
            return np.empty((0, self.d))
        warm = self._without(self.draws(state).warm, pending)
        known = np.concatenate([self.scaled.to_unit(state.data.x), self.scaled.to_unit(pending)])
        return warm[holes(model.whiten(known), model.whiten(warm), min(1, len(warm)))]

    def _label_checks(self, state: State, model: LogDensity, rng: np.random.Generator) -> Array:
        """Draws of the posterior as it would be without the gate, spread as its mass is.

        Where forbidden regions are known to exist, a hole in the bulk, or a part of it cut off by mistake, shows in
        nothing but labels. The bulk should hold 2 d + 4 of them.
        """
        if model.feasibility.everywhere or not self.mechanisms.label_checks:
            return np.empty((0, self.d))
        warm, draws = self.draws(state).warm, self._draws_if_feasible(state, model, rng)
        u, known = model.whiten(draws), model.whiten(self.scaled.to_unit(state.data.x))
        every = np.ones(len(state.data), dtype=bool)
        missing = max(0, 2 * self.d + 4 - self._n_within(state, model, warm, every, 3.0 + 0.5 * self.d))
        return draws[representatives(known, u, missing)]

    def _recent_errors(self, state: State, batches: int = 3, *, everywhere: bool = False) -> Array:
        """Standardised errors of the last batches, where the posterior depends on them or everywhere."""
        recent = (state.data.step >= state.step - batches) & state.data.finite & np.isfinite(state.predicted[:, 0])
        y, (mean, sd) = state.data.y[recent], state.predicted[recent].T
        z = (y - mean) / np.sqrt(sd**2 + 0.1**2 + self._noise(state)[recent] ** 2)
        return z if everywhere else z[relevant(y, mean, state.data.y_max, self.d)]

    def _signals(
        self, state: State, model: LogDensity, before: LogDensity, sample: ImportanceSample
    ) -> tuple[Signals, float]:
        """All signals of an iteration and the inflation of the surrogate's variance."""
        rng = generator(state.seed, state.step, "signals")
        if sample.ess < 50:
            return Signals(ess=sample.ess), 1.0
        warm_weights = self._warm_log_weights(model, sample)
        inflate = inflation(self._recent_errors(state))
        bulk, wide, evidence, _, _ = spread(model, sample, warm_weights, rng, inflate=inflate)
        last = state.data.step == state.step - 1
        seen = last & state.data.finite
        seen &= state.data.y_max - np.fmax(state.data.y, state.predicted[:, 0]) < 0.5 * relevant_depth(self.d)
        noise = self._noise(state)[seen]
        error = batch_error(state.data.y[seen], state.predicted[seen, 0], state.data.y_max, noise=noise)
        if self._surprised(state, before, last):
            error = np.inf
        p = model.feasibility.probability(model.whiten(sample.x))
        signals = Signals(
            spread=bulk,
            warm=wide,
            log_evidence=evidence,
            batch=error,
            moved=self._moved(before, sample, rng),
            border=float(sample.weights @ (1.0 - p)),
            ess=sample.ess,
            labels=self._label_error(state, model, sample),
        )
        return signals, inflate

    def _surprised(self, state: State, before: LogDensity, last: Flags) -> bool:
        """Whether a point that was sure to be feasible was not, or one of the bulk that was excluded was."""
        data = state.data
        p = before.feasibility.probability(before.whiten(self.scaled.to_unit(data.x[last])))
        infeasible = (~data.finite & (data.status != FAILED))[last]
        bulk = data.y_max - data.y[last] < 6.0 + 0.5 * self.d
        return bool((infeasible & (p >= 1.0)).any() or (bulk & (p <= 0.0)).any())

    def _moved(self, before: LogDensity, sample: ImportanceSample, rng: np.random.Generator) -> float:
        if before.temperature > 1.0:
            return np.inf
        return moved(sample, self.log_posterior(before, sample.x), sample.log_density, rng)

    def _conclude(
        self,
        state: State,
        signals: Signals,
        sample: ImportanceSample | None,
        inflate: float,
        verdict: Verdict,
        radius: float = np.nan,
    ) -> State:
        parameters = state.parameters
        if parameters is None:
            msg = "cannot conclude without a surrogate"
            raise ValueError(msg)
        error = (
            np.nan
            if sample is None
            else np.linalg.norm([sample.log_integral_error, signals.log_evidence, signals.labels])
        )
        row = dict.fromkeys(TRACE_COLUMNS, np.nan) | {
            "step": state.step,
            "n_evaluations": len(state.data),
            "n_finite": int(state.data.finite.sum()),
            "best": state.data.y_max,
            "temperature": parameters.temperature,
            "log_evidence": np.nan if sample is None else state.data.y_max + sample.log_integral,
            "log_evidence_error": error,
            "spread": signals.spread,
            "warm_spread": signals.warm,
            "evidence_spread": signals.log_evidence,
            "batch_error": signals.batch,
            "moved": signals.moved,
            "border": signals.border,
            "ess": signals.ess,
            "inflation": inflate,
            **parameters.numbers(),
            "explored": state.explored,
            "open_radius": radius,
        }
        new = np.array([[row[name] for name in TRACE_COLUMNS]], dtype=np.float64)
        return replace(state, verdict=verdict, trace=np.concatenate([state.trace, new]))
