"""When a search for structure is due."""

from dataclasses import replace

import numpy as np
import pytest

from surrogate.inference.depths import STRUCTURE_EVERY
from surrogate.inference.learning import search_is_due
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation

DATA = Dataset.empty(2).append(np.zeros((3000, 2)), [Evaluation(0.0, "ok")] * 3000, 0)


def with_rows(state, n, n_before, step=1):
    """The state at a step with n evaluations, of which its surrogate was fitted to the first ones."""
    return replace(state, step=step, data=DATA.head(n), parameters=replace(state.parameters, n=n_before))


def test_few_evaluations_are_searched_at_every_second_step(armed):
    due = [search_is_due(with_rows(armed.state, 60, 58, step)) for step in range(4)]
    assert due == [step % STRUCTURE_EVERY == 0 for step in range(4)]


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_many_evaluations_are_searched_once_they_have_grown_by_a_tenth(armed, batch):
    sizes = range(1000, 3000, batch)
    searched = [n for n in sizes if search_is_due(with_rows(armed.state, n, n - batch, step=n))]
    growth = np.array(searched[1:]) / np.array(searched[:-1])
    assert len(searched) >= 10
    assert ((growth > 1.0 + 0.1 - 2 * batch / 1000) & (growth < 1.0 + 0.1 + 2 * batch / 1000)).all()
