"""The site is built without a warning, stands alone, leads nowhere that is not there, and names everything public."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import surrogate

ROOT = Path(__file__).resolve().parents[2]
MARKDOWN = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
needs_site = pytest.mark.skipif(
    sys.version_info < (3, 11) or importlib.util.find_spec("material") is None,
    reason="MkDocs Material needs Python 3.11 and the extra docs",
)


class Page(HTMLParser):
    """Anchors of a page, and whatever it loads or leads to."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.loads, self.leads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if found.get("src"):
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon") and found.get("href"):
            self.loads.append(found["href"])
        elif tag == "a" and found.get("href"):
            self.leads.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages of the built site by their paths; its folder is the parent of index.html."""
    out = tmp_path_factory.mktemp("site")
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths, "NO_MKDOCS_2_WARNING": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return {path: path.read_text(encoding="utf-8") for path in sorted(out.rglob("*.html"))}


@pytest.mark.slow
@needs_site
def test_nothing_comes_from_elsewhere(site):
    """Pages can be read without a network: no script, style, font or picture of another place."""
    loads = {link for text in site.values() for link in Page(text).loads}
    assert loads
    assert [link for link in loads if re.match(r"(https?:)?//", link)] == []


@pytest.mark.slow
@needs_site
def test_every_link_leads_somewhere(site):
    pages = {path: Page(text) for path, text in site.items()}
    lost = []
    for path, page in pages.items():
        for link in [*page.leads, *page.loads]:
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", link) or path.name == "404.html":
                continue
            place = (path.parent / unquote(target)).resolve() if target else path
            if not place.exists():
                lost.append(f"{path.name}: {link}")
            elif anchor and place in pages and unquote(anchor) not in pages[place].anchors:
                lost.append(f"{path.name}: {link} (no such anchor)")
    assert lost == []


@pytest.mark.slow
@needs_site
def test_formulas_are_set(site):
    method = next(text for path, text in site.items() if path.name == "method.html")
    assert method.count("<math") > 10
    assert "arithmatex" not in method
    assert not re.search(r"\\\(|\\\[|\$\$", method)


@pytest.mark.slow
@needs_site
def test_every_public_name_is_in_the_reference(site):
    reference = "".join(text for path, text in site.items() if path.parent.name == "api")
    names = [name for name in surrogate.__all__ if not name.startswith("_") and name != "get_cobaya_class"]
    assert [name for name in names if f"surrogate.{name}" not in reference] == []


@pytest.mark.slow
@needs_site
def test_pages_are_searched_without_a_server(site):
    folder = next(path for path in site if path.name == "index.html" and path.parent.name.startswith("site")).parent
    assert "infer" in (folder / "search" / "search_index.js").read_text(encoding="utf-8")
    assert (folder / "assets" / "worker.js").exists()


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_checkout_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    made = {
        "inference",
        "results",
        "labelling",
        "estimators",
        "gp",
        "linalg",
        "networks",
        "testing",
        "interfaces",
        "cli",
    }
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target = urldefrag(link)[0]
        if not target or re.match(r"[a-z]+:", target):
            continue
        place = page.parent / target
        is_made = place.parent.name == "api" and place.stem in made
        assert is_made or place.exists(), link


@pytest.mark.skipif(importlib.util.find_spec("codespell_lib") is None, reason="codespell comes with the extra docs")
def test_spelling():
    """Of docs, docstrings, comments and messages."""
    places = ["docs", "benchmarks", "examples", "surrogate", "likelihoods", "scripts", *map(str, ROOT.glob("*.md"))]
    command = [sys.executable, "-m", "codespell_lib", "--toml", "pyproject.toml", *places]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
