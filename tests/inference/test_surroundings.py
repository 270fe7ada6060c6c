"""What the program around a run has set, or its likelihood changes, makes no difference."""

from __future__ import annotations

import os

import numpy as np

import surrogate

BOX = {"a": (-1.0, 2.0), "b": (-3.0, 3.0)}


def normal(x):
    return -0.5 * float((x[0] / 0.1) ** 2 + (x[1] / 0.3) ** 2)


def infer(log_likelihood=normal, **options):
    options = {"seed": 1, "max_evaluations": 13, "n_samples": 200, "progress": False} | options
    return surrogate.infer(log_likelihood, BOX, **options)


def test_rules_for_floating_point_errors_and_the_working_directory(tmp_path, monkeypatch):
    """Neither its rules for overflow and underflow, nor a change of the working directory in the likelihood."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()

    def log_likelihood(x):
        os.chdir(tmp_path / "elsewhere")  # as wrappers of Fortran programs do
        return normal(x)

    with np.errstate(all="raise"):
        result = infer(log_likelihood, output="run")
    assert result.converged, result.status
    assert (tmp_path / "run" / "evaluations.jsonl").is_file()
    assert not list((tmp_path / "elsewhere").iterdir())
    np.testing.assert_array_equal(result.samples, infer().samples)
