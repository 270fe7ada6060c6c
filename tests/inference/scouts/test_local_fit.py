"""The scout of local fits in runs: its points come alone, and lead to the mode."""

import numpy as np
import pytest

import surrogate
from surrogate.inference.batch import assemble
from surrogate.inference.design import Reference
from surrogate.inference.loop import PosteriorLoop
from surrogate.inference.phases import Phase
from surrogate.inference.scouts import SCOUTS
from surrogate.inference.scouts.local_fit import LocalFit
from surrogate.inference.setup import Setup
from surrogate.inference.view import View
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.target import Posterior

TIMES = np.linspace(0.0, 4.0, 30)
PRIOR = {"frequency": (0.5, 6.0), "amplitude": (0.5, 3.0), "phase": (-1.5, 1.5)}


def wave(frequency, amplitude, phase):
    return amplitude * np.cos(frequency * TIMES + phase)


DATA = surrogate.GaussianData(wave(2.6, 1.3, 0.4), np.full(30, 0.01))
TARGET = surrogate.Observables(wave, DATA)


def started(**settings):
    """Setup and state of a run after its design."""
    posterior = Posterior(TARGET, PRIOR)
    loop = PosteriorLoop(Setup(posterior.prior, observables=TARGET.bound(tuple(PRIOR)), **settings))
    state = loop.init(1)
    x = loop.ask(state)
    return loop, posterior, loop.tell(state, x, [posterior.evaluate(point) for point in x])


def test_its_point_is_a_batch_of_its_own_unless_the_size_of_batches_is_given():
    loop, _, state = started()
    alone = loop.ask(state)
    assert len(alone) == 1
    loop, _, state = started(batch_size=3)
    batch = loop.ask(state)
    assert len(batch) == 3
    np.testing.assert_array_equal(batch[0], alone[0])
    others = tuple(scout for scout in SCOUTS if scout.name != "local fit")
    view = View(loop.setup, state)
    assert not (assemble(view, others, 3)[:, None] == assemble(view, SCOUTS, 3)[0]).all(2).any()


def test_it_is_silent_where_the_width_is_known_and_for_log_likelihoods(views):
    loop, _, state = started()
    assert len(LocalFit().points(View(loop.setup, state))) == 1
    reference = Reference(np.array([2.6, 1.3, 0.4]), 0.01 * np.eye(3))
    known = Setup(loop.prior, observables=loop.setup.observables, reference=reference)
    assert not len(LocalFit().points(View(known, state)))
    assert not any(len(LocalFit().points(view)) for phase, view in views.items() if phase is not Phase.DESIGN)


def test_failed_steps_are_not_asked_for_again():
    loop, _, state = started()
    x = loop.ask(state)
    failed = Evaluation.failure("out of memory")
    state = loop.tell(state, x, [failed])
    again = loop.ask(state)
    assert np.abs(again[0] - x[0]).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_highest_of_several_modes_is_claimed(seed):
    result = surrogate.infer(TARGET, PRIOR, seed=seed, progress=False, max_evaluations=60)
    assert result.converged
    np.testing.assert_allclose(result.mean, [2.6, 1.3, 0.4], atol=0.05)
