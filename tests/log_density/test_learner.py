"""The learner of scalar surrogates starts from the last structure, where that still fits the values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from surrogate.log_density.learner import ScalarLearner
from surrogate.log_density.parameters import Structure
from surrogate.log_density.training import FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation

PLAIN = Structure.plain(np.zeros(2), np.ones(2))


@pytest.mark.parametrize(("temperature", "kept"), [(1e5, True), (1.0, False)])
def test_an_expanding_output_warp_is_left_out_where_values_are_too_deep_for_it(temperature, kept):
    """Steps down to -590,000 nats, learned at a raised temperature and then at that of the posterior."""
    t = np.random.default_rng(0).random((18, 2))
    y = -1e4 * np.round(59.0 * t[:, 0])
    problem = FitProblem(Dataset.empty(2).append(t, [Evaluation(v, "ok") for v in y], 0), t, temperature=temperature)
    learner = ScalarLearner(PLAIN)
    start = learner.fit(replace(problem, temperature=1e5), None, cold_start=False, search=False, noise=False)
    last = replace(start, structure=replace(PLAIN, output=-16.0))
    fitted = learner.fit(problem, last, cold_start=False, search=False, noise=False)
    assert fitted.structure.output == (-16.0 if kept else 0.0)
    assert np.isfinite(fitted.score)
