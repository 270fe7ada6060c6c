import numpy as np
import pytest
import torch

from surrogate.linalg.composed import Scaled
from surrogate.linalg.operators import DenseOperator, FeatureOperator
from surrogate.selection.selection import max_det


def features(n=40, p=8, seed=0):
    return torch.randn(n, p, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [1, 3, 8])
def test_features_and_their_kernel_choose_the_same(n):
    f = features()
    assert torch.equal(max_det(FeatureOperator(f), n), max_det(DenseOperator(f @ f.T), n))


@pytest.mark.parametrize("n", [1, 3, 6])
def test_each_point_has_the_largest_determinant_with_those_before(n):
    f = features(20)
    k = f @ f.T
    chosen = max_det(DenseOperator(k), n).tolist()
    for i in range(n):
        options = [
            torch.linalg.det(k[s][:, s]) if j not in chosen[:i] else -1.0 for j in range(20) for s in [[*chosen[:i], j]]
        ]
        assert int(np.argmax([float(o) for o in options])) == chosen[i]


def test_a_larger_batch_begins_with_the_smaller():
    gram = FeatureOperator(features())
    assert max_det(gram, 7)[:4].tolist() == max_det(gram, 4).tolist()


def test_indices_are_distinct_integers():
    chosen = max_det(FeatureOperator(features()), 8)
    assert chosen.dtype == torch.int64
    assert len(set(chosen.tolist())) == 8


def test_twins_are_not_both_chosen():
    f = torch.cat([features(5), features(5)])
    assert len({i % 5 for i in max_det(FeatureOperator(f), 5).tolist()}) == 5


def test_weights_draw_the_choice():
    """A candidate with a vanishing weight comes last, one with a great weight first."""
    f, weights = features(10), torch.ones(10, dtype=torch.float64)
    weights[3], weights[7] = 100.0, 1e-6
    chosen = max_det(Scaled(FeatureOperator(f), weights), 7).tolist()
    assert chosen[0] == 3
    assert 7 not in chosen


def test_fewer_come_back_when_the_rank_is_exhausted():
    assert len(max_det(FeatureOperator(features(30, 4)), 10)) == 4


@pytest.mark.parametrize("n", [0, 41])
def test_numbers_that_are_not_there_are_refused(n):
    with pytest.raises(ValueError, match=rf"rank must be in 1\.\.40, got {n}"):
        max_det(FeatureOperator(features()), n)
