"""Dark energy from DESI DR2 distances, chronometers and nucleosynthesis, with a folder from which a run continues.

Run it, kill it, run it again: it continues where it was.
"""

import sys

import surrogate
from likelihoods.desi import desi_w0wacdm


def main(folder="runs/desi"):
    target = desi_w0wacdm()
    parameters = [
        surrogate.Parameter(name, bounds, label)
        for name, bounds, label in zip(target.names, target.bounds, target.labels, strict=True)
    ]
    result = surrogate.infer(target.log_likelihood, parameters, output=folder, seed=1)

    print(result.summary())
    print(f"{result.n_evaluations} calls of the likelihood; {result.status}")
    low, high = result.interval(0.95)[target.names.index("w0")]
    print(f"w0 is in {low:.2f} .. {high:.2f} at 95 %")
    result.plot(f"{folder}/corner.png")
    result.report(f"{folder}/report.html")


if __name__ == "__main__":
    main(*sys.argv[1:])
