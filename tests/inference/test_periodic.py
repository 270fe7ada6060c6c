"""Periodic parameters: the surrogate on the circle, the samplers on one turn of it, and whole runs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import surrogate
from surrogate.inference.design import space_filling
from surrogate.inference.setup import Setup
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Structure
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Parameter, Prior
from surrogate.samplers.coordinates import Turns

LOW, HIGH = np.array([-np.pi, -4.0]), np.array([np.pi, 4.0])
WARP = InputWarp.identity(LOW, HIGH, np.array([True, False]))
WHOLE_TURNS = 2.0 * np.pi * np.array([-3.0, -1.0, 1.0, 7.0])


def log_likelihood(x, shift=0.0, concentration=3.0):
    """Von Mises angle about 2.9 + shift with a ripple, and a normal parameter about its cosine."""
    phi, y = x[:, 0] - shift, x[:, 1]
    return concentration * np.cos(phi - 2.9) - 0.5 * ((y - np.cos(phi)) / 0.4) ** 2 + 0.3 * np.sin(3 * phi)


def dataset(x, y):
    evaluations = [Evaluation(float(v), "ok") for v in y]
    return Dataset.empty(2).append(x, evaluations, 0)


def fitted(shift=0.0, trend="quadratic"):
    """A surrogate of 30 points, turned with the likelihood by ``shift``."""
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.uniform(-np.pi, np.pi, 30), rng.uniform(-2, 2, 30)])
    cloud = np.column_stack([rng.vonmises(2.9, 1.0, 300), rng.normal(0, 0.7, 300)])
    x, cloud = x + [shift, 0.0], cloud + [shift, 0.0]
    structure = replace(Structure.plain(LOW, HIGH, np.array([True, False])), trend=trend)
    data = dataset(x, log_likelihood(x, shift))
    return build(data, x, fit_structure(FitProblem(data, x, cloud), structure))


@pytest.mark.parametrize("turns", WHOLE_TURNS)
@pytest.mark.parametrize("trend", ["quadratic", "constant"])
def test_the_surrogate_is_periodic(trend, turns):
    """Mean and sd, to the rounding of the angle itself."""
    model = fitted(trend=trend)
    x = np.random.default_rng(0).uniform(LOW, HIGH, (50, 2))
    for here, there in zip(model.predict(x), model.predict(x + [turns, 0.0]), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shift", [0.4, 1.7, 3.0, -2.2])
def test_turning_the_likelihood_turns_the_surrogate(shift):
    """Whitening makes the fit invariant under rotations of the circle; hyperparameters agree as the optimiser does."""
    model, turned = fitted(), fitted(shift)
    x = np.random.default_rng(0).uniform(LOW, HIGH, (50, 2))
    scale = np.ptp(model.predict(x)[0])
    np.testing.assert_allclose(turned.predict(x + [shift, 0.0])[0], model.predict(x)[0], atol=1e-3 * scale)


def test_the_surrogate_is_continuous_across_the_seam():
    model = fitted()
    y = np.linspace(-2, 2, 9)
    left, right = (model.predict(np.column_stack([np.full(9, edge), y]))[0] for edge in (-np.pi + 1e-9, np.pi - 1e-9))
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_a_von_mises_density_is_a_quadratic_on_the_circle():
    """Coupled to a normal parameter: 15 coefficients, so 16 points leave no error and the residual falls."""
    rng = np.random.default_rng(3)
    x = np.column_stack([rng.uniform(-np.pi, np.pi, 18), rng.uniform(-2, 2, 18)])

    def exact(x):
        return 5.0 * np.cos(x[:, 0] - 1.0) - 0.5 * ((x[:, 1] - 0.8 * np.cos(x[:, 0])) / 0.4) ** 2

    data = dataset(x, exact(x))
    model = build(data, x, fit_structure(FitProblem(data, x), Structure.plain(LOW, HIGH, np.array([True, False]))))
    assert model.parameters.exact
    new = rng.uniform(LOW, HIGH, (100, 2))
    np.testing.assert_allclose(model.predict(new)[0], exact(new), atol=1e-2 * np.ptp(exact(new)))


def test_a_circle_has_two_coordinates_and_no_other_warp():
    assert WARP.size == 3
    assert WARP.possible_kinds(0) == [CIRCLE]
    assert WARP.chosen == 0
    u = WARP.forward(np.array([[0.3, 1.0]]))
    np.testing.assert_allclose(np.hypot(u[0, 0], u[0, 2]), 1.0, rtol=1e-15)
    assert u[0, 1] == 1.0


def test_turns_wrap_and_open_where_nothing_is():
    turns = Turns.of(np.array([[-np.pi, np.pi], [0.0, 1.0]]), [True, False])
    rng = np.random.default_rng(0)
    cloud = np.column_stack([rng.vonmises(np.pi, 8.0, 500), rng.random(500)])
    seam = turns.emptiest(cloud)
    assert abs(seam[0]) < 0.6  # opposite to the mass
    open_cloud = turns.wrapped(cloud, seam)
    assert turns.within(open_cloud, seam).all()
    assert open_cloud[:, 0].std() < 0.5 < cloud[:, 0].std()
    np.testing.assert_allclose(np.exp(1j * open_cloud[:, 0]), np.exp(1j * cloud[:, 0]), atol=1e-12)
    np.testing.assert_array_equal(open_cloud[:, 1], cloud[:, 1])
    np.testing.assert_array_equal(turns.wrapped(cloud), cloud)
    assert Turns.of(np.zeros((2, 2)), [False, False]) is None


def test_the_prior_goes_round():
    prior = Prior.of([Parameter("phi", (0.0, 2 * np.pi), periodic=True), Parameter("a", (-1.0, 1.0))])
    scaled = Setup(prior).scaled
    t = np.array([[1.25, 0.5], [-0.75, 0.5], [0.25, 0.5]])
    np.testing.assert_allclose(scaled.from_unit(t), np.tile([0.5 * np.pi, 0.0], (3, 1)), atol=1e-12)
    np.testing.assert_allclose(scaled.log_density(t), scaled.log_density(t[2:])[0])
    window = scaled.about(np.array([[0.97, 0.1], [0.03, 0.2], [0.99, 0.5]]))
    assert np.isfinite(window.log_density(t)).sum() == 1
    draws = window.sample(1000, np.random.default_rng(0))
    assert np.isfinite(window.log_density(draws)).all()
    low, high = window.window(prior.bounds)[0]
    assert high - low == pytest.approx(1.0)
    assert low < draws[:, 0].min() < draws[:, 0].max() < high


def test_designs_cover_the_whole_circle():
    prior = Prior.of([Parameter("phi", (0.0, 1.0), periodic=True), Parameter("a", (0.0, 1.0))])
    x = space_filling(prior, 0, 64, 1)
    assert x[:, 0].min() < 0.05
    assert x[:, 0].max() > 0.95
    assert x[:, 1].min() > 0.1


@cache
def run(shift=0.0, concentration=3.0, seed=1):
    """A run with the angle of the likelihood turned by ``shift``, and its draws turned back."""
    result = surrogate.infer(
        lambda x: float(log_likelihood(x[None], shift, concentration)[0]),
        [Parameter("phi", (-np.pi, np.pi), periodic=True), Parameter("y", (-4.0, 4.0))],
        seed=seed,
        progress=False,
        n_samples=3000,
    )
    return result, np.exp(1j * (result.samples[:, 0] - shift))


def quadrature(concentration=3.0):
    """Circular mean of exp(i phi), and log evidence, from a grid; the normal parameter is integrated exactly."""
    phi = np.linspace(-np.pi, np.pi, 4001)[:-1]
    w = np.exp(concentration * np.cos(phi - 2.9) + 0.3 * np.sin(3 * phi))
    evidence = np.log(w.mean() * 0.4 * np.sqrt(2 * np.pi) / 8.0)
    return (w @ np.exp(1j * phi)) / w.sum(), evidence


@pytest.mark.parametrize(
    ("shift", "concentration"),
    [
        (0.24, 3.0),
        pytest.param(0.0, 0.0, marks=pytest.mark.slow),
        pytest.param(0.0, 3.0, marks=pytest.mark.slow),
        pytest.param(2.5, 3.0, marks=pytest.mark.slow),
    ],
)
def test_a_run_does_not_depend_on_the_seam(shift, concentration):
    """Circular moments to 5 standard errors of 2000 draws (sd at most 1) and a surrogate's error of 0.02."""
    result, turns = run(shift, concentration)
    mean, evidence = quadrature(concentration)
    assert result.converged
    assert result.n_evaluations < 80
    assert abs(turns.mean() - mean) < 5.0 / np.sqrt(2000) + 0.02
    assert result.log_evidence == pytest.approx(evidence, abs=5 * result.log_evidence_error + 0.02)
    assert np.all(np.abs(result.samples[:, 0]) <= np.pi)


def test_circular_summaries():
    """The mean across the seam is no number in the middle of the box, and the sd is that about it."""
    result, _ = run(0.24, 3.0)
    assert result.periodic == (True, False)
    assert 0.0 <= result.check["hidden_mode"] < 0.2
    exact = np.angle(quadrature()[0]) + 0.24
    assert abs(np.angle(np.exp(1j * (result.mean[0] - exact)))) < 0.1
    assert abs(result.mean[0]) <= np.pi
    assert result.sd[0] < 0.9 < result.samples[:, 0].std()
    low, high = result.interval(0.68)[0]
    assert high - low < 2.0
    assert f"{result.mean[0]:.2f}" in result.summary()
    ranges = result.to_getdist().ranges
    assert "phi" in ranges.periodic
