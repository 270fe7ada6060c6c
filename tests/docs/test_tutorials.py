"""The tutorials and the first page run from top to bottom as a reader would run them, warnings being errors.

A fenced block with a title is written to a file of that name; Python is run in one session a page. Of a shell's lines,
commands of the package, programs of the page and ``cobaya-run`` are run in this process, which loads torch once. A
shell runs the others, and programs that start processes of their own. Blocks without a language, and those of languages
that are not run, are what a program printed.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

import surrogate
from surrogate.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([DOCS / "start.md", DOCS / "mixed_runs.md", DOCS / "mixed.md", *(DOCS / "tutorials").glob("*.md")])
LONG = {"cluster", "cobaya", "compare", "mixed_runs", "nuisance", "ode", "regression"}  # run with -m slow
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


def run_line(line, monkeypatch):
    """A line of a shell, in this process if it can be."""
    words = shlex.split(line, comments=True)
    words, file = (words[:-2], words[-1]) if ">" in words[-2:] else (words, os.devnull)
    if words[0] == "surrogate":
        with open(file, "w", encoding="utf-8") as out, contextlib.redirect_stdout(out):
            assert main(words[1:]) == 0
    elif words[0] == "cobaya-run":
        importlib.import_module("cobaya.run").run_script(words[1:])
    elif words[0] == "python" and "processes:" not in " ".join([line, Path(words[1]).read_text(encoding="utf-8")]):
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
    else:
        shell(line)


def short(infer):
    """The function of runs with a small budget, for all that a page shows but the last numbers."""
    return lambda *arguments, **options: infer(*arguments, **options | {"max_evaluations": 12, "n_samples": 300})


def in_threads(text):
    """The program with threads in the place of processes, each of which would load everything anew."""
    return text.replace('"processes:', '"threads:')


@pytest.mark.parametrize(
    ("page", "processes"),
    [
        *(pytest.param(p, False, marks=[pytest.mark.slow] * (p.stem in LONG), id=p.stem) for p in PAGES),
        pytest.param(DOCS / "start.md", True, marks=pytest.mark.slow, id="start with processes and reports"),
    ],
)
def test_page_runs(page, processes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if page.stem == "start" and not processes:
        monkeypatch.setattr("surrogate.output.report.report_html", lambda *_, **__: "")  # pictures take seconds
        monkeypatch.setattr(surrogate, "infer", short(surrogate.infer))
    monkeypatch.syspath_prepend(str(tmp_path))
    names = {"__name__": page.stem}
    with matplotlib.rc_context():
        for language, title, text in blocks(page):
            if title:
                (tmp_path / title).write_text(text if processes else in_threads(text), encoding="utf-8")
            elif language == "python":
                exec(compile(text, f"{page.name}", "exec"), names)
            elif language == "bash":
                for line in text.splitlines():
                    run_line(line, monkeypatch)


def test_every_tutorial_has_something_to_run():
    silent = [page.stem for page in PAGES if page.stem != "index" and not list(blocks(page))]
    assert silent == []
