"""The same program with and without mpirun: python mpi.py, or mpirun -n 16 python mpi.py."""

import os

import surrogate


def log_likelihood(a, b):
    """Stands for a code that takes minutes."""
    return -((a - 1) ** 2) - 10 * (b - a**2 / 4) ** 2


def main():
    # All ranks come here; under mpirun they evaluate, and all of them get the result.
    result = surrogate.infer(log_likelihood, {"a": (-4, 4), "b": (-3, 5)}, output="runs/mpi", seed=1)
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
        print(result.summary())


if __name__ == "__main__":
    main()
