"""A run remembers where it comes from."""

from __future__ import annotations

import sys

import scipy.stats

import surrogate
from surrogate.inference.driving.provenance import origin_of
from surrogate.problem.target import Posterior


def likelihood(a):
    return -0.5 * a**2


def test_the_origin_survives_in_the_folder(tmp_path):
    run = {
        "log_likelihood": likelihood,
        "prior": {"a": scipy.stats.norm(0, 3)},
        "output": tmp_path / "run",
        "seed": 5,
        "max_evaluations": 5,
    }
    first = surrogate.infer(**run, progress=False, n_samples=100).record
    assert first.origin.likelihood.endswith("test_origin:likelihood")
    assert (first.origin.seed, first.origin.folder, first.origin.workers) == (5, str(tmp_path / "run"), 1)
    assert first.priors == ("norm(0, 3)",)
    assert len(first.predicted) == len(first.data)
    again = surrogate.infer(**run, progress=False, n_samples=100).record.origin
    assert again.started == first.origin.started
    assert again.seconds >= first.origin.seconds * 0.5
    loaded = surrogate.load_result(tmp_path / "run", n_samples=100).record
    assert loaded.origin.started == first.origin.started
    assert loaded.priors == first.priors


def test_the_command_is_what_a_shell_takes(monkeypatch):
    posterior = Posterior(likelihood, {"a": (0, 1)})
    for words, command in (
        (["my model.py", "--n", "3"], "python 'my model.py' --n 3"),
        (["/usr/bin/surrogate", "run", "a.yaml"], "surrogate run a.yaml"),
        (["/x/surrogate/__main__.py", "run"], "python -m surrogate run"),
        ([""], ""),
    ):
        monkeypatch.setattr(sys, "argv", words)
        assert origin_of(posterior, 1).command == command
