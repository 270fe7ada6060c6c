"""What holds for every choice of uncertainty of the regressor and the classifier."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.utils.estimator_checks import parametrize_with_checks

from surrogate import NetworkClassifier, NetworkRegressor
from surrogate.networks import posteriors
from surrogate.networks.posteriors import KINDS

SMALL = {"hidden": (16,), "epochs": 30}
MEMBERS = {"ensemble": 5, "mcmc": 4}
EVERY = [pytest.param(kind, marks=[pytest.mark.slow] * (kind == "mcmc")) for kind in KINDS]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 2))
    return x, 5 + 3 * np.sin(x[:, 0]) * x[:, 1] + 0.1 * rng.standard_normal(100)


@pytest.fixture
def short_chains(monkeypatch):
    monkeypatch.setattr(posteriors, "_CHAIN_WARM_UP", 15)
    monkeypatch.setattr(posteriors, "_CHAIN_DRAWS", 15)


@pytest.fixture(scope="module")
def moons():
    x, y = make_moons(300, noise=0.2, random_state=0)
    return x, np.array(["left", "right"])[y]


@pytest.mark.parametrize("kind", EVERY)
def test_regressor(table, kind, short_chains):
    x, y = table
    model = NetworkRegressor(**SMALL, uncertainty=kind, validation="holdout:0.3").fit(x, y)
    mean, sd = model.predict(x, return_std=True)
    assert len(model.modules_) == MEMBERS.get(kind, 1)
    np.testing.assert_allclose(mean, model.predict(x), rtol=1e-10)
    assert np.sqrt(np.mean((mean - y) ** 2)) < 0.5 * y.std()
    assert sd.min() > 0
    lower, upper = model.predict_interval(x, 0.9)
    np.testing.assert_allclose((upper - lower) / 2, 1.6448536269514722 * sd, rtol=1e-9)
    again = clone(model).fit(x, y)
    np.testing.assert_array_equal(again.predict(x, return_std=True)[1], sd)


@pytest.mark.parametrize("kind", ["last-layer", "kfac", "ensemble"])
def test_error_bars_are_wider_where_nothing_is_known(table, kind):
    x, y = table
    inside = np.abs(x).max(1) < 1.2
    model = NetworkRegressor(**SMALL, uncertainty=kind).fit(x[inside], y[inside])
    _, sd = model.predict(np.array([[0.0, 0.0], [4.0, 4.0]]), return_std=True)
    assert sd[1] > sd[0]


@pytest.mark.parametrize("kind", ["swag", "kfac"])
@pytest.mark.parametrize("calibration", ["unseen", None])
def test_mean_is_the_same_without_calibration(table, kind, calibration):
    x, y = table
    expected = NetworkRegressor(**SMALL, uncertainty=kind).fit(x, y).predict(x)
    model = NetworkRegressor(**SMALL, uncertainty=kind, calibration=calibration).fit(x, y)
    np.testing.assert_allclose(model.predict(x), expected, rtol=1e-10)


@pytest.mark.parametrize("kind", EVERY)
def test_classifier(moons, kind, short_chains):
    x, y = moons
    rows = slice(0, 80) if kind == "mcmc" else slice(0, 200)
    model = NetworkClassifier(**SMALL, uncertainty=kind, validation="holdout:0.3").fit(x[rows], y[rows])
    p = model.predict_proba(x[200:])
    assert model.classes_.tolist() == ["left", "right"]
    assert len(model.modules_) == MEMBERS.get(kind, 1)
    np.testing.assert_allclose(p.sum(1), 1.0, rtol=1e-12)
    assert (model.predict(x[200:]) == y[200:]).mean() > 0.85
    assert np.all(model.predict(x[200:]) == model.classes_[p.argmax(1)])
    np.testing.assert_array_equal(clone(model).fit(x[rows], y[rows]).predict_proba(x[200:]), p)


@pytest.mark.slow
def test_temperature_lowers_the_loss_of_sure_networks(moons):
    x, y = moons
    flipped = y.copy()
    flipped[::4] = "left"
    loss = {}
    for calibration in ("unseen", None):
        settings = {"hidden": (64,), "epochs": 300, "uncertainty": "ensemble", "validation": None}
        model = NetworkClassifier(**settings, calibration=calibration)
        p = model.fit(x[:150], flipped[:150]).predict_proba(x[150:])
        loss[calibration] = -np.log(p[np.arange(150), (flipped[150:] == "right").astype(int)]).mean()
    assert loss["unseen"] < loss[None]


def test_rows_apart_choose_and_are_counted(moons):
    x, y = moons
    model = NetworkClassifier(**SMALL).fit(x[:100], y[:100], validation_data=(x[100:150], y[100:150]), pool=x)
    assert model.n_labels_ == 150
    with pytest.raises(ValueError, match="validation_data has classes that y does not have: \\['other'\\]"):
        model.fit(x[:100], y[:100], validation_data=(x[:2], np.array(["left", "other"])))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"uncertainty": "bootstrap"}, "uncertainty must be one of last-layer, kfac, swag, ensemble, mcmc"),
        ({"uncertainty": "ensemble", "n_members": 1}, "needs n_members of at least 2, got 1"),
        ({"uncertainty": "mcmc", "n_members": 2}, "always runs 4 chains: n_members must be None, got 2"),
    ],
    ids=["kind", "one member", "chains"],
)
@pytest.mark.parametrize("estimator", [NetworkRegressor, NetworkClassifier])
def test_settings_are_checked(table, estimator, settings, message):
    x, y = table
    with pytest.raises(ValueError, match=message):
        estimator(**settings).fit(x, y > 5)


def test_too_many_rows_for_chains():
    with pytest.raises(ValueError, match="up to 2000 rows, got 2001"):
        NetworkRegressor(uncertainty="mcmc").fit(np.zeros((2001, 1)), np.arange(2001.0))


@parametrize_with_checks([NetworkClassifier(hidden=(16,), epochs=2)])
def test_scikit_learn_takes_the_classifier_for_one_of_its_own(estimator, check):
    """Those of its checks that ask for an accuracy get more epochs."""
    check(estimator.set_params(epochs=10) if "train" in check.func.__name__ else estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [
        *(NetworkRegressor(hidden=(24, 24), epochs=50, uncertainty=kind) for kind in KINDS[1:4]),
        *(NetworkClassifier(hidden=(24,), epochs=50, uncertainty=kind) for kind in KINDS[1:4]),
    ]
)
def test_scikit_learn_takes_every_choice_for_one_of_its_own(estimator, check):
    check(estimator)
