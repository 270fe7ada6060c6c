"""The benchmarks of error bars of networks: options and decompositions."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield import_module("bench_uncertainty"), import_module("bench_labelling")
    for name in ("bench_uncertainty", "bench_labelling"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("kind", "hidden", "expected"),
    [("kfac", None, (256, 256)), ("mcmc", None, (64, 64)), ("mcmc", (128, 128), (128, 128))],
)
def test_widths_of_hidden_layers_may_be_given(modules, kind, hidden, expected):
    assert modules[0].network(kind, 0, hidden).hidden == expected


def test_the_mean_of_networks_has_a_lower_squared_error_by_their_ambiguity(modules):
    rng = np.random.default_rng(0)
    means, y = rng.standard_normal((5, 40)), rng.standard_normal(40)
    members = [SimpleNamespace(predict=lambda x, mean=mean: (mean, np.ones(len(x)))) for mean in means]
    single, together = ((means - y) ** 2).mean(), ((means.mean(0) - y) ** 2).mean()
    found = modules[1].ambiguity(SimpleNamespace(members=members), np.zeros((40, 2)))
    assert found == pytest.approx(single - together, rel=1e-12)


def test_the_size_of_errors_is_reduced_by_the_ambiguity_alone(modules):
    """Sizes are times sqrt(1 - v / e); the ratios, from which quantiles follow, stay those of single networks."""
    from surrogate.labelling.models import FoldModel, HeldOutErrors
    from surrogate.networks.uncertainty import calibrate

    rng = np.random.default_rng(1)
    error, variance, y = rng.standard_normal(50), rng.uniform(0.5, 2.0, 50), rng.standard_normal(50)
    members = tuple(SimpleNamespace(predict=lambda x, shift=s: (np.full(len(x), shift), x[:, 0])) for s in (-0.3, 0.3))
    held_out = HeldOutErrors(error, variance, np.ones(50, dtype=bool), is_random=True)
    model = FoldModel("network", members, held_out, calibrate(error, variance[:, None]), 50, 0.0)
    found = dict(modules[1].calibrations("kfac", model, y, np.ones((7, 1))))
    whole, smaller = (found[name].calibration for name in ("kfac", "kfac, ambiguity"))
    columns = np.linspace(0.1, 3.0, 9)[:, None]
    assert smaller.size(columns) / whole.size(columns) == pytest.approx(np.sqrt(1.0 - 0.09 / np.mean(error**2)))
    assert smaller.quantile(0.9) == whole.quantile(0.9)
