"""A banana-shaped posterior: define a likelihood and a prior, run the inference, and look at the result."""

import numpy as np

import surrogate


def log_likelihood(x):
    """Natural logarithm of the likelihood at x, with shape (2,). Yours takes minutes; this one does not."""
    return -0.5 * (((x[0] - 0.5) / 0.7) ** 2 + ((x[1] - x[0] ** 2) / 0.4) ** 2)


def main():
    result = surrogate.infer(log_likelihood, {"a": (-3, 3), "b": (-2, 6)}, seed=1)

    print(result.summary())
    print("why it stopped:", result.status)
    print(f"log-evidence {result.log_evidence:.3f} +- {result.log_evidence_error:.3f}")

    # The samples have weights. Any mean over the posterior is a weighted mean:
    product = np.average(result.samples[:, 0] * result.samples[:, 1], weights=result.weights)
    print(f"mean of a b: {product:.3f}")

    # The emulator, for later use: mean and sd of the log-posterior at two points.
    mean, sd = result.predict(np.array([[0.5, 0.25], [0.0, 0.5]]))
    print("log-posterior:", mean, "+-", sd)

    result.plot("corner.png")
    print("corner.png")


if __name__ == "__main__":
    main()
