"""A scale that multiplies several parameters is found, and the log-likelihood of a hierarchy is then a quadratic."""

import numpy as np
import scipy.stats as st

from surrogate.inference.setup import Setup
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import build
from surrogate.log_density.parameters import trend_size
from surrogate.log_density.search.common_scales import choose_common_scale
from surrogate.log_density.search.couplings import ENOUGH
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Prior

PRIOR = Prior.of({**{f"z{k}": st.norm() for k in range(4)}, "mu": st.norm(0.0, 5.0), "tau": st.halfcauchy(0.0, 5.0)})
DATA, SD = np.array([28.0, 8.0, -3.0, 12.0]), np.array([15.0, 10.0, 16.0, 11.0])


def hierarchy(x):
    return -0.5 * (((DATA - x[:, 4:5] - x[:, 5:] * x[:, :4]) / SD) ** 2).sum(1)


def flat(x):
    return -0.5 * ((x[:, :5] / 3.0) ** 2).sum(1) - 0.1 * x[:, 5]


def choice(log_likelihood, n):
    """The fit without and with a search for scales, the points t, and all data."""
    setup, rng = Setup(PRIOR), np.random.default_rng(0)
    x = PRIOR.quantile(rng.uniform(0.1, 0.9, (n + 60, 6)))
    data = Dataset.empty(6).append(x, [Evaluation(float(y), "ok") for y in log_likelihood(x)], 0)
    t = setup.scaled.to_unit(x)
    problem = setup.problem(data.head(n), t[n:])
    present = fit_structure(problem, setup.learner.plain)
    return present, choose_common_scale(problem, present), t, data


def test_a_hierarchy_is_learned_from_hardly_more_values_than_a_quadratic_has_coefficients():
    n = trend_size(6) + 2 * ENOUGH
    _, found, t, data = choice(hierarchy, n)
    couplings = found.structure.warp.couplings
    assert couplings is not None
    assert {(source, target) for _, source, target in couplings.pairs} == {(5, k) for k in range(4)}
    mean, _ = build(data.head(n), t[:n], found).predict(t[n:])
    depth = data.y_max - data.y[n:]
    assert (np.abs(mean - data.y[n:]) < 0.05 + 0.02 * depth).mean() > 0.9


def test_nothing_is_scaled_without_reason():
    present, found, _, _ = choice(flat, trend_size(6) + 2 * ENOUGH)
    assert found is present


def test_too_few_values_say_nothing():
    present, found, _, _ = choice(hierarchy, trend_size(6))
    assert found is present
