"""Choice of a batch: a pure function of the table, the settings and the state."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from surrogate.arrays import Flags
from surrogate.labelling.candidates import MOST_CANDIDATES, candidates, random_count
from surrogate.labelling.models import FoldModel, fit_folds, gain_of, model_name
from surrogate.labelling.pool import Pool
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.state import FAILED, FREE, LABELLED, OUT, Batch, LabelState, Rows
from surrogate.problem.repeats import distinct_rows
from surrogate.rng import generator, torch_generator

__all__ = ["choose", "distinct_labelled", "first_labels", "fit"]


def first_labels(pool: Pool) -> int:
    """Number of labels needed for a model: 20, or twice the number of model inputs if larger, at most 100.

    Until then rows are drawn at random.
    """
    return max(20, min(2 * pool.d, 100))


def fit(pool: Pool, state: LabelState, settings: LabelSettings) -> FoldModel | None:
    """A model fitted to the current labels; None if there are too few, or all are equal."""
    rows = distinct_labelled(pool, state)
    if len(rows) < first_labels(pool) or np.ptp(state.y[rows]) == 0.0:
        return None
    name, may_be_ridge = model_name(settings.model, len(rows)), settings.model == "auto"
    model = replace(_fit_with(name, pool, state, settings, rows, may_be_ridge=may_be_ridge), n_labels=state.n_labels)
    return model if settings.flat is None else replace(model, gain=_gain(pool, state, settings, rows, model))


def distinct_labelled(pool: Pool, state: LabelState) -> Rows:
    """Labelled rows without duplicates: one of each set with equal columns and label, preferably a random one."""
    rows = state.rows(LABELLED)
    rows = rows[np.argsort(~state.random[rows], kind="stable")]
    return np.sort(rows[distinct_rows(pool.x(rows), state.y[rows])])


def _fit_with(
    name: str, pool: Pool, state: LabelState, settings: LabelSettings, rows: Rows, *, may_be_ridge: bool = False
) -> FoldModel:
    return fit_folds(
        name,
        pool.x(rows),
        state.y[rows],
        random=state.random[rows],
        seed=settings.seed,
        pool=pool.x(_some(len(pool), generator(settings.seed, "standardise"))),
        folds=settings.folds,
        device=_device(settings.device),
        uncertainty=settings.uncertainty,
        may_be_ridge=may_be_ridge,
        categories=pool.schema.blocks,
    )


def _gain(
    pool: Pool, state: LabelState, settings: LabelSettings, rows: Rows, model: FoldModel
) -> tuple[float, float] | None:
    """Gain from doubling the labels: compares a model of the first half with the current one on random held-out rows.

    None if there are too few labels, or too few batches to divide them.
    """
    order = state.last_batch[rows]
    sizes = np.array([(order <= number).sum() for number in np.unique(order)])
    fit_for = (sizes >= first_labels(pool)) & (1.5 * sizes <= len(rows))
    if not fit_for.any():
        return None
    half = int(sizes[fit_for][np.abs(np.log(2.0 * sizes[fit_for] / len(rows))).argmin()])
    early = order <= order[np.argsort(order, kind="stable")[half - 1]]
    if np.ptp(state.y[rows[early]]) == 0.0:
        return None
    before = _fit_with(model.name, pool, state, settings, rows[early]).held_out.error
    random = state.random[rows[early]]
    return gain_of(before[random], model.held_out.error[early][random], math.log2(len(rows) / half))


def _some(n: int, rng: np.random.Generator, *, most: int = 20_000) -> Rows:
    """A random sample of at most ``most`` rows."""
    return np.arange(n) if n <= most else np.sort(rng.choice(n, most, replace=False))


def _device(name: str | None) -> str:
    if name != "auto":
        return name or "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def choose(pool: Pool, state: LabelState, settings: LabelSettings, n: int, model: FoldModel | None) -> Batch:
    """The next batch: random rows for the audit, and rows chosen to add most to those already known.

    Pending rows count as known, because selection depends on where rows lie, not on their labels.

    Args:
        pool: The table.
        state: State of the run; pending and failed rows are not requested.
        settings: Settings of the run.
        n: Number of rows; fewer are returned if fewer are free.
        model: The model of the labels in the state; None for a batch of random rows.

    Raises:
        ValueError: If no row is free.
    """
    number = len(state.batches) + 1
    free = (state.status == FREE) & pool.allowed
    if not free.any():
        msg = (
            f"no row is left to ask for: {state.n_labels} have labels, {len(state.rows(OUT))} are pending, "
            f"{len(state.rows(FAILED))} failed, {int((~pool.allowed).sum())} are masked"
        )
        raise ValueError(msg)
    rng = generator(settings.seed, number, "audit")
    n = min(n, int(free.sum()))
    n_random = n if model is None or settings.method == "random" else random_count(n, settings.audit, rng)
    drawn = np.sort(rng.choice(np.flatnonzero(free), n_random, replace=False))
    free[drawn] = False
    chosen, shortage = np.empty(0, dtype=np.int64), ""
    if model is not None and n_random < n:
        chosen, shortage = _select(pool, state, settings, free, drawn, n - n_random, number, model)
    rows = np.concatenate([drawn, chosen])
    random = np.arange(len(rows)) < len(drawn)
    prediction = np.full((len(rows), 4), math.nan)
    if model is not None:
        prediction = model.predict(pool.x(rows), level=settings.level).table()
    stage = None if model is None else model.stage()
    return Batch(number, rows, random, prediction, settings.level, stage, note=shortage)


def _select(
    pool: Pool,
    state: LabelState,
    settings: LabelSettings,
    free: Flags,
    drawn: Rows,
    n: int,
    number: int,
    model: FoldModel,
) -> tuple[Rows, str]:
    """Rows chosen by the model's features, and a note if some had to be drawn at random."""
    from surrogate.selection.batch import select_batch

    rng = generator(settings.seed, number, "candidates")
    open_rows = _feasible(pool, state, candidates(free, rng, most=MOST_CANDIDATES), rng)
    known = np.concatenate([state.rows(LABELLED, OUT), drawn])
    features = model.features(pool.x(open_rows))
    selection = select_batch(
        features,
        min(n, len(open_rows)),
        train=model.features(pool.x(known)),
        method=settings.method,
        transforms=_transforms(settings.method, explicit=features.dim is not None),
        noise=_NOISE,
        generator=torch_generator(settings.seed, number, "selection"),
    )
    chosen = open_rows[selection.indices.cpu().numpy()]
    rest = np.setdiff1d(np.flatnonzero(free), chosen)
    short = min(n - len(chosen), len(rest))
    if not short:
        return chosen, ""
    filled = np.concatenate([chosen, np.sort(rng.choice(rest, short, replace=False))])
    return filled, f"{short} of {n} chosen rows were drawn at random instead ({selection.status})"


