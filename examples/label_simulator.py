"""A simulator labels a few of 2000 designs: those that improve a model of it most."""

import numpy as np

import surrogate

RNG = np.random.default_rng(0)
DESIGNS = {
    "length": RNG.uniform(1.0, 3.0, 2000),
    "load": RNG.uniform(0.1, 1.0, 2000),
    "profile": RNG.choice(["round", "square"], 2000),
}
STIFFNESS = {"round": 0.6, "square": 1.0}


def deflection(design):
    """The expensive part: how far a beam bends."""
    return design["load"] * design["length"] ** 3 / STIFFNESS[design["profile"]]


def main():
    run = surrogate.label(DESIGNS, "deflection", oracle=deflection, budget=60, batch_size=20, progress=False)
    print(f"{run.state.n_labels} labels; {run.ending().reason}")
    for stage in run.stages:
        print(f"{stage.n_labels:4d} labels: held-out RMSE {stage.rmse:.4f} +- {stage.rmse_error:.4f}")

    found = run.predict()
    truth = np.array([deflection({name: DESIGNS[name][i] for name in DESIGNS}) for i in range(2000)])
    inside = np.mean((truth >= found.low) & (truth <= found.high))
    print(f"RMSE on all 2000 designs {np.sqrt(np.mean((found.mean - truth) ** 2)):.4f}, {inside:.0%} in their interval")


if __name__ == "__main__":
    main()
