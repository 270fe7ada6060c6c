import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_friedman1
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.utils.estimator_checks import parametrize_with_checks

from surrogate.estimators.network import NetworkRegressor
from surrogate.networks.architecture import Activation

SMALL = {"hidden": (24, 24), "epochs": 30}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    return x, 5 + x[:, 0] * x[:, 1] + 0.1 * rng.standard_normal(120)


@parametrize_with_checks([NetworkRegressor(hidden=(16, 16), epochs=2)])
def test_scikit_learn_takes_it_for_one_of_its_own(estimator, check):
    """Those of its checks that ask for an accuracy get more epochs."""
    check(estimator.set_params(epochs=50) if "train" in check.func.__name__ else estimator)


@pytest.mark.parametrize(
    ("settings", "networks"),
    [
        ({}, 1),
        ({"n_members": 2}, 2),
        ({"validation": None}, 1),
        ({"validation": "holdout"}, 1),
        ({"validation": "holdout:0.4", "n_members": 3}, 3),
        ({"validation": "folds:4"}, 4),
        ({"validation": "folds", "n_members": 2}, 10),
    ],
    ids=str,
)
def test_every_way_to_choose_an_epoch(table, settings, networks):
    x, y = table
    model = NetworkRegressor(**SMALL, **settings).fit(x, y)
    assert len(model.modules_) == len(model.best_epochs_) == networks
    assert model.n_labels_ == 120
    outputs = [module(model.transform_inputs(x)).detach().numpy()[:, 0] for module in model.modules_]
    mean, sd = model.predict(x, return_std=True)
    np.testing.assert_allclose(mean, y.mean() + y.std() * np.mean(outputs, 0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mean, model.predict(x), rtol=1e-12, atol=1e-12)
    assert sd.min() > 0
    lower, upper = model.predict_interval(x, 0.9)
    np.testing.assert_allclose((upper - lower) / 2, 1.6448536269514722 * sd, rtol=1e-9)
    np.testing.assert_allclose((upper + lower) / 2, mean, rtol=1e-9)


def test_last_epoch_without_validation(table):
    assert NetworkRegressor(**SMALL, validation=None, calibration=None).fit(*table).best_epochs_ == (30,)


def test_error_bars_do_not_change_the_prediction(table):
    x, y = table
    with_bars, without = (NetworkRegressor(**SMALL, calibration=c).fit(x, y) for c in ("unseen", None))
    np.testing.assert_array_equal(with_bars.predict(x), without.predict(x))
    with pytest.raises(ValueError, match="no standard deviation without calibration: fit with calibration='unseen'"):
        without.predict(x, return_std=True)


def test_rows_apart_choose_the_epoch_and_are_counted(table):
    x, y = table
    model = NetworkRegressor(**SMALL).fit(x[:80], y[:80], validation_data=(x[80:], y[80:]))
    assert model.n_labels_ == 120
    errors = []
    for epochs in range(1, 31):  # the steps of a shorter training are shorter, hence a warm start does not do
        mean = model.predict(x[80:]) if epochs == model.best_epochs_[0] else None
        errors.append(None if mean is None else np.sqrt(np.mean((mean - y[80:]) ** 2)))
    best = errors[model.best_epochs_[0] - 1]
    last = NetworkRegressor(**SMALL, validation=None, calibration=None).fit(x[:80], y[:80]).predict(x[80:])
    assert best <= np.sqrt(np.mean((last - y[80:]) ** 2)) * (1 + 1e-6)


def test_only_representative_rows_are_left_out(table):
    """The others have another target by far, which would be seen in the error bars."""
    x, y = table
    odd = np.arange(120) >= 60
    target = np.where(odd, 100 * np.sign(np.sin(1e3 * x[:, 0])), y)
    all_rows, first = (
        NetworkRegressor(**SMALL, validation=None).fit(x, target, representative=rows) for rows in (None, ~odd)
    )
    np.testing.assert_array_equal(all_rows.predict(x), first.predict(x))
    assert len(first.calibration_.ratios) == 48  # two folds of 24, a fifth of the labels
    assert len(all_rows.calibration_.ratios) == 120
    with pytest.raises(
        ValueError, match=r"booleans with shape \(120,\), two of them true, got int64 with shape \(60,\)"
    ):
        NetworkRegressor(**SMALL).fit(x, y, representative=np.arange(60))


def test_same_seed_same_network_and_others_differ(table):
    x, y = table
    one, same, other = (NetworkRegressor(**SMALL, random_state=s).fit(x, y).predict(x) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_members_are_the_same_whatever_their_number(table):
    x, y = table
    one, three = (NetworkRegressor(**SMALL, validation=None, calibration=None, n_members=m).fit(x, y) for m in (1, 3))
    torch.testing.assert_close(one.modules_[0][0].weight, three.modules_[0][0].weight, rtol=1e-3, atol=1e-4)


def test_pool_joins_the_standardisation(table):
    x, y = table
    pool = 10 + 3 * x
    scaling = NetworkRegressor(**SMALL, calibration=None).fit(x, y, pool=pool).scaling_
    np.testing.assert_allclose(scaling.mean, np.concatenate([x, pool]).mean(0))


def test_target_in_other_units(table):
    x, y = table
    model, scaled = (NetworkRegressor(**SMALL).fit(x, target) for target in (y, 1e6 * y - 2e9))
    np.testing.assert_allclose(scaled.predict(x), 1e6 * model.predict(x) - 2e9, rtol=0, atol=1e3)
    np.testing.assert_allclose(
        scaled.predict(x, return_std=True)[1], 1e6 * model.predict(x, return_std=True)[1], rtol=0.02
    )


def test_constant_target(table):
    x, _ = table
    mean, sd = NetworkRegressor(**SMALL).fit(x, np.full(120, 7.0)).predict(x, return_std=True)
    np.testing.assert_allclose(mean, 7.0, atol=0.05)
    assert np.all(np.isfinite(sd))


def test_warm_start_goes_on(table):
    x, y = table
    settings = {**SMALL, "validation": None, "calibration": None}
    model = NetworkRegressor(**settings, warm_start=True).fit(x, y)
    before = np.mean((model.predict(x) - y) ** 2)
    weights = model.modules_[0][0].weight.detach().clone()
    model.set_params(epochs=1, activation=Activation("relu", 0.2, 0.2, learning_rate=1e-4)).fit(x, y)
    torch.testing.assert_close(model.modules_[0][0].weight, weights.to(torch.float32), rtol=0, atol=1e-3)
    assert np.mean((model.predict(x) - y) ** 2) < 1.1 * before


def test_warm_start_needs_the_same_network(table):
    x, y = table
    model = NetworkRegressor(**SMALL, calibration=None, warm_start=True).fit(x, y)
    with pytest.raises(ValueError, match=r"networks of widths \(3, 24, 24, 1\), got \(2, 24, 24, 1\)"):
        model.fit(x[:, :2], y)
    with pytest.raises(ValueError, match="must continue from 2 networks, got 1"):
        model.set_params(n_members=2).fit(x, y)


def test_clone_grid_search_and_pipeline(table):
    x, y = table
    search = GridSearchCV(
        NetworkRegressor(epochs=10), {"hidden": [(8,), (16, 16)], "activation": ["relu", "silu"]}, cv=2
    )
    pipeline = clone(make_pipeline(PolynomialFeatures(2, include_bias=False), search)).fit(x, y)
    assert pipeline.predict(x).shape == (120,)
    assert set(pipeline[-1].best_params_) == {"hidden", "activation"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": (0,)}, "hidden must be a positive integer, got 0"),
        ({"n_members": 1.5}, "n_members must be a positive integer, got 1.5"),
        ({"epochs": True}, "epochs must be a positive integer, got True"),
        ({"activation": "tanh"}, "activation must be one of relu, silu or an Activation, got 'tanh'"),
        ({"validation": "holdout:0.9"}, "validation must be None, 'cross'.*got 'holdout:0.9'"),
        ({"validation": "folds:1"}, "validation must be"),
        ({"validation": "twice"}, "validation must be"),
        ({"calibration": "evidence"}, "calibration must be 'unseen' or None, got 'evidence'"),
    ],
)
def test_wrong_settings_are_refused(table, settings, message):
    with pytest.raises(ValueError, match=message):
        NetworkRegressor(**settings).fit(*table)


def test_wrong_uses_are_refused(table):
    x, y = table
    with pytest.raises(ValueError, match="must be None or 'cross' if validation_data is given, got 'holdout'"):
        NetworkRegressor(**SMALL, validation="holdout").fit(x, y, validation_data=(x, y))
    with pytest.raises(ValueError, match="X has 2 features, but NetworkRegressor is expecting 3"):
        NetworkRegressor(**SMALL).fit(x, y, pool=x[:, :2])
    with pytest.raises(ValueError, match="coverage must be between 0 and 1, got 90"):
        NetworkRegressor(**SMALL).fit(x, y).predict_interval(x, 90)
    with pytest.raises(FloatingPointError, match="training diverged"):
        NetworkRegressor(**SMALL, activation=Activation("relu", 0.2, 0.2, 1e30)).fit(x, y)


@pytest.mark.slow
def test_intervals_cover_what_they_say():
    """Friedman's function with noise, 5 tables of 200 rows: 90 % intervals hold 85 to 95 % of 2000 new targets."""
    covered = []
    for seed in range(5):
        x, y = make_friedman1(2200, n_features=5, noise=1.0, random_state=seed)
        mean, sd = NetworkRegressor(hidden=(64, 64), epochs=64).fit(x[:200], y[:200]).predict(x[200:], return_std=True)
        covered.append(np.mean(np.abs(mean - y[200:]) < 1.645 * sd))
    assert 0.85 < np.mean(covered) < 0.95
