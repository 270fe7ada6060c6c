"""Draws of the amplitudes that a run has integrated out, and a surrogate of all parameters, including them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from surrogate.arrays import Array
from surrogate.inference.conclusion import Emulator
from surrogate.inference.result import Result
from surrogate.inference.setup import Setup
from surrogate.log_density.composite.comparison import GaussianComparison
from surrogate.log_density.composite.model import CompositeLogDensity
from surrogate.problem.nuisances import Nuisances
from surrogate.rng import generator
from surrogate.samplers.samples import Samples

__all__ = ["with_amplitudes", "with_surrogate"]


_DRAWS = 2000  # draws of the posterior, whose covariance defines the coordinates of the surrogate


def with_amplitudes(nuisances: Nuisances | None, result: Result, seed: int) -> Result:
    """The result of a run with draws of the amplitudes that it has integrated out; unchanged if there are none.

    The evidence stays as it is. Each evaluation gets the most probable amplitudes, and the log-likelihood there.

    Args:
        nuisances: The amplitudes.
        result: Result for the marginal target.
        seed: Seed of the draws.
    """
    if nuisances is None:
        return result
    record = result.record
    data, prior = nuisances.expanded(record.data), nuisances.posterior.prior
    predicted = record.predicted.copy()
    finite = record.data.finite
    predicted[finite, 0] += data.y[finite] - record.data.y[finite]
    record = replace(
        record,
        data=data,
        log_prior=prior.log_density(data.x),
        predicted=predicted,
        priors=tuple(parameter.prior_words for parameter in prior.parameters),
    )
    known = with_surrogate(nuisances, replace(result, record=record))
    draws, slopes = _draw_amplitudes(nuisances, known, generator(seed, "amplitudes"))
    error = {}
    for name, values in record.surrogate_error.items():
        of_amplitudes = np.sqrt(slopes**2 @ values**2) if name == "mean" else np.zeros(len(nuisances.columns))
        error[name] = nuisances.joined(values[None], of_amplitudes[None])[0]
    return replace(known, draws=draws, record=replace(record, surrogate_error=error), target=nuisances.posterior)


def with_surrogate(nuisances: Nuisances, result: Result) -> Result:
    """A result whose evaluations have all parameters, with a surrogate of all of them.

    Args:
        nuisances: The amplitudes.
        result: With draws of the other parameters, or of all.
    """
    given: Any = result.setup
    setup = replace(
        given if given is not None else Setup(nuisances.posterior.prior),
        prior=nuisances.posterior.prior,
        observables=nuisances.target,
        reference=None,
    )
    rows = np.linspace(0, len(result.weights) - 1, min(_DRAWS, len(result.weights))).astype(int)
    x = result.samples[rows]
    if x.shape[1] < setup.d:
        x = nuisances.joined(x, np.repeat(result.record.data.x[:1, nuisances.columns], len(x), 0))
    problem = setup.problem(result.record.data, setup.scaled.to_unit(x))
    parameters = setup.learner.fit(problem, None, cold_start=True, search=False, noise=False)
    model = setup.learner.build(problem.data, problem.t, parameters, device=problem.device)
    inflation = getattr(result.emulator, "inflation", 1.0)
    return replace(result, emulator=Emulator(model, setup.scaled, inflation), setup=setup)


def _draw_amplitudes(nuisances: Nuisances, result: Result, rng: np.random.Generator) -> tuple[Samples, Array]:
    """The draws with amplitudes, and slopes of the mean amplitudes in the other parameters, with shape (p, d - p)."""
    emulator: Any = result.emulator
    model: CompositeLogDensity = emulator.model
    compared = model.comparison
    if not isinstance(compared, GaussianComparison):
        msg = f"amplitudes need Gaussian data, got {type(compared).__name__}"
        raise TypeError(msg)
    given, prior = result.draws, nuisances.posterior.prior
    x = nuisances.joined(given.x, np.zeros((len(given.x), len(nuisances.columns))))
    z, variance = model.components(model.whiten(emulator.scaled.to_unit(x)))
    z = z + np.sqrt(variance) * rng.standard_normal(z.shape)
    known = x[:, list(compared.columns)] @ compared.templates  # other templates only: amplitudes are zero here
    products = (compared.centre + z @ compared.basis.T + known) @ nuisances.rows.T
    amplitudes, log_density = nuisances.draw(products, rng)
    x = nuisances.joined(given.x, amplitudes)
    offset = given.x - given.weights @ given.x
    slopes = np.linalg.lstsq(offset, nuisances.mean(products), rcond=None)[0].T
    draws = replace(
        given,
        names=prior.names,
        labels=prior.labels,
        bounds=prior.bounds,
        x=x,
        log_posterior=given.log_posterior + log_density,
        log_prior=prior.log_density(x),
        periodic=tuple(map(bool, prior.periodic)) if prior.periodic.any() else (),
    )
    return draws, np.asarray(slopes, dtype=np.float64)
