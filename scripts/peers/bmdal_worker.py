"""One batch by bmdal_reg, timed; run by ../bench_selection.py with the interpreter of an environment that has it."""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings

import numpy as np

np.Inf, np.int = np.inf, int  # bmdal_reg was written for numpy 1

import torch  # noqa: E402
from bmdal_reg.bmdal.algorithms import select_batch  # noqa: E402
from bmdal_reg.bmdal.feature_data import TensorFeatureData  # noqa: E402
from torch import nn  # noqa: E402

METHODS = {
    "lcmd-tp": ("lcmd", False, {"sel_with_train": True}),
    "maxdist-tp": ("maxdist", False, {"sel_with_train": True}),
    "maxdet-p": ("maxdet", True, {"sel_with_train": False, "maxdet_sigma": 1e-3, "allow_float64": True}),
    "bait-f-p": ("bait", True, {"sel_with_train": False, "bait_sigma": 1e-3, "allow_float64": True}),
}


def problem(n_pool: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """As in bench_selection.py: a 512-512 ReLU network of 20 inputs, a pool and 1000 labelled points."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(20, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
    return net, torch.randn(n_pool, 20), torch.randn(1000, 20)


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    method, n_pool, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    net, pool, train = problem(n_pool)
    rule, posterior, options = METHODS[method]
    transforms = [("sketch", [512]), *([("train", [1e-3, None])] if posterior else [])]
    data = {"train": TensorFeatureData(train), "pool": TensorFeatureData(pool)}
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    indices, report = select_batch(batch, [net], data, None, "grad", transforms, rule, verbosity=0, **options)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    features = report["kernel_time"]["process"]
    print(
        json.dumps(
            {
                "features": features,
                "selection": seconds - features,
                "megabytes": peak / 1024,
                "chosen": len(set(indices.tolist())),
            }
        )
    )


if __name__ == "__main__":
    main()
