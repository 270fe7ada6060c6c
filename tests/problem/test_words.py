"""What was meant by a misspelt word."""

import pytest

from surrogate.problem.words import did_you_mean


@pytest.mark.parametrize(
    ("word", "cutoff", "end"),
    [
        ("prise", 0.6, "; did you mean 'Price'?"),
        ("PRICE", 0.6, "; did you mean 'Price'?"),
        ("seat", 0.6, "; did you mean 'seats'?"),
        ("weight", 0.6, "; there are two"),
        ("prise", 0.9, "; there are two"),  # ratio 0.8
    ],
)
def test_the_nearest_word(word, cutoff, end):
    assert did_you_mean(word, ["Price", "seats"], cutoff=cutoff, otherwise="; there are two") == end


def test_no_words():
    assert did_you_mean("a", []) == ""
