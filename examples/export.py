"""Export of a learned log-likelihood: a file of numbers, and a function that takes microseconds a call.

The prior is not in the file. Here the likelihood is sampled with another prior by a Metropolis sampler.
"""

import numpy as np

import surrogate


def log_likelihood(a, b):
    return -0.5 * ((a - 0.3) ** 2 / 0.01 + (b - a**2) ** 2 / 0.04)


def main():
    result = surrogate.infer(log_likelihood, {"a": (-1, 1), "b": (-1, 1)}, seed=1, progress=False)
    print(f"{result.n_evaluations} calls of the likelihood")
    result.export("emulator.npz")

    emulator = surrogate.load_predictor("emulator.npz")
    print(f"parameters {', '.join(emulator.names)}; at (0.3, 0.1): {emulator([0.3, 0.1]):.3f}")

    rng = np.random.default_rng(0)
    x, value, chain = np.array([0.3, 0.1]), -np.inf, []
    for _ in range(20_000):
        new = x + 0.15 * rng.standard_normal(2)
        log_density = emulator(new) - 0.5 * (new[1] / 0.1) ** 2  # with a normal prior on b instead of the box
        if np.log(rng.random()) < log_density - value:
            x, value = new, log_density
        chain.append(x)
    mean, sd = np.mean(chain, axis=0), np.std(chain, axis=0)
    for name, m, s in zip(emulator.names, mean, sd, strict=True):
        print(f"{name} = {m:.3f} +- {s:.3f} with the other prior")


if __name__ == "__main__":
    main()
