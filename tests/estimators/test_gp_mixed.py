"""GPRegressor on tables with text: what it learns, what it says, and what it does with words that it does not know."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

from surrogate.estimators.gp import GPRegressor
from surrogate.estimators.tables import Columns, is_mixed

pd = pytest.importorskip("pandas", reason="pandas is an extra: pip install surrogate-inference[notebook]")

COLOURS = np.array(["red", "green", "blue"])
EFFECT = {"red": 0.0, "green": 0.1, "blue": 2.0}


def table(n=150, seed=0):
    """y depends on x, on the colour (red and green are alike), and on x differently for two shapes; z means nothing."""
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(-2.0, 2.0, n), rng.standard_normal(n)
    colour, shape = COLOURS[rng.integers(0, 3, n)], np.array(["round", "square"])[rng.integers(0, 2, n)]
    frame = pd.DataFrame({"x": x, "colour": colour, "z": z, "shape": shape})
    slope = np.where(shape == "round", 1.0, -1.0)
    truth = 5.0 + np.array([EFFECT[c] for c in colour]) + slope * np.sin(1.5 * x)
    return frame, truth, truth + 0.1 * rng.standard_normal(n)


@pytest.fixture(scope="module", params=["cholesky", "basis"])
def model(request):
    frame, _, y = table(400 if request.param == "basis" else 150)
    return GPRegressor(solver=request.param).fit(frame, y)


def test_predictions_and_their_sds(model):
    frame, truth, _ = table(300, seed=1)
    mean, sd = model.predict(frame, return_std=True, include_noise=False)
    pull = (mean - truth) / sd
    assert np.sqrt(np.mean((mean - truth) ** 2)) < 0.08
    assert 0.4 < np.sqrt(np.mean(pull**2)) < 1.6
    assert model.noise_ == pytest.approx(0.1, rel=0.25)
    observed = model.predict(frame, return_std=True)[1]
    np.testing.assert_allclose(observed**2, sd**2 + model.noise_**2)


def test_it_tells_which_inputs_and_interactions_matter(model):
    names = [component.name for component in model.components_]
    assert {"colour", "x x shape"} <= set(names[:3])
    relevance = dict(zip(model.feature_names_in_, model.relevance_, strict=True))
    assert relevance["z"] < 0.01 < 0.2 < min(relevance[name] for name in ("x", "colour", "shape"))


def test_it_learns_how_alike_categories_are(model):
    colour = model.alike_["colour"]
    assert colour.words == ("blue", "green", "red")
    np.testing.assert_allclose(colour.difference[0, 1:], [1.9, 2.0], atol=0.15)
    assert colour.difference[1, 2] < 0.2
    shape = model.alike_["shape"]
    if model.solver_ == "cholesky":
        assert shape.correlation[0, 1] < 0.3  # before data it is 0.69
    else:
        assert shape.correlation is None


def test_an_unseen_category_warns_and_is_uncertain(model):
    frame, _, _ = table(20, seed=2)
    known = model.predict(frame, return_std=True, include_noise=False)[1]
    frame.loc[:9, "colour"] = "violet"
    with pytest.warns(
        UserWarning, match="column 'colour' holds 1 categories that the fit did not see, such as 'violet'"
    ):
        mean, sd = model.predict(frame, return_std=True, include_noise=False)
    assert np.isfinite(mean).all()
    assert (sd[:10] > 5.0 * known[:10]).all()
    np.testing.assert_allclose(sd[10:], known[10:])


def test_columns_are_found_by_name_and_tables_of_other_kinds_give_the_same(model):
    frame, _, _ = table(10, seed=3)
    expected = model.predict(frame)
    np.testing.assert_array_equal(model.predict(frame[["shape", "z", "x", "colour"]]), expected)
    np.testing.assert_array_equal(model.predict(frame.to_records(index=False)), expected)
    np.testing.assert_array_equal(model.predict(frame.to_numpy(dtype=object)), expected)
    with pytest.raises(ValueError, match="X has 3 features, but GPRegressor is expecting 4"):
        model.predict(frame.to_numpy(dtype=object)[:, :3])


def test_declared_codes_are_categories():
    frame, _, y = table(80)
    codes = frame.assign(
        colour=frame["colour"].map({"red": 5, "green": 1, "blue": 3}), shape=(frame["shape"] == "round")
    )
    words = GPRegressor().fit(frame.drop(columns="z"), y)
    coded = GPRegressor(categorical=["colour", "shape"]).fit(codes.drop(columns="z"), y)
    np.testing.assert_allclose(coded.predict(codes), words.predict(frame), rtol=1e-3)
    plain = GPRegressor(categorical=[1, 2]).fit(codes.drop(columns="z").to_numpy(dtype=float), y)
    np.testing.assert_allclose(plain.predict(codes.drop(columns="z").to_numpy(dtype=float)), coded.predict(codes))
    with pytest.raises(ValueError, match="categorical must name columns .* got 'size'; X has x, colour"):
        GPRegressor(categorical=["size"]).fit(codes, y)


def test_the_same_seed_gives_the_same_fit_and_scikit_learn_can_clone_and_validate():
    frame, _, y = table(60)
    first = GPRegressor(random_state=3).fit(frame, y)
    again = clone(first).fit(frame, y)
    np.testing.assert_array_equal(first.predict(frame), again.predict(frame))
    scores = cross_val_score(GPRegressor(), frame, y, cv=2)
    assert scores.min() > 0.5
    assert list(first.feature_names_in_) == ["x", "colour", "z", "shape"]
    assert first.n_features_in_ == 4


def test_numbers_alone_are_learned_as_before():
    frame, _, y = table(40)
    numbers = frame[["x", "z"]]
    assert not is_mixed(numbers, "auto")
    np.testing.assert_array_equal(
        GPRegressor().fit(numbers, y).predict(numbers),
        GPRegressor().fit(numbers.to_numpy(), y).predict(numbers.to_numpy()),
    )


def test_known_noise_and_one_word():
    frame, truth, _ = table(60)
    frame["colour"] = "red"
    truth = truth - truth.mean()
    model = GPRegressor(noise=0.0).fit(frame, truth)
    assert np.abs(model.predict(frame) - truth).max() < 1e-4
    assert model.noise_ == 0.0


def test_missing_words_are_a_category_and_missing_numbers_an_error():
    frame, _, y = table(60)
    frame["shape"] = frame["shape"].where(np.arange(60) % 5 > 0, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = GPRegressor().fit(frame, y)
    assert model.alike_["shape"].words == ("", "round", "square")
    frame.loc[3, "x"] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in column 'x'"):
        model.predict(frame)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernel": "rbf"}, "kernel must be 'auto' for tables with categories"),
        ({"solver": "cg"}, "take solver='auto' or 'cholesky', or 'basis'"),
        ({"solver": "basis", "noise": 0.1}, "'basis' with noise='fit'"),
        ({"noise": "profile"}, "take noise='fit' or one standard deviation"),
        ({"categorical": "all"}, "categorical must be 'auto' or a list of columns"),
    ],
)
def test_misuse_is_told(settings, message):
    frame, _, y = table(20)
    with pytest.raises(ValueError, match=message):
        GPRegressor(**settings).fit(frame, y)


def test_a_column_that_names_rows_is_refused():
    frame = pd.DataFrame({"id": [f"row {i}" for i in range(400)]})
    with pytest.raises(ValueError, match="column 'id' holds 400 different words, but at most 300"):
        Columns.of(frame, "auto")
