"""A decay curve with an unknown offset: learn the simulator's curve, not its log-likelihood."""

import numpy as np

import surrogate

TIMES = np.linspace(0.0, 4.0, 30)


def simulator(rate, amplitude):
    """The curve at 30 times. Yours takes minutes; this one does not."""
    return amplitude * np.exp(-rate * TIMES)


def main():
    measured = simulator(0.7, 2.0) + 0.1 + 0.05 * np.random.default_rng(1).standard_normal(30)
    data = surrogate.GaussianData(measured, np.full(30, 0.05**2), templates={"offset": np.ones(30)})
    target = surrogate.Observables(simulator, data, slow=["rate", "amplitude"])
    prior = {"rate": (0.1, 2.0), "amplitude": (0.5, 5.0), "offset": (-0.5, 0.5)}
    result = surrogate.infer(target, prior, seed=1)
    print(result.summary())

    # The curve and its error anywhere, and at draws of the posterior.
    curve, error = result.observables(result.mean)
    draws = result.posterior_predictive(100)
    print(f"curve at the end: {curve[-1]:.4f} +- {error[-1]:.1g}; over the posterior +- {draws[:, -1].std():.3f}")

    # The first half of the data and the second half, without a further call: do they agree?
    halves = []
    for used in (slice(0, 15), slice(15, 30)):
        variance = np.full(30, 1e6)
        variance[used] = 0.05**2
        half = surrogate.GaussianData(measured, variance, templates={"offset": np.ones(30)})
        halves.append(result.compare_with(half, n_samples=2000))
    print(surrogate.tension(*halves, result))


if __name__ == "__main__":
    main()
