"""A decay with a background, with the parameters by name, a prior that is not flat, and derived values."""

import numpy as np
import scipy.stats

import surrogate

TIME = np.linspace(0, 4, 25)
SD = 0.1
COUNTS = 2.0 * np.exp(-0.9 * TIME) + 0.3 + np.random.default_rng(0).normal(0, SD, len(TIME))


def log_likelihood(amplitude, rate, background):
    """Log-likelihood, and numbers worth keeping: they become columns of the chain."""
    residual = COUNTS - amplitude * np.exp(-rate * TIME) - background
    return -0.5 * np.sum((residual / SD) ** 2), {"half_life": np.log(2) / rate}


def main():
    prior = {
        "amplitude": (0, 5),
        "rate": surrogate.Parameter("rate", (0.1, 5), label=r"\lambda"),
        "background": scipy.stats.norm(0, 1),
    }
    result = surrogate.infer(log_likelihood, prior, seed=1)
    print(result.summary())

    half_life = result.derived[:, result.derived_names.index("half_life")]
    print(f"half-life {np.average(half_life, weights=result.weights):.3f}, put in as {np.log(2) / 0.9:.3f}")


if __name__ == "__main__":
    main()
