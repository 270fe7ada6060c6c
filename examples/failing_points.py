"""A code that crashes, gives NaN, or finds its parameters impossible: the run records the reason and continues."""

import math

import surrogate
from surrogate.problem.dataset import FAILED, INFEASIBLE


def log_likelihood(x):
    """A Gaussian whose code cannot go everywhere."""
    a, b = x
    if a + b > 3:
        return -math.inf  # impossible: a legal answer, of posterior zero
    if a < -2.5:
        msg = f"no convergence at a = {a:.3f}"
        raise RuntimeError(msg)
    if b < -2.5:
        return math.nan
    return -0.5 * (a**2 + b**2 + a * b)


def main():
    result = surrogate.infer(log_likelihood, {"a": (-4, 4), "b": (-4, 4)}, seed=1)
    print(result.summary())

    data = result.data
    print(f"{len(data)} evaluations, {sum(data.status == INFEASIBLE)} impossible, {sum(data.status == FAILED)} failed")
    for point, status, reason in zip(data.x, data.status, data.reasons, strict=True):
        if status == FAILED:
            print(point, reason)


if __name__ == "__main__":
    main()
