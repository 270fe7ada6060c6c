"""The page on adding parts: its examples run, and keep the contracts that they inherit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def defined():
    """All names that the examples define, one after the other as a reader would run them."""
    names = {"__name__": "extending"}
    for block in BLOCKS:
        exec(compile(block, "extending.md", "exec"), names)
    return names


TESTS = {name: part for name, part in defined().items() if name.startswith("Test")}
LAWS = [(name, law) for name, part in TESTS.items() for law in dir(part) if law.startswith("test_")]


@pytest.mark.parametrize(("name", "law"), LAWS, ids=[f"{name}-{law}" for name, law in LAWS])
def test_an_example_keeps_its_contract(name, law):
    getattr(TESTS[name](), law)()


def test_every_kind_of_part_has_an_example():
    assert len(TESTS) == len(BLOCKS) == 5
