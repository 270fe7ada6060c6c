import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from surrogate.output.record import Reweighting
from surrogate.output.report import report_html, save_report, software_versions
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from tests.finished import MEAN, dataset, parts, result


class Page(HTMLParser):
    """Tags that are open, all attributes and the text of a page."""

    void = {"meta", "img", "br", "source", "path"}

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data + " "


@pytest.fixture(scope="module")
def html():
    return report_html(*parts(result()))


@pytest.fixture
def no_pictures(monkeypatch):
    """For pages of which only the words are looked at."""
    monkeypatch.setattr("surrogate.output.html.png", lambda *_, **__: b"")
    monkeypatch.setattr("surrogate.output.plots.corner_figure", lambda *_: None)


def test_page_is_well_formed_and_says_everything(html):
    page = Page(html)
    assert page.open == []
    for words in (
        "Posterior of omega, H0",
        "converged: draws of the surrogate agree",
        "-6.123 ± 0.071",
        "30 (1 at -inf, 1 failed)",
        "0.020 sd",
        "omega h2",
        "RuntimeError: no convergence after 1000 iterations <solver.py>",
        "effective sample size",
        "numpy",
    ):
        assert words in page.text, words


def test_page_stands_alone(html):
    page = Page(html)
    assert {tag for tag, *_ in page.attributes}.isdisjoint({"script", "link", "a", "iframe"})
    sources = [value for _, name, value in page.attributes if name in {"src", "href"}]
    assert len(sources) == 3
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(base64.b64decode(source.split(",")[1]).startswith(b"\x89PNG") for source in sources)
    assert not re.search(r"https?://|<script|url\(", html)


def test_pictures_have_words_for_those_who_cannot_see_them(html):
    page = Page(html)
    assert sum(name == "alt" and len(value) > 10 for _, name, value in page.attributes) == 3


def test_what_a_likelihood_says_cannot_become_markup(no_pictures):
    data = dataset().append(MEAN[None], [Evaluation.failure("<script>alert(1)</script>")], 6)
    text = report_html(*parts(result(data=data)))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_verdict_is_coloured_by_what_it_says(no_pictures):
    assert '<p class="verdict yes">converged' in report_html(*parts(result()))
    assert '<p class="verdict no">NOT CONVERGED: budget' in report_html(
        *parts(result(converged=False, status="budget"))
    )


def test_many_failures_are_cut_short(no_pictures):
    many = [Evaluation.failure(f"failure {i}") for i in range(150)]
    data = Dataset.empty(2).append(np.ones((150, 2)), many, 0).append(MEAN[None], [Evaluation(0.0, "ok")], 1)
    page = Page(report_html(*parts(result(data=data))))
    assert "failure 99 " in page.text
    assert "failure 100 " not in page.text
    assert "and 50 more" in page.text


def test_a_run_without_anything_has_a_report():
    page = Page(report_html(*parts(result(data=Dataset.empty(2), trace=(), sampler={}))))
    assert "There was no iteration with a surrogate." in page.text
    assert "No times were recorded." in page.text


def test_report_is_written_in_one_piece(tmp_path, no_pictures):
    path = tmp_path / "deep" / "report.html"
    save_report(*parts(result()), path)
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_reweighting_and_emulated_values_are_reported(no_pictures):
    reweighting = Reweighting(n=100, k_hat=0.31, ess=87.0, reliable=True, failed=0, log_ratios=np.zeros(100))
    page = Page(report_html(*parts(result(reweighting=reweighting, derived_error=np.array([0.001])))))
    assert "re-weighted with 100 true evaluations: effective size 87, Pareto k-hat 0.31." in page.text
    assert "held-out error of each: omega h2 0.0010" in page.text


def test_versions():
    assert {"surrogate", "python", "numpy", "torch", "emcee", "getdist"} <= set(software_versions())


def test_support_of_the_prior_is_shown(html):
    text = Page(html).text
    assert "0 … 1" in text
    assert "-∞ … ∞" in text
