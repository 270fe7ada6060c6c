"""Any executor that one has already: here dask, whose scheduler may stand for a whole cluster."""

from dask.distributed import Client, LocalCluster

import surrogate


def log_likelihood(a, b):
    """Stands for a code that takes minutes; workers import it from this file."""
    return -((a - 1) ** 2) - 10 * (b - a**2 / 4) ** 2


def main():
    # On a cluster: Client(SLURMCluster(...)), of dask-jobqueue.
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        result = surrogate.infer(
            log_likelihood, {"a": (-4, 4), "b": (-3, 5)}, executor=client.get_executor(), seed=1, progress=False
        )
    print(result.summary())


if __name__ == "__main__":
    main()
