"""Models of a labelling run: held-out errors that are held out, intervals that hold."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from surrogate.estimators.gp import GPRegressor
from surrogate.labelling import learners
from surrogate.labelling.learners import fit_ridge
from surrogate.labelling.lessons import Lesson
from surrogate.labelling.models import HeldOutErrors, fit_folds, gain_of, model_name
from surrogate.labelling.settings import LabelSettings
from surrogate.networks import training
from surrogate.rng import generator, torch_generator
from surrogate.selection.batch import select_batch

N = 90


def rows(rng, n):
    x = rng.standard_normal((n, 3))
    return x, np.sin(2.0 * x[:, 0]) + 0.5 * x[:, 1] + 0.1 * rng.standard_normal(n)


@pytest.fixture(scope="module")
def data():
    return rows(np.random.default_rng(1), N)


@pytest.fixture(scope="module")
def process(data):
    return fit_folds("gp", *data, random=np.ones(N, dtype=bool), seed=3)


@pytest.fixture(scope="module")
def short():
    """Few epochs: what is tested does not depend on how good the networks are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "Schedule", functools.partial(training.Schedule, epochs=16))
        yield


@pytest.fixture(scope="module")
def networks(data, short):
    x, y = data
    return fit_folds("network", x, y, random=np.arange(N) < 60, seed=3, pool=x + 0.1)


def test_held_out_errors_of_the_process(data, process):
    """Parity with processes that are fitted anew without each fold; every label is held out by one of them."""
    x, y = data
    part = generator(3, N, "folds").permutation(np.arange(N) % 5)
    for fold in (0, 4):
        away = part == fold
        other = GPRegressor(kernel=process.members[0].regressor.kernel_, random_state=3).fit(x[~away], y[~away])
        mean, sd = other.predict(x[away], return_std=True)
        np.testing.assert_allclose(process.held_out.error[away], y[away] - mean, rtol=1e-9)
        np.testing.assert_allclose(process.held_out.variance[away], sd**2, rtol=1e-9)
    assert np.isfinite(process.held_out.error).all()


def test_features_of_the_process_are_its_kernel(data, process):
    x = data[0][:5]
    member = process.members[0]
    gram = process.features(x).gram(process.features(x)).numpy()
    r = (x[:, None] - x[None]) / member.regressor.lengthscale_
    assert np.diag(gram) == pytest.approx(member.regressor.output_scale_**2)
    order = np.argsort((r**2).sum(-1)[0])
    assert (np.diff(gram[0][order]) <= 1e-12).all()


