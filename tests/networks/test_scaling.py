import numpy as np
import torch

from surrogate.networks.scaling import InputScaling


def test_columns_are_standardised_over_all_tables(rng):
    a, b = rng.normal(3, 2, (50, 4)), rng.normal(-1, 5, (80, 4))
    scaling, both = InputScaling.of(a, b), np.concatenate([a, b])
    np.testing.assert_allclose(scaling.mean, both.mean(0), rtol=1e-12)
    np.testing.assert_allclose(scaling.scale, both.std(0), rtol=1e-12)
    np.testing.assert_allclose(scaling(a), 5 * np.tanh((a - both.mean(0)) / both.std(0) / 5), rtol=1e-12)


def test_outliers_are_bounded_and_the_middle_is_linear(rng):
    x = rng.normal(size=(100, 1))
    scaling = InputScaling.of(x)
    assert np.abs(scaling(1e9 * x)).max() <= 5
    small = 1e-3 * x + scaling.mean
    np.testing.assert_allclose(scaling(small), (small - scaling.mean) / scaling.scale, rtol=1e-6)


def test_constant_columns_are_zero():
    x = np.column_stack([np.full(9, 0.1), np.zeros(9), np.full(9, 1e12), np.arange(9.0)])
    scaled = InputScaling.of(x)(x)
    np.testing.assert_allclose(scaled[:, :3], 0.0, atol=1e-3)
    np.testing.assert_allclose(InputScaling.of(x).scale[:3], 1.0)


def test_tensor_is_single_precision(rng):
    x = rng.normal(size=(10, 2))
    tensor = InputScaling.of(x).tensor(x, torch.device("cpu"))
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor, InputScaling.of(x)(x), rtol=1e-6)