_NOISE = 0.1  # noise sd of a label in units of the prior sd, for rules that use the posterior kernel


def _transforms(method: str, *, explicit: bool) -> tuple[str, ...]:
    """Names of the transforms: a sketch if features are explicit, and the posterior for rules in mode P."""
    from surrogate.selection.batch import method_and_mode

    sketched = ("sketch:512",) if explicit else ()
    return (*sketched, "scale" if method_and_mode(method)[1] == "tp" else f"posterior:{_NOISE}")


_MOST_JUDGED = 1000  # rows from which the classifier of failures is trained, in O(n^2)


def _feasible(pool: Pool, state: LabelState, rows: Rows, rng: np.random.Generator) -> Rows:
    """The rows outside regions where labelling failed; all rows if failures do not cluster."""
    from surrogate.log_density.feasibility.svm import fit_machine

    failed, labelled = state.rows(FAILED), state.rows(LABELLED)
    if len(failed) < 5 or not len(labelled):
        return rows
    labelled = rng.choice(labelled, min(len(labelled), _MOST_JUDGED // 2), replace=False)
    failed = rng.choice(failed, min(len(failed), _MOST_JUDGED // 2), replace=False)
    seen = np.concatenate([labelled, failed])
    x = pool.x(seen)
    centre, scale = x.mean(axis=0), np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
    feasible = np.arange(len(seen)) < len(labelled)
    machine = fit_machine((x - centre) / scale, feasible, doubtful=~feasible)
    likely = machine.probability((pool.x(rows) - centre) / scale) > 0.05
    return rows[likely] if likely.any() else rows
