import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from surrogate import NetworkClassifier, NetworkRegressor
from surrogate.networks.architecture import Architecture
from surrogate.networks.ensemble import Stack
from surrogate.networks.export import export_network, load_network, save_network
from surrogate.networks.portable import PortableNetwork, evaluator
from surrogate.networks.recipes import Recipe, lean
from surrogate.networks.training import Schedule, train
from surrogate.rng import generator, torch_generator

RNG = generator(0, "export tests")
X = RNG.uniform(-2.0, 2.0, (1200, 4))
Y = 3.0 + np.sin(2.0 * X[:, 0]) * X[:, 1] + 0.3 * X[:, 2] ** 2 + 0.3 * RNG.standard_normal(1200)


@pytest.fixture(scope="module")
def model():
    """A network of two hidden layers of 128, trained on the first 800 rows."""
    architecture = Architecture(4, (128, 128))
    stack = Stack.of([architecture.build(torch_generator(0, "weights"))])
    mean, scale = X.mean(0), X.std(0)
    portable = PortableNetwork(mean, scale, 5.0, float(Y.mean()), float(Y.std()), stack.modules())
    target = torch.from_numpy((Y - Y.mean()) / Y.std()).float()
    train(
        stack,
        portable.scaled(X),
        target,
        torch.arange(800)[None],
        scales=architecture.scales(),
        schedule=Schedule(epochs=60, batch_size=128),
        generators=[torch_generator(0, "batches")],
    )
    return PortableNetwork(mean, scale, 5.0, float(Y.mean()), float(Y.std()), stack.modules())


def error(model, x=X[1000:], y=Y[1000:]):
    with torch.no_grad():
        return float(np.sqrt(np.mean((model.module()(torch.from_numpy(x)).numpy() - y) ** 2)))


@pytest.mark.parametrize(
    ("recipe", "suffix", "share", "tolerance"),
    [
        (Recipe("int8"), "npz", 0.5, 0.02),
        (Recipe("bf16"), "npz", 0.65, 0.02),
        (Recipe("int8", prune=0.7, steps=500), "npz", 0.4, 0.1),
        pytest.param(Recipe("int8", activations="dynamic"), "pt2", 1.0, 0.02, marks=pytest.mark.slow),
        pytest.param(
            Recipe("int8", activations="static", aware=True, steps=100), "pt2", 1.0, 0.05, marks=pytest.mark.slow
        ),
        pytest.param(Recipe("float32", prune=0.5, structured=True, steps=500), "pt2", 1.0, 0.1, marks=pytest.mark.slow),
    ],
    ids=["int8", "bf16", "pruned", "integers", "aware", "units"],
)
def test_a_smaller_file_of_nearly_the_same_error(model, tmp_path, recipe, suffix, share, tolerance):
    path = tmp_path / f"small.{suffix}"
    report = export_network(model, path, X[800:], Y[800:], recipe, tolerance=tolerance)
    assert report.change <= tolerance
    assert report.bytes[1] == path.stat().st_size < share * report.bytes[0]
    assert report.n_judged == 100
    assert "1000 rows" in str(report)
    assert error(model) < 0.5 * Y.std()


def test_an_error_that_rises_too_much_is_refused_and_nothing_is_written(model, tmp_path):
    with pytest.raises(ValueError, match=r"the error rises by .* nothing was written"):
        export_network(model, tmp_path / "bad.npz", X[800:], Y[800:], Recipe(prune=0.95, steps=0))
    assert list(tmp_path.iterdir()) == []


def test_saving_and_reading_a_network_is_exact(model, tmp_path):
    class Fitted:
        modules_ = model.networks

        def portable(self):
            return model

    save_network(Fitted(), tmp_path / "model.npz")
    again = load_network(tmp_path / "model.npz")
    assert error(again) == error(model)
    with pytest.raises(ValueError, match=r"as \.npz"):
        save_network(Fitted(), tmp_path / "model.pt")


@pytest.mark.parametrize("estimator", [NetworkRegressor, NetworkClassifier])
def test_what_is_not_fitted_is_not_saved(tmp_path, estimator):
    with pytest.raises(TypeError, match="expected a fitted NetworkRegressor or NetworkClassifier"):
        save_network(estimator(), tmp_path / "model.npz")


@pytest.mark.parametrize(("kind", "networks"), [("last-layer", 2), ("swag", 60)])
def test_a_saved_regressor_predicts_as_before(tmp_path, kind, networks):
    settings = {"hidden": (24, 16), "epochs": 2, "validation": None, "calibration": None}
    regressor = NetworkRegressor(**settings, n_members=2, uncertainty=kind).fit(X, Y)
    save_network(regressor, tmp_path / "model.npz")
    again = load_network(tmp_path / "model.npz")
    assert len(again.networks) == networks
    for found in (again.predict(X), evaluator(again.to_arrays())(X)):
        np.testing.assert_allclose(found, regressor.predict(X), rtol=1e-5)


LABELS = np.array(["low", "middle", "high"])[np.digitize(Y, np.quantile(Y, [0.4, 0.7]))]
SMALL = {"hidden": (32, 32), "epochs": 60, "validation": "holdout"}


@pytest.fixture(scope="module", params=["last-layer", "ensemble"])
def classifier(request):
    members = {"n_members": 2} if request.param == "ensemble" else {}
    return NetworkClassifier(**SMALL, **members, uncertainty=request.param).fit(X[:800], LABELS[:800])


