"""Representations in notebooks: what they say, and that names and labels are text."""

import numpy as np
import pytest

import surrogate
from surrogate.inference.best_fit import BestFit
from surrogate.output.notebook import facts_html
from tests.finished import result

EVIL = r"<script>alert(1)</script>"


def test_a_result_shows_its_verdict_and_parameters():
    html = result()._repr_html_()
    assert "converged: draws of the surrogate agree" in html
    assert r"omega ($\Omega_m$)" in html
    assert "&plusmn;" in html
    assert "NOT CONVERGED" not in html
    assert "NOT CONVERGED" in result(converged=False)._repr_html_()


def test_labels_and_words_are_text():
    html = result(labels=(EVIL, "H_0"), status=EVIL, converged=False)._repr_html_()
    assert "<script>" not in html
    assert html.count("&lt;script&gt;") == 2
    assert "<script>" not in facts_html(EVIL, [(EVIL, EVIL)], [EVIL])


def test_a_best_fit_shows_its_status():
    best = BestFit(
        of="likelihood",
        names=("a",),
        x=np.array([1.0]),
        log_likelihood=-2.0,
        log_prior=-1.0,
        predicted=-2.1,
        remaining=0.5,
        tolerance=0.02,
        n_evaluations=10,
        n_failed=1,
        noisy=False,
        data=result().data,
        derived={},
    )
    assert "NOT CONFIRMED after 10 further calls, 1 of which failed" in best._repr_html_()
    assert "<td>4</td>" in best._repr_html_(), "chi-squared"


def test_a_labelling_run_shows_its_facts():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(80), np.where(np.arange(80) < 30, 1.0 * np.arange(80), np.nan)
    with surrogate.label({"x": x, EVIL: y}, EVIL, budget=40) as run:
        html = run._repr_html_()
    assert "<table>" in html
    assert "<script>" not in html
    assert "labelling run of &lt;script&gt;" in html


@pytest.mark.parametrize(
    "name", ["GPRegressor", "GradientGPRegressor", "NetworkRegressor", "NetworkClassifier", "LSSVC"]
)
def test_estimators_have_a_representation(name):
    assert name in getattr(surrogate, name)()._repr_html_()
