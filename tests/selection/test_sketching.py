"""Random projections: unbiased, isometric where they can be, and no worse than normal numbers."""

import pytest
import torch

from surrogate.selection.composed import ProductFeatures, SumFeatures, WeightedFeatures
from surrogate.selection.features import DenseFeatures
from surrogate.selection.gradients import FactoredFeatures
from surrogate.selection.sketching import ProductSketch, Projection


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def factored(widths, n=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda w: torch.randn(n, w, dtype=torch.float64, generator=generator)  # noqa: E731
    return FactoredFeatures(tuple((draw(a), draw(b)) for a, b in widths))


CASES = {
    "dense": DenseFeatures(normal(7, 40)),
    "dense, rotated": DenseFeatures(normal(7, 101)),
    "products": factored([(5, 4), (9, 3)]),
    "products, rotated": factored([(5, 96), (97, 70), (97, 1)]),
    "columns": factored([(1, 1), (6, 1), (1, 80)]),
    "sum": SumFeatures((DenseFeatures(normal(7, 40)), factored([(65, 3)]))),
    "product": ProductFeatures(DenseFeatures(normal(7, 4)), DenseFeatures(normal(7, 80, seed=1))),
    "weighted": WeightedFeatures(DenseFeatures(normal(7, 40)), normal(7, seed=2).abs()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("p", [pytest.param(64, marks=pytest.mark.slow), 24])
def test_sketches_are_unbiased(name, p):
    """Mean inner products of 300 sketches within 4.5 standard errors of the kernel in each of 49 entries."""
    features, generator = CASES[name], torch.Generator().manual_seed(11)
    exact = features.gram(features)
    grams = []
    for _ in range(300):
        z = features.projector(p, generator)(features)
        assert z.shape == (7, p)
        grams.append(z @ z.T)
    stack = torch.stack(grams)
    error = (stack.mean(0) - exact).abs()
    assert bool((error <= 4.5 * stack.std(0) / 300**0.5 + 1e-9 * exact.abs().max()).all())


def test_the_mean_of_many_entries_is_within_three_standard_errors():
    """Over all entries of the gradient kernel at once, where no allowance for many comparisons is needed."""
    features, generator = factored([(21, 64), (65, 64), (65, 1)], n=30), torch.Generator().manual_seed(5)
    exact = features.gram(features)
    ratios = torch.tensor(
        [float(((z := features.projector(64, generator)(features)) @ z.T).sum() / exact.sum()) for _ in range(64)]
    )
    assert abs(float(ratios.mean()) - 1.0) < 3.0 * float(ratios.std()) / 8.0


@pytest.mark.parametrize("width", [64, 65, 95])
def test_the_first_blocks_are_mapped_without_loss(width):
    """As many outputs as inputs: inner products stay as they are."""
    project = Projection.draw(width, 64, 2, normal(1), torch.Generator().manual_seed(0))
    x = normal(5, width)
    x[:, 64:] = 0.0
    y = project(x).transpose(0, 1).reshape(5, 64) / 8.0
    torch.testing.assert_close(y @ y.T, x @ x.T)


def test_many_rows_are_the_rows_one_by_one():
    features = factored([(70, 64), (65, 1)], n=2100)
    sketch = ProductSketch.draw([(70, 64), (65, 1)], 64, features.rows, torch.Generator().manual_seed(1))
    whole = sketch(features.factors)
    few = sketch([(u[2000:2003], v[2000:2003]) for u, v in features.factors])
    torch.testing.assert_close(whole[2000:2003], few)


def test_rotations_err_less_than_normal_numbers(monkeypatch):
    """Relative error of the Gram matrix of products of 128 by 128, mean of 20 sketches each."""
    features = factored([(129, 128), (129, 1)], n=60)
    exact = features.gram(features)

    def error():
        generator = torch.Generator().manual_seed(2)
        sketches = [features.projector(128, generator)(features) for _ in range(20)]
        return sum(float((z @ z.T - exact).norm() / exact.norm()) for z in sketches) / 20

    rotated = error()
    monkeypatch.setattr(Projection, "suits", staticmethod(lambda width, p: False))
    assert rotated < error()
