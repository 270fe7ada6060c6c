"""The tutorials and the first page run from top to bottom as a reader would run them, warnings being errors.

A fenced block with a title is written to a file of that name; Python is run in one session a page; lines of
a shell are run by one. Blocks without a language, and those of languages that are not run, are what a program printed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([DOCS / "start.md", DOCS / "mixed_runs.md", DOCS / "mixed.md", *(DOCS / "tutorials").glob("*.md")])
LONG = {"cobaya", "nuisance"}  # more than half a minute: run with -m slow
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)

# The commands of the shell are those of this Python, installed or not.
SHELL = f"""set -e
surrogate() {{ {sys.executable} -m surrogate "$@"; }}
cobaya-run() {{ {sys.executable} -m cobaya run "$@"; }}
python() {{ {sys.executable} "$@"; }}
"""


def blocks(page):
    """Language, title (or "") and text of each fenced block that is run."""
    for language, options, text in FENCE.findall(page.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', options)
        yield language, title[1] if title else "", text


def shell(text):
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    done = subprocess.run(["bash", "-c", SHELL + text], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.parametrize(
    "page", [pytest.param(p, marks=[pytest.mark.slow] * (p.stem in LONG), id=p.stem) for p in PAGES]
)
def test_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": page.stem}
    with matplotlib.rc_context():
        for language, title, text in blocks(page):
            if title:
                (tmp_path / title).write_text(text, encoding="utf-8")
            elif language == "python":
                exec(compile(text, f"{page.name}", "exec"), names)
            elif language == "bash":
                shell(text)


def test_every_tutorial_has_something_to_run():
    silent = [page.stem for page in PAGES if page.stem != "index" and not list(blocks(page))]
    assert silent == []
