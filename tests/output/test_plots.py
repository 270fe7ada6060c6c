import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from surrogate.output.plots import corner_figure, evaluations_figure, png, save_corner, trace_figure
from surrogate.problem.dataset import Dataset
from tests.finished import BOUNDS, result

SIGNATURES = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def first(run, d):
    """The run in its first d parameters, or with copies of the last one."""
    take = [min(j, 1) for j in range(d)]
    noise = np.random.default_rng(0).standard_normal((len(run.samples), d)) * 0.05

    data = run.data
    draws = dataclasses.replace(
        run.draws,
        names=tuple(f"p{j}" for j in range(d)),
        labels=tuple(f"p_{j}" for j in range(d)),
        bounds=BOUNDS[take],
        x=np.clip(run.samples[:, take] + noise, *BOUNDS[take].T),
        derived=np.empty((len(run.samples), 0)),
        derived_names=(),
    )
    record = dataclasses.replace(
        run.record,
        data=Dataset.from_arrays(data.to_arrays() | {"x": data.x[:, take], "gradient": data.gradient[:, take]}),
        log_prior=np.zeros(len(data)),
        surrogate_error={"mean": np.zeros(d), "sd": np.zeros(d)},
    )
    return dataclasses.replace(run, draws=draws, record=record)


def corner(run):
    return corner_figure(run.draws, run.record)


@pytest.mark.parametrize("ending", SIGNATURES)
def test_corner_is_written(tmp_path, ending):
    path = tmp_path / f"corner.{ending}"
    result().plot(path)
    assert path.read_bytes().startswith(SIGNATURES[ending])


def test_unknown_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not supported"):
        save_corner(result().draws, result().record, tmp_path / "corner.txt")


@pytest.mark.parametrize("d", [1, 3])
def test_corner_has_a_panel_per_pair_and_shows_every_point(d):
    figure = corner(first(result(), d))
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == d * (d + 1) // 2 + 1  # and the colour scale
    assert figure.axes[0].get_title() == "0.30 ± 0.11"
    if d > 1:
        shown = sum(len(points.get_offsets()) for points in figure.axes[d].collections if hasattr(points, "get_sizes"))
        assert shown >= 30


def test_axes_end_at_the_prior():
    low, _ = corner(result()).axes[0].get_xlim()
    assert low == 0.0


@pytest.mark.parametrize("scale", [1e-12, 1e9])
def test_small_and_large_parameters_get_a_power_of_ten(scale):
    run = first(result(), 1)
    draws = dataclasses.replace(run.draws, x=run.samples * scale, bounds=np.array([[-np.inf, np.inf]]))
    label = corner(dataclasses.replace(run, draws=draws)).axes[0].get_xlabel()
    assert label.endswith(f"10^{{{int(np.floor(np.log10(0.6 * scale)))}}}$")


def test_labels_that_cannot_be_set_become_names():
    figure = corner(result(labels=(r"\nonsense{", "H_0")))
    assert figure.axes[2].get_xlabel() == r"$\mathrm{omega}$"
    png(figure)


def test_runs_without_finite_values_or_variation_are_drawn():
    empty = result(data=Dataset.empty(2), trace=())
    for figure in (corner(empty), trace_figure(empty.evidence, empty.record), evaluations_figure(empty.record)):
        assert png(figure).startswith(SIGNATURES["png"])


def test_trace_and_evaluations_are_drawn():
    run = result()
    upper, lower = trace_figure(run.evidence, run.record).axes
    assert len(upper.get_legend().get_texts()) == 5
    assert lower.get_ylabel() == "log evidence"
    assert png(trace_figure(run.evidence, run.record)).startswith(SIGNATURES["png"])
    words = [text.get_text() for text in evaluations_figure(run.record).axes[0].get_legend().get_texts()]
    assert words == ["initial design", "best so far", "evaluation", r"$-\infty$", "failed"]


def test_no_setting_of_the_caller_is_touched(tmp_path):
    import matplotlib

    with matplotlib.rc_context({"font.size": 17}):
        before = dict(matplotlib.rcParams)
        result().plot(tmp_path / "corner.png")
        assert dict(matplotlib.rcParams) == before


@pytest.mark.slow
def test_nothing_of_the_caller_is_touched(tmp_path):
    program = f"""
import matplotlib
matplotlib.use("svg")
matplotlib.rcParams["font.size"] = 17
before = dict(matplotlib.rcParams)
from tests.finished import result
run = result()
run.plot({str(tmp_path / "corner.png")!r})
run.report({str(tmp_path / "report.html")!r})
import sys
assert dict(matplotlib.rcParams) == before
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_look_does_not_depend_on_the_caller():
    import matplotlib

    plain = png(evaluations_figure(result().record))
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "black", "text.color": "red"}):
        assert png(evaluations_figure(result().record)) == plain
