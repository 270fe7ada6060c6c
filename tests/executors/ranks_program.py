"""Evaluations on the ranks of mpirun, without a run: each rank prints one line of JSON. It loads no torch."""

import json

from surrogate.executors.interruption import StopRequest
from surrogate.executors.mpi import Ranks
from tests.executors import functions_for_workers as functions


def main():
    ranks = Ranks()

    def lead(executor):
        futures = [executor.submit(functions.quadratic, [float(i)]) for i in range(8)]
        return [future.result(300) for future in futures]

    def fail(executor):
        raise ValueError(executor.workers)

    with StopRequest() as stop:
        values = ranks.run(functions.quadratic, lead, stop)
        try:
            error = ranks.run(functions.quadratic, fail, stop)
        except ValueError as raised:
            error = str(raised)
    told = ranks.broadcast(f"rank {ranks.rank}")
    print(json.dumps({"rank": ranks.rank, "values": values, "error": error, "told": told}), flush=True)


if __name__ == "__main__":
    main()
