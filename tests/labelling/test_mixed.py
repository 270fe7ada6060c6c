"""Labelling runs of tables with words: processes with kernels of categories, and words that the pool does not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import surrogate
from surrogate.labelling.models import fit_folds
from surrogate.labelling.schema import Column, Declared, Schema
from surrogate.labelling.table import Table

WORDS = np.array(["oak", "pine", "elm", "ash"])
SCHEMA = Schema(
    "y", (Column("kind", ("ash", "elm", "oak", "pine")), Column("x"), Column("size", ("s", "l"), ordered=True))
)


def columns(n=80, seed=0):
    rng = np.random.default_rng(seed)
    x, kind = rng.uniform(-2.0, 2.0, n), WORDS[rng.integers(0, 4, n)]
    size = np.array(["s", "l"])[rng.integers(0, 2, n)]
    effect = {"oak": 0.0, "pine": 2.0, "elm": -1.0, "ash": 0.5}
    y = np.sin(2.0 * x) + np.array([effect[word] for word in kind]) + 0.3 * (size == "l")
    return {"kind": list(kind), "x": x, "size": list(size), "y": y + 0.05 * rng.standard_normal(n)}


def inputs(table):
    return SCHEMA.encode(*SCHEMA.read(Table.of(table)))


def test_blocks_are_the_inputs_of_the_words_without_order():
    x = inputs(columns())
    assert SCHEMA.blocks == ((1, 5),)
    np.testing.assert_array_equal(x[:, 1:5].sum(1), 1.0)
    assert set(x[:, 5]) == {0.0, 1.0}
    declared = Declared("y", ordinal={"size": ("s", "l")})
    assert Schema.infer(Table.of(columns()), declared).blocks == ((1, 5),)


@pytest.fixture(scope="module")
def model():
    table = columns()
    x = inputs(table)
    return fit_folds("gp", x, table["y"], random=np.ones(80, dtype=bool), seed=1, categories=SCHEMA.blocks)


def test_held_out_errors_and_intervals(model):
    assert np.isfinite(model.held_out.error).all()
    assert model.held_out.rmse < 0.15 < 0.8 < model.constant
    new = columns(200, seed=1)
    prediction = model.predict(inputs(new), level=0.9)
    inside = (prediction.low < new["y"]) & (new["y"] < prediction.high)
    assert inside.mean() > 0.8
    assert np.sqrt(np.mean((prediction.mean - new["y"]) ** 2)) < 0.12


def test_features_are_the_kernel_of_the_process(model):
    x = inputs(columns(12, seed=2))
    features = model.features(x)
    gram = features.gram(features)
    torch.testing.assert_close(gram.diagonal(), features.diag())
    torch.testing.assert_close(gram, gram.T)
    assert float(torch.linalg.eigvalsh(gram)[0]) > -1e-8
    chosen = surrogate.select_batch(
        features, 5, train=model.features(x[:3]), method="lcmd", transforms=("posterior:0.1",)
    )
    assert len(set(chosen.indices.tolist())) == 5


def test_a_word_that_is_not_known_warns_and_is_uncertain(model):
    table = columns(6, seed=3)
    known = model.predict(inputs(table)).sd
    table["kind"][0] = "yew"
    with pytest.raises(ValueError, match="row 1, column 'kind': 'yew' is not a known category"):
        SCHEMA.read(Table.of(table))
    with pytest.warns(UserWarning, match="'yew' is not a known category.* cannot account for its effect"):
        x = SCHEMA.encode(*SCHEMA.read(Table.of(table), may_be_unknown=True))
    np.testing.assert_array_equal(x[0, 1:5], 0.0)
    prediction = model.predict(x)
    assert np.isfinite(prediction.mean).all()
    assert prediction.sd[0] > 3.0 * known[0]
    np.testing.assert_allclose(prediction.sd[1:], known[1:])
    table["kind"][0], table["size"][0] = "oak", "xl"
    with pytest.raises(ValueError, match="'xl' is not a known category"):
        SCHEMA.read(Table.of(table), may_be_unknown=True)
