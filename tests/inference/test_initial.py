"""Earlier evaluations as people have them: scans, repeated points, tables with named columns."""

import numpy as np
import pytest

import surrogate
from surrogate.inference.settings import initial_data
from surrogate.problem.prior import Prior

PRIOR = {"a": (-1, 2), "b": (-3, 3)}


def log_likelihood(x):
    return float(-0.5 * (((x[0] - 0.3) / 0.1) ** 2 + ((x[1] - 0.2) / 0.3) ** 2))


INITIAL = {
    "a scan of one parameter": np.c_[np.linspace(-0.5, 1, 12), np.full(12, 0.2)],
    "one point several times": np.tile([[0.5, 0.5]], (5, 1)),
    "a chain with repeats": np.repeat(np.random.default_rng(0).normal([0.3, 0.2], [0.1, 0.3], (20, 2)), 4, axis=0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (i > 0)) for i, name in enumerate(INITIAL)]
)
def test_a_run_starts_from_what_there_is(name):
    x = INITIAL[name]
    result = surrogate.infer(
        log_likelihood, PRIOR, initial=(x, [log_likelihood(p) for p in x]), n_samples=500, progress=False
    )
    assert result.converged
    np.testing.assert_allclose(result.mean, [0.3, 0.2], atol=0.05)
    assert (result.data.step == -1).sum() == len(np.unique(x, axis=0))


class Table:
    """As much of a data frame as matters."""

    def __init__(self, columns):
        self.data, self.columns = columns, list(columns)

    def __getitem__(self, names):
        return np.column_stack([self.data[name] for name in names])


def test_the_columns_of_a_table_are_found_by_name():
    a, b = np.array([0.1, 0.2]), np.array([2.1, 2.2])
    data = initial_data((Table({"b": b, "chi2": b, "a": a}), [1.0, 2.0]), Prior.of(PRIOR))
    np.testing.assert_array_equal(data.x, np.c_[a, b])
    with pytest.raises(ValueError, match="initial has the columns b, c, but no column for a"):
        initial_data((Table({"b": b, "c": a}), [1.0, 2.0]), Prior.of(PRIOR))


def test_values_of_earlier_runs_have_the_declared_noise():
    data = initial_data(([[0.1, 0.0], [0.2, 0.0]], [1.0, -np.inf]), Prior.of(PRIOR), 0.5)
    np.testing.assert_array_equal(data.noise, [0.5, 0.0])
    np.testing.assert_array_equal(data.finite, [True, False])


def test_repetitions_count_once_and_keep_their_order():
    x = np.array([[0.3, 0.0], [0.1, 0.0], [0.3, 0.0], [0.2, 0.0]])
    data = initial_data((x, [1.0, 2.0, 1.0, 3.0]), Prior.of(PRIOR))
    np.testing.assert_array_equal(data.x[:, 0], [0.3, 0.1, 0.2])
    np.testing.assert_array_equal(data.y, [1.0, 2.0, 3.0])
