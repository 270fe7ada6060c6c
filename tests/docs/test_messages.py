"""The page of messages quotes what the package says, and has a place for everything that it raises."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
QUOTES = re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE)
LEAST = 25  # letters of a piece that is looked for: shorter ones are found anywhere


def pieces_of(text):
    """What stands between the values of a message."""
    pieces = sorted(text.split("…"), key=len)
    return [piece for piece in pieces if len(piece) >= LEAST] or pieces[-1:]


@pytest.fixture(scope="module")
def said():
    """All strings of the package, one after the other, with an ellipsis for what is filled in."""
    texts = []
    for path in sorted((ROOT / "surrogate").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_page_has_the_main_messages():
    assert len(QUOTES) > 50
    assert all(any(word in quote for quote in QUOTES) for word in ("budget", "prior", "executor", "label", "row"))


@pytest.mark.parametrize("quote", QUOTES)
def test_a_quoted_message_is_one_of_the_package(quote, said):
    assert [piece for piece in pieces_of(quote) if piece not in said] == []
