"""A likelihood that returns its gradient: every call is then worth d + 1 numbers, and far fewer are needed.

Codes that are differentiated automatically give the gradient for the price of a few values: with JAX,
``surrogate.infer(jax.value_and_grad(log_likelihood), prior, gradient=True)``.
"""

import numpy as np

import surrogate

D = 8
ROOT = np.linalg.cholesky(0.6 * np.ones((D, D)) + 0.4 * np.eye(D))


def log_likelihood(x):
    """A correlated Gaussian with a bend, and its gradient."""
    bent = x.copy()
    bent[1] += 0.5 * (x[0] ** 2 - 1.0)
    z = np.linalg.solve(ROOT, bent)
    slope = -np.linalg.solve(ROOT.T, z)
    slope[0] += slope[1] * x[0]
    return -0.5 * z @ z, slope


def main():
    bounds = [(-6, 6)] * D
    result = surrogate.infer(log_likelihood, bounds, gradient=True, seed=1, progress=False, n_samples=2000)
    print(f"{result.n_evaluations} calls of the likelihood with gradients, converged: {result.converged}")
    print(f"log evidence {result.log_evidence:.2f} +- {result.log_evidence_error:.2f}")

    # The same for a regression.
    rng = np.random.default_rng(0)
    x, new = rng.uniform(-2, 2, (40, D)), rng.uniform(-2, 2, (500, D))
    y, gradient = np.sin(x).prod(1) + np.cos(x).sum(1), np.empty_like(x)
    for j in range(D):
        others = np.delete(np.sin(x), j, axis=1).prod(1)
        gradient[:, j] = np.cos(x[:, j]) * others - np.sin(x[:, j])
    truth = np.sin(new).prod(1) + np.cos(new).sum(1)
    for name, known in (("with", gradient), ("without", None)):
        regressor = surrogate.GradientGPRegressor().fit(x, y, known)
        error = np.sqrt(np.mean((regressor.predict(new) - truth) ** 2))
        print(f"error of the regression {name} gradients: {error:.3f}")


if __name__ == "__main__":
    main()
