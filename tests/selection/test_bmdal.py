"""Batches equal those of bmdal_reg 3.0.2, stored by make_bmdal_fixtures.py."""

from pathlib import Path

import numpy as np
import pytest
import torch

from surrogate.selection.batch import select_batch
from surrogate.selection.features import DenseFeatures

STORED = np.load(Path(__file__).parent / "fixtures" / "bmdal_reg.npz", allow_pickle=False)
SINGLE = ("maxdist", "fw")  # bmdal_reg keeps float32 there


def case(seed, method=""):
    """The features of make_bmdal_fixtures.case."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2200, 64)) / np.sqrt(1.0 + np.arange(64))
    x += rng.standard_normal((3, 64))[rng.integers(0, 3, len(x))]
    x = torch.as_tensor(x, dtype=torch.float32 if method.startswith(SINGLE) else torch.float64)
    return x[:2000], x[2000:]


def batch(method, seed):
    pool, train = (DenseFeatures(x) for x in case(seed, method))
    return select_batch(pool, 64, train=train, method=method, noise=0.1)


@pytest.mark.parametrize("key", [key for key in STORED if not key.startswith("bait-f-tp")])
def test_the_same_points_in_the_same_order(key):
    method, seed = key.split("/")
    result = batch(method, int(seed))
    assert result.complete
    assert result.indices.tolist() == STORED[key].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_bait_from_labelled_points_takes_the_best_point_of_each_step(seed):
    """bmdal_reg adds the labelled points one by one and loses digits: near-ties may come in another order."""
    chosen, theirs = batch("bait-f-tp", seed).indices.tolist(), STORED[f"bait-f-tp/{seed}"].tolist()
    assert set(chosen) == set(theirs)
    pool, train = case(seed)
    moment = pool.T @ pool + train.T @ train
    for k in [k for k, (a, b) in enumerate(zip(chosen, theirs, strict=True)) if a != b][:1]:
        known = torch.cat([train, pool[chosen[:k]]])
        m = 0.01 * torch.linalg.inv(known.T @ known + 0.01 * torch.eye(64, dtype=torch.float64))
        ours, other = ((h := m @ pool[i]) @ moment @ h / (h @ pool[i] + 0.01) for i in (chosen[k], theirs[k]))
        assert ours > other
