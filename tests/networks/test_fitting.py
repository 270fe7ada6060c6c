"""Which rows networks see, and which judge them."""

import numpy as np
import pytest
import torch

from surrogate.estimators.network import NetworkRegressor
from surrogate.networks.fitting import folds

CPU = torch.device("cpu")


def test_every_row_is_unseen_once_and_seen_otherwise():
    splits = folds(20, 4, 5, 7, CPU)
    unseen = torch.cat([split.unseen for split in splits])
    assert unseen.sort().values.tolist() == list(range(20))
    for split in splits:
        assert sorted(split.seen.tolist() + split.unseen.tolist()) == list(range(20))


def test_equal_rows_are_never_on_both_sides():
    groups = np.r_[np.arange(30), np.arange(10)]
    splits = folds(40, 8, 5, 7, CPU, groups=groups)
    assert len({len(split.seen) for split in splits}) == 1
    for split in splits:
        assert not set(groups[split.seen]) & set(groups[split.unseen])


@pytest.mark.parametrize("validation", ["cross", "folds", "holdout"])
def test_a_network_learns_the_same_from_repeated_rows(validation):
    """Copies neither count twice nor judge their originals: the same networks, and the same error bars."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 2))
    y = x[:, 0] + 0.3 * rng.standard_normal(60)
    once, copies = (NetworkRegressor(hidden=(16,), epochs=20, validation=validation) for _ in range(2))
    once.fit(x, y)
    copies.fit(np.r_[x, x, x[:20]], np.r_[y, y, y[:20]])
    assert copies.n_labels_ == 60
    new = rng.standard_normal((5, 2))
    for one, other in zip(copies.predict(new, return_std=True), once.predict(new, return_std=True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_width_alone_is_refused_with_what_is_meant():
    with pytest.raises(
        TypeError, match=r"hidden must be a sequence of widths, one per layer, such as \(64, 64\), got 64"
    ):
        NetworkRegressor(hidden=64).fit(np.zeros((4, 1)), np.arange(4.0))
