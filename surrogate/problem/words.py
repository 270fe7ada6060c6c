"""Suggestions for misspelt words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(word: str, known: Iterable[str], *, cutoff: float = 0.6, otherwise: str = "") -> str:
    """The end of an error message, "; did you mean 'x'?", with the most similar known word.

    Case is ignored.

    Args:
        word: Word that was given.
        known: Words that are allowed.
        cutoff: Smallest similarity, from 0 to 1, as the ratio of ``difflib.SequenceMatcher``.
        otherwise: Returned if no known word is similar enough.
    """
    by_small_letters = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(word.lower(), by_small_letters, n=1, cutoff=cutoff)
    return f"; did you mean {by_small_letters[close[0]]!r}?" if close else otherwise
