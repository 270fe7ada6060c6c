"""Slices, predictions and formulas of the report, from a run made by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from surrogate.output.formulas import formula, label_of
from surrogate.output.meanings import signal_rows, trust_rows
from surrogate.output.predictive import predictive_figure, predictive_section
from surrogate.output.record import Origin
from surrogate.output.report import report_html
from surrogate.output.trust import has_predictions, predictions_figure, slices_figure
from surrogate.samplers.samples import Samples
from tests.finished import Emulator, log_likelihood, parts, result


@pytest.fixture
def run():
    """A run that predicted its last twenty evaluations with an error of half a standard deviation."""
    made = result()
    predicted = np.full((30, 2), np.nan)
    predicted[10:] = np.stack([made.data.y[10:] + 0.1, np.full(20, 0.2)], axis=1)
    check = {"points": 4.0, "largest_error": 0.012, "k_hat": 0.31, "hidden_mode": 0.02}
    return replace(made, record=replace(made.record, predicted=predicted, check=check))


@pytest.fixture
def no_pictures(monkeypatch):
    """For pages of which only the words are looked at."""
    monkeypatch.setattr("surrogate.output.html.png", lambda *_, **__: b"")
    monkeypatch.setattr("surrogate.output.plots.corner_figure", lambda *_: None)


def test_a_slice_is_the_log_posterior_through_the_best_point(run):
    panels = slices_figure(run.draws, run.record, Emulator()).axes
    x, height = panels[0].get_lines()[0].get_data()
    points = np.tile(run.record.best_fit, (len(x), 1))
    points[:, 0] = x
    expected = log_likelihood(points) + Emulator().log_prior(points) - run.record.log_posterior.max()
    np.testing.assert_allclose(height, expected, atol=1e-12)
    band = panels[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(height.max() + 0.2)  # two standard deviations of 0.1


def test_predictions_stand_beside_what_came(run):
    axes = predictions_figure(run.record).axes[0]
    assert [container.get_label() for container in axes.containers] == ["earlier batches", "last 3 batches"]
    drawn = sum(len(container.lines[0].get_xdata()) for container in axes.containers)
    near = run.data.finite[10:] & (run.data.y[10:] > run.data.y_max - 40)
    assert drawn == near.sum()


def test_a_run_without_predictions_has_no_picture_of_them():
    assert not has_predictions(result().record)


def test_numbers_are_marked_by_their_limits(run):
    rows = {row[0]: row for row in trust_rows(run.evidence, run.record)}
    assert rows["error of predictions"][4] == "good"
    assert rows["hidden mode"][1] == "2.0%"
    signals = {row[0]: row for row in signal_rows(run.record)}
    assert signals["spread"][1:3] == ("0.08", "0.05")
    assert signals["spread"][4] == "bad"
    assert signals["moved"][4] == "good"


def test_the_report_says_where_the_run_comes_from_and_shows_sections_of_others(run, no_pictures):
    origin = Origin("model:likelihood", "python model.py --fast", "runs/x", 7, 1.7e9, "node1", 4, 100.0)
    known = replace(run, record=replace(run.record, origin=origin, priors=("uniform", "norm(0, 2)")))
    page = report_html(*parts(known), further=[("Posterior predictive", "<p>here</p>")])
    for words in ("model:likelihood", "python model.py --fast", "2023-11-14", "node1", "norm(0, 2)", "busy"):
        assert words in page, words
    assert "its support" not in page
    assert "<h2>Posterior predictive</h2>\n<p>here</p>" in page


def test_a_reference_is_drawn_over_the_posterior(run, tmp_path):
    exact = np.random.default_rng(0).multivariate_normal([0.3, 67.4], [[0.01, 0.03], [0.03, 0.25]], 2000)
    run.plot(tmp_path / "corner.png", reference=exact)
    run.plot(tmp_path / "again.png", reference=(exact, np.ones(2000)))
    assert (tmp_path / "corner.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    with pytest.raises(ValueError, match=r"reference must be draws with shape \(n, 2\)"):
        run.plot(tmp_path / "corner.png", reference=exact[:, :1])


def test_a_reference_is_read_from_a_chain(run, tmp_path):
    from surrogate.output.getdist import reference_samples

    run.save(tmp_path / "chain")
    found = reference_samples(tmp_path / "chain", run.draws)
    assert isinstance(found, Samples)
    np.testing.assert_allclose(found.weights @ found.x, run.draws.weights @ run.draws.x, rtol=1e-4)


def test_a_label_becomes_a_picture_in_the_colour_of_the_text():
    drawn = formula(r"\frac{\Omega_m}{h^2}")
    assert drawn.startswith('<svg class="formula" role="img" aria-label="\\frac{\\Omega_m}{h^2}"')
    assert not re.search(r"fill=|NaN|nan", drawn)


def test_a_label_that_cannot_be_set_is_the_name():
    assert label_of(r"\nonsense{", "a<b") == "a&lt;b"
    assert label_of("a", "a") == "a"


def test_markup_in_a_name_is_text(no_pictures):
    made = result(names=("<script>alert(1)</script>", "b"), labels=("<script>alert(1)</script>", r"\Omega_m"))
    page = report_html(*parts(made), emulator=made.emulator)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_posterior_predictive_holds_the_data():
    rng = np.random.default_rng(0)
    draws = {"a": rng.standard_normal((50, 4, 5)), "$b$": rng.standard_normal((50, 3))}
    figure = predictive_figure(draws, {"$b$": (np.zeros(3), np.ones(3))})
    first, second = figure.axes[:2]
    np.testing.assert_allclose(first.get_lines()[0].get_ydata(), np.median(draws["a"].reshape(50, 20), axis=0))
    assert [container.get_label() for container in second.containers] == ["data"]
    title, content = predictive_section(draws["a"])
    assert title == "Posterior predictive"
    assert "at 50 draws of the posterior" in content
