"""Candidates of a labelling run."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.labelling.candidates import candidates, random_count


def test_all_free_rows_in_order(rng):
    free = rng.random(100) < 0.5
    assert candidates(free, rng).tolist() == np.flatnonzero(free).tolist()


def test_large_tables_are_thinned(rng):
    free = np.arange(1000) % 2 == 0
    rows = candidates(free, rng, most=100)
    assert len(set(rows.tolist())) == 100
    assert (rows % 2 == 0).all()
    assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_random_count_has_the_right_mean(rng, share):
    """Counts are 6.4 rounded down or up: the mean of 4000 within 5 standard errors."""
    counts = [random_count(64, share, rng) for _ in range(4000)]
    assert set(counts) <= {int(64 * share), int(np.ceil(64 * share))}
    assert abs(np.mean(counts) - 64 * share) <= 5 * 0.5 / np.sqrt(4000)
