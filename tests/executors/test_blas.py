"""How many threads a run uses."""

import pytest
import torch
from threadpoolctl import threadpool_info

from surrogate.executors.blas import one_thread


@pytest.mark.parametrize(
    ("variables", "number"),
    [
        ({}, 1),
        ({"OMP_NUM_THREADS": "2"}, 2),
        ({"OMP_NUM_THREADS": "2,1"}, 2),
        ({"SLURM_CPUS_PER_TASK": "2"}, 2),
        ({"OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "2"}, 1),
    ],
)
def test_one_unless_the_environment_asks_for_more(monkeypatch, variables, number):
    for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == number
        assert all(library["num_threads"] <= number for library in threadpool_info())
    assert torch.get_num_threads() == before
