import pytest

from surrogate.inference.labels import hole_error


def test_the_error_from_an_unseen_hole_falls_with_the_labels():
    assert hole_error(9) == pytest.approx(0.1)
