"""What the README shows works: its Python blocks run, its links lead somewhere, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
LINKS = re.findall(r"\]\(([^)#]+)\)", README)
SCRIPTS = sorted(set(re.findall(r"\bscripts/[\w.]+", README)))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_block_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    exec(compile(block, "README.md", "exec"), names)
    assert len(names) > 2  # it has defined or imported something, beside the builtins


@pytest.mark.parametrize("link", LINKS)
def test_link_leads_somewhere(link):
    assert link.startswith("https://") or (ROOT / link).exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_exists(script):
    assert (ROOT / script).exists()
