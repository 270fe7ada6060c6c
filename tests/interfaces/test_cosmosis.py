"""The CosmoSIS sampler against a stand-in that makes the calls of the real base class, which has no wheel."""

from __future__ import annotations

import configparser
import importlib
import sys
import types
from dataclasses import dataclass, field

import numpy as np
import pytest
from scipy.special import ndtri


@dataclass
class Results:
    like: float
    prior: float
    extra: tuple


class Pipeline:
    """Two parameters, one with a normal prior, and one extra output."""

    nvaried = 2

    def denormalize_vector_from_prior(self, u):
        return np.array([-3 + 6 * u[0], 2 * ndtri(u[1])])

    def prior(self, x):
        uniform = -np.log(6) if -3 <= x[0] <= 3 else -np.inf
        return uniform - 0.5 * (x[1] / 2) ** 2 - 0.5 * np.log(2 * np.pi * 4)

    def output_names(self):
        return ["cosmological_parameters--a", "cosmological_parameters--b", "DERIVED--s"]

    def run_results(self, x):
        if x[0] > 2.9:
            raise RuntimeError
        if x[0] < -2.5:
            return Results(-1e30, self.prior(x), (0.0,))
        return Results(-0.5 * (x[0] ** 2 + (x[1] - 0.5 * x[0]) ** 2 / 0.25), self.prior(x), (x[0] + x[1],))


@dataclass
class Output:
    columns: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    finals: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)

    def add_column(self, name, kind):
        self.columns.append(name)

    def metadata(self, key, value):
        self.settings[key] = value

    def parameters(self, *groups):
        self.rows.append(np.hstack([np.ravel(group) for group in groups]))

    def final(self, key, value):
        self.finals[key] = value


class Sampler:
    """The calls of cosmosis.samplers.sampler.Sampler and ParallelSampler."""

    def __init__(self, ini, pipeline, output, pool=None):
        self.ini, self.pipeline, self.output, self.pool = ini, pipeline, output, pool
        self.name = type(self).__name__[: -len("Sampler")].lower()
        for name in pipeline.output_names():
            output.add_column(name, float)
        for name, kind in self.sampler_outputs:
            output.add_column(name, kind)

    def read_ini(self, option, kind, default=None):
        read = {float: self.ini.getfloat, int: self.ini.getint, bool: self.ini.getboolean, str: self.ini.get}[kind]
        value = read(self.name, option, fallback=default)
        self.output.metadata(option, str(value))
        return value

    def is_master(self):
        return self.pool is None or self.pool.is_master()


class Pool:
    calls = 0

    def map(self, function, points):
        Pool.calls += 1
        return [function(point) for point in points]

    def is_master(self):
        return True


@pytest.fixture
def module(monkeypatch):
    package = types.ModuleType("cosmosis")
    samplers = types.ModuleType("cosmosis.samplers")
    samplers.ParallelSampler = Sampler
    monkeypatch.setitem(sys.modules, "cosmosis", package)
    monkeypatch.setitem(sys.modules, "cosmosis.samplers", samplers)
    sys.modules.pop("surrogate.interfaces.cosmosis", None)
    yield importlib.import_module("surrogate.interfaces.cosmosis")
    sys.modules.pop("surrogate.interfaces.cosmosis", None)


def run(module, pool=None, **options):
    ini = configparser.ConfigParser()
    ini.read_dict({"surrogate": {"n_samples": "2000", "seed": "1", "max_evaluations": "60"} | options})
    sampler = module.SurrogateSampler(ini, Pipeline(), Output(), pool)
    sampler.config()
    while not sampler.is_converged():
        sampler.execute()
    return sampler


def test_chain_and_finals(module):
    """The posterior is cut far out in a; means within 5 standard errors of 1000 draws."""
    sampler = run(module, max_evaluations="24", n_samples="1000")
    rows = np.array(sampler.output.rows)
    assert sampler.name == "surrogate"
    assert sampler.output.columns[-3:] == ["log_weight", "prior", "post"]
    assert rows.shape[1] == len(sampler.output.columns)
    x = rows[:, :2]
    like = -0.5 * (x[:, 0] ** 2 + (x[:, 1] - 0.5 * x[:, 0]) ** 2 / 0.25)
    prior = np.array([Pipeline().prior(point) for point in x])
    np.testing.assert_allclose(rows[:, 4], prior, rtol=1e-8)
    assert np.quantile(np.abs(rows[:, 5] - like - prior), 0.95) < 0.1
    assert np.median(np.abs(rows[:, 2] - x.sum(1))) < 0.05
    assert abs(x[:, 0].mean()) < 5 / np.sqrt(1000)
    assert {"log_z", "log_z_error", "nsample", "neff", "efficiency"} <= set(sampler.output.finals)


def test_pool_maps_batches(module):
    Pool.calls = 0
    sampler = run(module, Pool(), max_evaluations="8", n_samples="200")
    assert 0 < Pool.calls < 8
    assert sampler.output.finals["n_evaluations"] == 8


def test_resumes(module, tmp_path):
    folder = str(tmp_path / "run")
    short = {"output_folder": folder, "n_samples": "200"}
    first = run(module, max_evaluations="7", **short)
    second = run(module, max_evaluations="8", resume="true", **short)
    assert first.output.finals["n_evaluations"] == 7
    assert second.output.finals["n_evaluations"] == 8
