"""The page of a labelling run, from figures alone."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.output.learning_curve import (
    LabelSummary,
    curve_figure,
    label_report_html,
    predictions_figure,
    save_label_report,
)


def summary(k=4, *, seen=30):
    rng = np.random.default_rng(0)
    n = 100.0 * np.arange(1, k + 1)
    rmse = 30.0 * n**-0.5
    stages = np.stack([n, rmse, 0.1 * rmse, 0.7 * rmse, n / 2, (n > 150).astype(float)], axis=1)
    batches = np.stack([n, 1.5 * rmse, np.where(n > 150, rmse, np.nan)], axis=1)
    y = rng.standard_normal(seen)
    columns = np.stack([y, y + 0.1, y - 0.4, y + 0.6, np.arange(seen) % 2], axis=1)
    facts = (("labels", "400"), ("out", "<none>"))
    return LabelSummary("price", "Goes on.", False, facts, ("a note",), stages, ("gp",) * k, batches, columns, 0.9)


def lines_of(figure):
    return {line.get_label(): line for line in figure.axes[0].get_lines()}


def test_the_curve_shows_its_numbers():
    shown = summary()
    figure = curve_figure(shown)
    lines = lines_of(figure)
    np.testing.assert_array_equal(lines["batch before its labels, chosen rows"].get_ydata(), shown.batches[:, 1])
    np.testing.assert_array_equal(lines["batch before its labels, random rows"].get_xdata(), shown.batches[1:, 0])
    labels = [container.get_label() for container in figure.axes[0].containers]
    assert labels == ["held out, random rows", "held out, rows not random"]
    assert figure.axes[0].get_yscale() == "log"


def test_predictions_show_their_intervals():
    shown = summary()
    labels = [container.get_label() for container in predictions_figure(shown).axes[0].containers]
    assert labels == ["chosen rows (90% interval)", "random rows (90% interval)"]


def test_the_page_is_one_file():
    page = label_report_html(summary())
    assert page.count("data:image/png;base64,") == 4  # two pictures, for wide and for narrow screens
    assert page.count("<tr") == 7  # the learning curve, and the error beside that of no model
    assert "&lt;none&gt;" in page
    assert "(not random)" in page
    assert "<script" not in page
    assert "http" not in page.replace("data:image", "")


@pytest.mark.parametrize("k", [0, 1])
def test_short_runs(k):
    page = label_report_html(summary(k, seen=0))
    assert ("No model has been fitted yet" in page) == (k == 0)
    assert "No row has been predicted before its label was known yet" in page


def test_endings_of_files(tmp_path):
    save_label_report(summary(), tmp_path / "new" / "curve.png")
    assert (tmp_path / "new" / "curve.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match=r"a .html or a .png file, got 'x.pdf'"):
        save_label_report(summary(), tmp_path / "x.pdf")
