import numpy as np
import pytest
from scipy import stats

from surrogate.inference.design import Reference, design, space_filling
from surrogate.inference.settings import reference_for
from surrogate.problem.prior import Prior

PRIORS = {
    "box": Prior.of({"a": (-2, 3), "b": (0, 1e-3)}),
    "one parameter": Prior.of({"a": (5, 6)}),
    "unbounded": Prior.of({"a": stats.norm(3, 2), "b": stats.gamma(2), "c": (0, 1)}),
    "eight": Prior.of(np.array([[0.0, 1.0]] * 8)),
}
COVARIANCE = np.array([[0.04, 0.02], [0.02, 0.09]])
FORMS = {
    "point": ([0.5, 0.2], None),
    "mean and covariance": (([0.5, 0.2], COVARIANCE), COVARIANCE),
    "mean and sds": (([0.5, 0.2], [0.1, 0.3]), np.diag([0.01, 0.09])),
}


@pytest.fixture(params=PRIORS)
def prior(request):
    return PRIORS[request.param]


@pytest.mark.parametrize("first", [0, 1, 5, 32])
def test_a_sequence_goes_on_where_it_was(prior, first):
    """Points are those of one sequence, however they are divided into batches."""
    whole = space_filling(prior, 0, 64, seed=3)
    np.testing.assert_array_equal(space_filling(prior, first, 7, seed=3), whole[first : first + 7])


def test_the_inner_part_of_the_prior_is_filled_evenly(prior):
    """Cumulative probabilities in the middle 80 %, and in each half of each axis half of 64 points."""
    u = prior.cumulative(space_filling(prior, 0, 64, seed=1))
    assert np.all((u >= 0.1 - 1e-9) & (u <= 0.9 + 1e-9))
    np.testing.assert_array_equal((u < 0.5).sum(0), 32)


def test_a_seed_decides(prior):
    a, b, c = (space_filling(prior, 0, 8, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_reference(form):
    spec, covariance = FORMS[form]
    reference = Reference.of(spec, 2)
    np.testing.assert_array_equal(reference.mean, [0.5, 0.2])
    assert (reference.covariance is None) == (covariance is None)
    if covariance is not None:
        np.testing.assert_allclose(reference.covariance, covariance)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_draws_are_a_reference(d, rng):
    x = rng.standard_normal((50, d))
    reference = Reference.of(x, d)
    np.testing.assert_allclose(reference.mean, x.mean(0))
    np.testing.assert_allclose(reference.covariance, np.cov(x.T).reshape(d, d))


def test_a_reference_is_a_reference():
    reference = Reference(np.zeros(2))
    assert Reference.of(reference, 2) is reference


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([1.0, 2.0, 3.0], r"point with shape \(2,\), a pair \(mean, covariance\) or draws with shape \(n, 2\)"),
        (1.0, "reference must be a point"),
        (([0.0, 0.0], np.eye(3)), r"got shapes \[\(2,\), \(3, 3\)\]"),
        (np.zeros((2, 2, 2)), "reference must be a point"),
        ([0.0, np.inf], "not finite"),
        (([0.0, 0.0], [[1.0, np.nan], [0.0, 1.0]]), "not finite"),
    ],
)
def test_other_references_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Reference.of(wrong, 2)


def hints(prior):
    """Nothing, a point, a normal, and the best point of a search."""
    mean = prior.quantile(np.full((1, prior.d), 0.4))[0]
    low = prior.quantile(np.full((1, prior.d), 1e-9))[0, :1]
    width = np.ptp(prior.quantile(np.array([[0.3], [0.7]]) * np.ones((2, prior.d))), axis=0)
    return {
        "nothing": {},
        "point": {"reference": Reference(mean)},
        "normal": {"reference": Reference(mean, np.diag(width**2))},
        "best": {"best": mean},
        "point and best": {"reference": Reference(mean), "best": mean},
        "near a face": {"reference": Reference(np.append(low, mean[1:]), np.diag(width**2))},
    }


@pytest.mark.parametrize("hint", hints(PRIORS["box"]))
@pytest.mark.parametrize("first", [0, 10])
def test_points_of_a_design(prior, hint, first):
    """As many as asked for, all different, inside of the prior, and the same again."""
    options = hints(prior)[hint]
    x = design(prior, first, 9, 5, **options)
    assert x.shape == (9, prior.d)
    assert len(np.unique(x, axis=0)) == 9
    assert np.isfinite(prior.log_density(x)).all()
    np.testing.assert_array_equal(design(prior, first, 9, 5, **options), x)
    assert not np.array_equal(design(prior, first, 9, 6, **options), x)


@pytest.mark.parametrize("d", [8, 16])
def test_points_about_a_corner(d):
    prior = Prior.of(np.array([[0.0, 1.0]] * d))
    assert len(design(prior, 0, 9, 5, reference=Reference(np.zeros(d), 0.16 * np.eye(d)))) == 9


def test_the_next_batch_is_another_one(prior):
    for options in hints(prior).values():
        assert not np.array_equal(design(prior, 0, 6, 1, **options), design(prior, 6, 6, 1, **options))


def test_a_reference_point_comes_first():
    mean = np.array([0.5, 2e-4])
    np.testing.assert_array_equal(design(PRIORS["box"], 0, 5, 1, reference=Reference(mean))[0], mean)
    assert not np.any(np.all(design(PRIORS["box"], 5, 5, 1, reference=Reference(mean)) == mean, axis=1))


def test_a_reference_covariance_is_covered():
    """Between once and twice its width; null: normal draws, 5 standard errors."""
    prior, n = Prior.of({"a": (-100, 100), "b": (-100, 100)}), 2000
    x = design(prior, 0, n, 1, reference=Reference(np.array([3.0, -2.0]), COVARIANCE))
    z = np.linalg.solve(np.linalg.cholesky(COVARIANCE), (x - [3.0, -2.0]).T).T
    width = z.std(0).mean()
    assert 1.0 < width < 2.5
    np.testing.assert_allclose(z.mean(0), 0, atol=5 * width / np.sqrt(n))
    np.testing.assert_allclose(np.cov(z.T) / width**2, np.eye(2), atol=5 * np.sqrt(2 / n))


def test_half_of_a_batch_lies_about_the_best_point():
    prior = PRIORS["eight"]
    best = np.full(8, 0.3)
    x = design(prior, 20, 10, 1, best=best)
    np.testing.assert_array_equal(x[5:], space_filling(prior, 20, 5, 1))
    near, far = (np.linalg.norm(part - best, axis=1) for part in (x[:5], x[5:]))
    assert np.median(near) < np.median(far)


@pytest.mark.parametrize(
    ("spec", "covariance"),
    [({"b": 5e-4, "a": 1.0}, None), ({"a": (1.0, 0.5), "b": (5e-4, 1e-4)}, np.diag([0.25, 1e-8]))],
    ids=["values", "means and sds"],
)
def test_a_reference_by_name(spec, covariance):
    reference = reference_for(spec, PRIORS["box"])
    np.testing.assert_array_equal(reference.mean, [1.0, 5e-4])
    if covariance is None:
        assert reference.covariance is None
    else:
        np.testing.assert_allclose(reference.covariance, covariance)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"a": 1.0}, "a value for each of a, b, got a"),
        ({"a": 1.0, "c": 1.0}, "a value for each of a, b, got a, c"),
        ({"a": 1.0, "b": (1e-4, 1e-5)}, r"a number for each parameter, or a pair \(mean, sd\) for each"),
    ],
)
def test_a_reference_by_name_that_is_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        reference_for(spec, PRIORS["box"])
