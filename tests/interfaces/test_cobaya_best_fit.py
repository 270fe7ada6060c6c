"""The files of the best fit beside those that Cobaya's own minimizer writes for the same model."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cobaya", reason="Cobaya is an extra: pip install surrogate-inference[cobaya]")

from cobaya.log import LoggedError
from cobaya.run import run

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Cobaya's and its dependencies'

INFO = {
    "likelihood": {"first": {"external": "lambda a, b, fixed: -0.5 * (a**2 + (b - 0.5 * a - 1)**2 / fixed)"}},
    "params": {
        "a": {"prior": {"min": -5, "max": 5}, "latex": r"\alpha"},
        "b": {"prior": {"dist": "norm", "loc": 0, "scale": 2}},
        "fixed": 0.25,
        "ab": {"derived": "lambda a, b: a * b + 3", "latex": "ab"},
    },
}


def words(path: Path) -> tuple[list[list[str]], list[float]]:
    """The cells of a file of a best fit that are no numbers, and its numbers."""
    cells = [line.split() for line in path.read_text().splitlines()]
    numbers = [float(c) for line in cells for c in line if c.replace("e", "").strip("+-.0123456789") == "" and c != "-"]
    return [[c for c in line if c.strip("+-.0123456789e")] for line in cells], numbers


@pytest.mark.parametrize(
    ("of", "ending", "ignore"),
    [("posterior", "minimum", False), pytest.param("likelihood", "bestfit", True, marks=pytest.mark.slow)],
)
def test_files_are_those_of_minimize(tmp_path, of, ending, ignore):
    info = deepcopy(INFO) | {"sampler": {"surrogate": {"seed": 1, "n_samples": 200, "best_fit": of}}}
    _, sampler = run(info, output=str(tmp_path / "mine"))
    run(
        deepcopy(INFO) | {"sampler": {"minimize": {"ignore_prior": ignore, "seed": 1}}}, output=str(tmp_path / "theirs")
    )
    for name in (ending, f"{ending}.txt"):
        (mine, values), (theirs, others) = words(tmp_path / f"mine.{name}"), words(tmp_path / f"theirs.{name}")
        assert mine == theirs
        assert values == pytest.approx(others, abs=0.02)
    point = sampler.products()["minimum"]
    exact = [0.0, 1.0] if ignore else np.linalg.solve([[2.0, -2.0], [-2.0, 4.25]], [-2.0, 4.0])
    assert [float(point["a"]), float(point["b"])] == pytest.approx(list(exact), abs=0.02)


def test_the_likelihood_of_a_model_with_external_priors_is_refused(tmp_path):
    info = deepcopy(INFO) | {"prior": {"joint": "lambda a, b: -0.5 * (a - b)**2"}}
    with pytest.raises(LoggedError, match="external priors"):
        run(info | {"sampler": {"surrogate": {"best_fit": "likelihood"}}})
    with pytest.raises(LoggedError, match="must be null"):
        run(info | {"sampler": {"surrogate": {"best_fit": "mean"}}})
