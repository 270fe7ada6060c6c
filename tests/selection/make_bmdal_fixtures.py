"""Batches that bmdal_reg 3.0.2 chooses from random features, as numbers for test_bmdal.py.

bmdal_reg does not run beside this package's dependencies: give it an environment of its own, with torch as here, and
with its interpreter run

    python tests/selection/make_bmdal_fixtures.py

Features are drawn by numpy from the seed of the case, so only the chosen indices are stored.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

np.Inf, np.int = np.inf, int  # bmdal_reg was written for numpy 1

import torch  # noqa: E402
from bmdal_reg.bmdal import selection as peer  # noqa: E402
from bmdal_reg.bmdal.feature_data import TensorFeatureData  # noqa: E402
from bmdal_reg.bmdal.feature_maps import IdentityFeatureMap  # noqa: E402
from bmdal_reg.bmdal.features import Features  # noqa: E402

N_POOL, N_TRAIN, P, BATCH = 2000, 200, 64, 64
METHODS = {
    "lcmd-tp": (peer.LargestClusterMaxDistSelectionMethod, {"sel_with_train": True}),
    "lcmd-p": (peer.LargestClusterMaxDistSelectionMethod, {"sel_with_train": False}),
    "maxdist-tp": (peer.MaxDistSelectionMethod, {"sel_with_train": True}),
    "maxdist-p": (peer.MaxDistSelectionMethod, {"sel_with_train": False}),
    "maxdet-tp": (peer.MaxDetSelectionMethod, {"sel_with_train": True, "noise_sigma": 0.1}),
    "maxdet-p": (peer.MaxDetSelectionMethod, {"sel_with_train": False, "noise_sigma": 0.1}),
    "bait-f-tp": (peer.BaitFeatureSpaceSelectionMethod, {"sel_with_train": True, "noise_sigma": 0.1}),
    "bait-f-p": (peer.BaitFeatureSpaceSelectionMethod, {"sel_with_train": False, "noise_sigma": 0.1}),
    "bait-fb-p": (
        peer.BaitFeatureSpaceSelectionMethod,
        {"sel_with_train": False, "noise_sigma": 0.1, "overselection_factor": 2.0},
    ),
    "fw-p": (peer.FrankWolfeSelectionMethod, {"sel_with_train": False}),
    "fw-tp": (peer.FrankWolfeSelectionMethod, {"sel_with_train": True}),
}


def case(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of the pool and of the labelled points: three clumps, with variances that fall along the axes."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N_POOL + N_TRAIN, P)) / np.sqrt(1.0 + np.arange(P))
    x += rng.standard_normal((3, P))[rng.integers(0, 3, len(x))]
    return torch.as_tensor(x[:N_POOL]), torch.as_tensor(x[N_POOL:])


def chosen(method: str, pool: torch.Tensor, train: torch.Tensor) -> np.ndarray:
    make, options = METHODS[method]
    if method.startswith("maxdist"):  # it keeps float32 distances whatever the features are
        pool, train = pool.float(), train.float()
    if method.startswith("fw"):
        pool, train = pool.float(), train.float()
    features = [Features(IdentityFeatureMap(n_features=P), TensorFeatureData(x)) for x in (pool, train)]
    rule = make(features[0].precompute(), features[1].precompute(), verbosity=0, **options)
    indices = rule.select(BATCH)
    if rule.get_status() is not None:
        msg = f"{method}: {rule.get_status()}"
        raise RuntimeError(msg)
    return indices.numpy().astype(np.int16)


def main() -> None:
    out = {f"{method}/{seed}": chosen(method, *case(seed)) for method in METHODS for seed in range(5)}
    path = Path(__file__).parent / "fixtures" / "bmdal_reg.npz"
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **out)
    print(f"{path}: {len(out)} batches, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