def log_loss(p, labels=LABELS[800:]):
    return -np.log(p[np.arange(len(labels)), np.searchsorted(["high", "low", "middle"], labels)]).mean()


def test_a_saved_classifier_gives_the_same_probabilities(classifier, tmp_path):
    save_network(classifier, tmp_path / "model.npz")
    again = load_network(tmp_path / "model.npz")
    assert again.classes.tolist() == ["high", "low", "middle"]
    p, expected = evaluator(again.to_arrays())(X[800:]), classifier.predict_proba(X[800:])
    np.testing.assert_allclose(again.predict(X[800:]), p, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(p.sum(1), 1.0, rtol=1e-12)
    if classifier.uncertainty == "ensemble":
        np.testing.assert_allclose(p, expected, rtol=1e-4, atol=1e-6)
    else:  # without the variance of logits: T is that which is best without it
        assert log_loss(p) == pytest.approx(log_loss(expected), rel=0.03)
        assert classifier.plain_temperature_.temperature > classifier.temperature_.temperature


@pytest.mark.parametrize(
    ("recipe", "suffix"),
    [
        (Recipe("int8"), "npz"),
        (Recipe("int8", prune=0.5, steps=300), "npz"),
        pytest.param(Recipe("bf16"), "pt2", marks=pytest.mark.slow),
    ],
    ids=["int8", "pruned", "program"],
)
def test_a_smaller_file_of_a_classifier(classifier, tmp_path, recipe, suffix):
    path = tmp_path / f"small.{suffix}"
    report = export_network(classifier, path, X[800:], LABELS[800:], recipe, tolerance=0.1)
    assert report.change <= 0.1
    assert report.wrong[1] <= report.wrong[0] + 0.03 < 0.5
    assert "wrong classes" in str(report)
    assert "-log p" in str(report)


def test_classes_that_a_network_does_not_have_are_refused(classifier, tmp_path):
    with pytest.raises(ValueError, match=r"classes that the network does not have: \['odd'\]"):
        export_network(classifier, tmp_path / "small.npz", X[:3], ["low", "odd", "low"], Recipe())


def test_training_after_pruning_helps_and_keeps_the_zeros(model):
    rows = X[800:1000]
    bare, trained = (lean(model, Recipe("float32", prune=0.7, steps=steps), rows) for steps in (0, 300))
    with torch.no_grad():
        whole = model.module()(torch.from_numpy(X[1000:])).numpy()
    assert error(trained, y=whole) < 0.5 * error(bare, y=whole)
    for one, other in zip(bare.networks[0], trained.networks[0], strict=True):
        if isinstance(one, nn.Linear):
            assert torch.equal(one.weight == 0, other.weight == 0)


def test_training_aware_of_rounding_does_not_touch_the_given_network(model):
    before = [value.clone() for value in model.networks[0].parameters()]
    small = lean(model, Recipe("int8", aware=True, steps=20), X[800:])
    after = list(model.networks[0].parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(small.networks[0][2].weight, after[2])


READER = """
import sys
import numpy as np
{snippet}
print(*predict(np.loadtxt(sys.argv[2])), "surrogate" in sys.modules)
"""


def snippets():
    page = Path(__file__).resolve().parents[2] / "docs" / "lean_networks.md"
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("suffix", "word"), [("npz", "np.load("), pytest.param("pt2", "torch.export.load(", marks=pytest.mark.slow)]
)
def test_the_reader_of_the_page_needs_nothing_of_this_package(model, tmp_path, suffix, word):
    path, rows = tmp_path / f"small.{suffix}", tmp_path / "rows.txt"
    activations = "dynamic" if suffix == "pt2" else "none"
    prune = 0.5 if suffix == "npz" else 0.0
    export_network(
        model, path, X[800:], Y[800:], Recipe("int8", activations=activations, prune=prune, steps=300), tolerance=0.1
    )
    np.savetxt(rows, X[:5])
    snippet = next(text for text in snippets() if word in text).replace(f'"lean.{suffix}"', "sys.argv[1]")
    done = subprocess.run(
        [sys.executable, "-I", "-c", READER.format(snippet=snippet), str(path), str(rows)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    *values, imported = done.stdout.split()
    assert imported == "False"
    with torch.no_grad():
        whole = model.module()(torch.from_numpy(X[:5])).numpy()
    assert np.abs(np.array(values, dtype=float) - whole).max() < 0.5 * Y.std()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"path": "small.onnx"}, r"\.npz .* or \.pt2"),
        ({"recipe": Recipe(activations="dynamic")}, r"need a \.pt2 file"),
        ({"x": X[:, :3]}, "4 columns"),
        ({"x": np.full_like(X, np.nan)}, "finite"),
    ],
)
def test_misuse_is_told(model, tmp_path, change, match):
    given = {"path": "small.npz", "x": X, "y": Y, "recipe": Recipe(), **change}
    with pytest.raises(ValueError, match=match):
        export_network(model, tmp_path / given["path"], given["x"], given["y"], given["recipe"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"precision": "int4"}, "precision"),
        ({"precision": "bf16", "aware": True}, "need precision='int8'"),
        ({"prune": 1.0}, "prune"),
        ({"steps": -1}, "steps"),
    ],
)
def test_recipes_are_checked(options, match):
    with pytest.raises(ValueError, match=match):
        Recipe(**options)
