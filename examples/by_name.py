"""A straight line through data, with the parameters by name, a prior that is not flat, and derived values."""

import numpy as np
import scipy.stats

import surrogate

X = np.linspace(0, 1, 20)
Y = 1.5 * X + 0.3 + np.random.default_rng(0).normal(0, 0.2, len(X))


def log_likelihood(slope, offset, log_noise):
    """Log-likelihood, and numbers worth keeping: they become columns of the chain."""
    sd = np.exp(log_noise)
    residual = Y - slope * X - offset
    value = -0.5 * np.sum((residual / sd) ** 2) - len(X) * (log_noise + 0.5 * np.log(2 * np.pi))
    return value, {"zero": -offset / slope if slope else np.nan, "noise": sd}


def main():
    prior = {
        "slope": (-5, 5),
        "offset": scipy.stats.norm(0, 2),
        "log_noise": surrogate.Parameter("log_noise", (-4, 1), label=r"\ln\sigma"),
    }
    result = surrogate.infer(log_likelihood, prior, seed=1)
    print(result.summary())

    noise = result.derived[:, result.derived_names.index("noise")]
    print(f"noise: {np.average(noise, weights=result.weights):.3f}, put in as 0.2")


if __name__ == "__main__":
    main()
