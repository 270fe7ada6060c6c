"""How many threads the numerical libraries use while a run lasts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One BLAS and torch thread inside, unless the environment asks for more: matrices are small."""
    import torch
    from threadpoolctl import threadpool_limits

    asked = os.environ.get("OMP_NUM_THREADS") or os.environ.get("SLURM_CPUS_PER_TASK") or "1"
    wanted = int(asked.split(",")[0])  # OpenMP takes a number for each level of nesting
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        with threadpool_limits(wanted):
            yield
    finally:
        torch.set_num_threads(before)