def test_every_label_is_held_out_once(data, networks):
    """Each network predicts its own fold as it says, and no other rows were left out."""
    held_out = networks.held_out
    assert np.isfinite(held_out.error).all()
    x, y = data
    means = np.stack([member.predict(x)[0] for member in networks.members])
    own = np.isclose(y - means, held_out.error, rtol=0, atol=1e-9)
    assert (own.sum(0) >= 1).all()
    assert (own.sum(1) >= N // 5).all()


def test_batches_by_gradients_of_the_networks(data, networks):
    """Selection works on what the networks give, and takes no row that is known."""
    x = np.concatenate([data[0][:20], np.random.default_rng(3).standard_normal((200, 3))])
    found = select_batch(
        networks.features(x), 8, train=networks.features(data[0]), generator=torch_generator(0, "selection")
    )
    assert found.complete
    assert (found.indices >= 20).all()


def test_held_out_errors_are_larger_than_those_of_rows_seen(data, networks):
    x, y = data
    assert np.mean((y - networks.predict(x).mean) ** 2) < np.mean(networks.held_out.error**2)


def test_figures_are_over_random_rows(networks):
    error = networks.held_out.error[:60]
    stage = networks.stage()
    assert (stage.n_held_out, stage.is_random, stage.n_labels) == (60, True, N)
    assert stage.rmse == pytest.approx(np.sqrt(np.mean(error**2)))
    assert stage.mae == pytest.approx(np.mean(np.abs(error)))
    assert stage.ratio == stage.rmse / stage.mae


def test_the_standard_error_of_rmse(rng):
    """Of Gaussian errors it is sigma / sqrt(2 n)."""
    n = 4000
    held_out = HeldOutErrors(rng.standard_normal(n), np.ones(n), np.ones(n, dtype=bool), is_random=True)
    assert held_out.rmse_error == pytest.approx(1.0 / math.sqrt(2 * n), rel=0.1)


@pytest.mark.parametrize("kind", ["process", "networks"])
def test_intervals_hold_on_new_rows(kind, request):
    """Coverage on 2000 new rows within 4 standard errors, mostly those of a quantile of 60 to 90 errors."""
    model = request.getfixturevalue(kind)
    x, y = rows(np.random.default_rng(7), 2000)
    found = model.predict(x, level=0.9)
    inside = np.mean((y >= found.low) & (y <= found.high))
    error = math.sqrt(0.9 * 0.1 / model.held_out.judged.sum() + 0.9 * 0.1 / 2000)
    assert inside > 0.9 - 4 * error
    assert found.high - found.low == pytest.approx(2 * stats.norm.ppf(0.95) * found.sd)


def test_same_seed_same_networks(data, short):
    x, y = data[0][:20], data[1][:20]
    first, again, other = (fit_folds("network", x, y, random=np.ones(20, bool), seed=s, folds=2) for s in (1, 1, 2))
    assert (first.predict(x).mean == again.predict(x).mean).all()
    assert (first.predict(x).mean != other.predict(x).mean).any()


def test_names():
    assert (model_name("auto", 500), model_name("auto", 501), model_name("gp", 10**6)) == ("gp", "network", "gp")
    with pytest.raises(ValueError, match="model must be 'auto' or one of 'gp', 'network', 'ridge', got 'forest'"):
        model_name("forest", 10)


def test_errors_that_shrink_by_a_factor_gain_it_exactly(rng):
    error = np.append(rng.standard_normal(60), np.nan)
    gain, spread = gain_of(error, 0.81 * error, 2.0)
    assert gain == pytest.approx(0.1, abs=1e-12)  # 0.9 for each of two doublings
    assert spread < 1e-12
    assert gain_of(error[:29], error[:29], 1.0) is None
    assert gain_of(error * 0.0, error, 1.0) is None


def test_the_standard_error_of_a_gain(rng):
    """Over 400 samples of rows the gains scatter as the standard error says: 15 % is 4 of its errors."""
    found = []
    for _ in range(400):
        noise = rng.standard_normal(200)
        found.append(gain_of(noise + 0.5 * rng.standard_normal(200), noise + 0.3 * rng.standard_normal(200), 1.0))
    gains, spreads = np.array(found).T
    assert gains.std() == pytest.approx(spreads.mean(), rel=0.15)
    assert gains.mean() == pytest.approx(1.0 - np.sqrt(1.09 / 1.25), abs=4 * spreads.mean() / 20)


# Ridge regression, the constant, and repeated rows


def noisy_categories(n, rng):
    """Three columns of 0 and 1 a category, and a label that is all but noise: a process learns the noise."""
    words = [rng.integers(0, 12, n) for _ in range(3)]
    effect = rng.standard_normal((3, 12))
    y = sum(0.4 * effect[j][word] for j, word in enumerate(words)) + rng.standard_normal(n)
    return np.concatenate([np.eye(12)[word] for word in words], axis=1), y


def test_ridge_is_that_of_scikit_learn(rng):
    from sklearn.linear_model import Ridge

    x, y = rng.standard_normal((60, 5)) * [1, 2, 3, 4, 5] + 7.0, rng.standard_normal(60)
    found = fit_ridge(Lesson(x, y, None, 0, 5, None)).members[0]
    z = (x - x.mean(0)) / x.std(0)
    errors = {}
    for penalty in 60 * 10.0 ** np.arange(-4, 4):
        left_out = [Ridge(penalty).fit(np.delete(z, i, 0), np.delete(y, i)).predict(z[i : i + 1])[0] for i in range(60)]
        errors[penalty] = np.mean((y - left_out) ** 2)
    # Leaving out a row changes its column means too, which the closed form of one penalty includes.
    best = Ridge(min(errors, key=errors.get)).fit(z, y)
    np.testing.assert_allclose(found.predict(x)[0], best.predict(z), rtol=1e-9, atol=1e-12)
    assert found.noise == pytest.approx(min(errors.values()), rel=1e-9)


@pytest.mark.slow
def test_the_better_model_is_used(rng):
    x, y = noisy_categories(150, rng)
    random = np.ones(150, dtype=bool)
    chosen = fit_folds("gp", x, y, random=random, seed=0, may_be_ridge=True)
    fixed = fit_folds("gp", x, y, random=random, seed=0)
    assert fixed.name == "gp"
    assert chosen.name == "ridge"
    assert chosen.held_out.rmse == fixed.ridge < fixed.held_out.rmse
    assert chosen.stage().ridge == fixed.stage().ridge
    assert chosen.stage().constant == pytest.approx(y.std(), rel=0.05)


def test_a_ridge_is_used_where_its_errors_are_clearly_lower(rng):
    x = rng.standard_normal((60, 3))
    y = x @ [1.0, 2.0, 3.0] + 0.01 * rng.standard_normal(60)
    lesson = {"random": np.ones(60, dtype=bool), "seed": 0}
    learners.LEARNERS["poor"] = lambda lesson: replace(fit_ridge(lesson), error=np.full(60, 5.0))
    try:
        assert fit_folds("poor", x, y, **lesson, may_be_ridge=True).name == "ridge"
        assert fit_folds("poor", x, y, **lesson).name == "poor"
    finally:
        del learners.LEARNERS["poor"]


def test_equal_rows_are_in_one_fold(rng):
    x = np.repeat(rng.standard_normal((40, 2)), 3, axis=0)
    parts = Lesson(x, rng.standard_normal(120), None, 3, 5, None).parts()
    assert (parts.reshape(40, 3) == parts.reshape(40, 3)[:, :1]).all()
    assert np.bincount(parts).tolist() == [24] * 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kfac", "swag"])
def test_networks_with_other_posteriors(kind, short):
    rng = np.random.default_rng(5)
    x = rng.uniform(-1, 1, (40, 3))
    y = np.sin(3 * x[:, 0]) + x[:, 1]
    everywhere = np.ones(40, bool)
    first, other = (
        fit_folds("network", x, y, random=everywhere, seed=1, folds=2, uncertainty=name)
        for name in (kind, "last-layer")
    )
    assert first.predict(x).sd.min() > 0
    assert not np.allclose(first.held_out.variance, other.held_out.variance)
    with pytest.raises(ValueError, match="uncertainty must be one of last-layer, kfac, swag, got 'mcmc'"):
        LabelSettings(uncertainty="mcmc")
