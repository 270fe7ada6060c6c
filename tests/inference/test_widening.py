"""The change of the evidence with the width of a prior, against closed forms."""

import numpy as np
import pytest
from scipy import stats

from surrogate.inference.widening import widenings
from surrogate.problem.prior import Parameter, Prior
from surrogate.samplers.samples import Samples


def samples(prior, x):
    n = len(x)
    return Samples(
        names=prior.names,
        labels=prior.labels,
        bounds=prior.bounds,
        x=x,
        weights=np.full(n, 1.0 / n),
        log_posterior=np.zeros(n),
        log_prior=prior.log_density(x),
        derived=np.empty((n, 0)),
    )


def test_a_uniform_prior_costs_the_log_of_the_factor_exactly():
    prior = Prior.of({"a": (-5, 5)})
    x = np.random.default_rng(0).normal(0, 0.5, (4000, 1))
    (found,) = widenings(prior, samples(prior, x), 3.0)
    assert found.shift == pytest.approx(-np.log(3.0), abs=1e-12)
    assert found.error == pytest.approx(0.0, abs=1e-12)
    assert found.reliable
    assert not found.cut
    assert found.note == ""


@pytest.mark.parametrize("wide", [1.0, 3.0, 10.0])
def test_a_normal_prior_agrees_with_the_closed_form(wide):
    """Likelihood N(m; x, s), prior N(0, w): Z is the normal density of m with variance s^2 + w^2."""
    m, s, w = 0.7, 0.4, wide
    prior = Prior.of({"a": stats.norm(0, w)})
    variance = 1.0 / (1.0 / s**2 + 1.0 / w**2)
    x = np.random.default_rng(1).normal(variance * m / s**2, np.sqrt(variance), (20_000, 1))
    (found,) = widenings(prior, samples(prior, x), 2.0)
    exact = stats.norm.logpdf(m, 0, np.hypot(s, 2 * w)) - stats.norm.logpdf(m, 0, np.hypot(s, w))
    assert abs(found.shift - exact) < 5 * found.error + 1e-9
    assert found.reliable


def test_a_posterior_as_wide_as_its_prior_is_not_reliable():
    prior = Prior.of({"a": stats.norm(0, 1)})
    x = np.random.default_rng(2).normal(0, 1.0, (4000, 1))  # the likelihood says nothing: the weights have no variance
    (found,) = widenings(prior, samples(prior, x), 4.0)
    assert not found.reliable
    assert "start a new run" in found.note


def test_a_cut_posterior_gives_a_lower_bound():
    prior = Prior.of({"a": (0, 10), "b": stats.expon(0, 2)})
    rng = np.random.default_rng(3)
    x = np.stack([np.abs(rng.normal(0, 0.5, 4000)), rng.exponential(0.3, 4000)], axis=1)
    cut, anchored = widenings(prior, samples(prior, x), 2.0)
    assert cut.cut
    assert "lower bound" in cut.note
    assert not anchored.cut, "the end at 0 of an exponential prior does not move"


def test_angles_are_left_out_and_a_factor_must_widen():
    prior = Prior((Parameter("phi", (0, 1), periodic=True), Parameter("a", (0, 1))))
    x = np.random.default_rng(4).uniform(0.4, 0.6, (100, 2))
    assert [w.name for w in widenings(prior, samples(prior, x))] == ["a"]
    with pytest.raises(ValueError, match="above 1"):
        widenings(prior, samples(prior, x), 1.0)
