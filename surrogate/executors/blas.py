"""The number of threads that numerical libraries use during a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context with one BLAS and torch thread, unless the environment sets more, because matrices are small."""
    import torch
    from threadpoolctl import threadpool_limits

    asked = os.environ.get("OMP_NUM_THREADS") or os.environ.get("SLURM_CPUS_PER_TASK") or "1"
    wanted = int(asked.split(",")[0])  # OpenMP allows a number for each level of nesting
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        with threadpool_limits(wanted):
            yield
    finally:
        torch.set_num_threads(before)
