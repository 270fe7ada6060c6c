"""Times the marginal likelihood with gradient, and the mean at 1 and 100 points, beside scikit-learn's.

    python scripts/bench_gp.py [--points 1000] [--dimensions 8]
    python scripts/bench_gp.py FOLDER [...]         # the regressors side by side: as scripts/bench_regression.py

One thread, CPU seconds, the fastest of several repetitions of each, in one process.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from threadpoolctl import threadpool_limits

from surrogate.gp.means import Polynomial
from surrogate.gp.process import Data
from surrogate.gp.trended import Hyperparameters, Trended
from surrogate.log_density.coordinates.warps import InputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.feasibility.protocol import Everywhere
from surrogate.log_density.model import ScalarLogDensity
from surrogate.log_density.parameters import Structure, SurrogateParameters
from surrogate.log_density.predictor import Predictor
from surrogate.log_density.trust_region import TrustRegion


def fastest(function, repetitions: int, rounds: int = 9) -> float:
    function()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(repetitions):
            function()
        times.append((time.process_time() - start) / repetitions)
    return min(times)


def exported(gp, hyper, trend) -> Predictor:
    """The predictor of a surrogate with this process: no warps, all feasible, whitened coordinates as parameters."""
    d = gp.u.shape[1]
    structure = Structure("rbf", trend, 0.0, InputWarp.identity(np.zeros(d), np.ones(d)))
    whitening = Whitening(np.zeros(d), np.eye(d), np.eye(d))
    parameters = SurrogateParameters(hyper, whitening, structure, 1.0, len(gp.u))
    region = TrustRegion(np.full(d, -10.0), np.full(d, 10.0))
    model = ScalarLogDensity(parameters, Everywhere(), 0.0, np.empty((0, d)), gp, region)
    names = tuple(f"x{j}" for j in range(d))
    return Predictor.of(model, names, np.tile([-10.0, 10.0], (d, 1)), np.zeros(d), np.ones(d))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--dimensions", type=int, default=8)
    options = parser.parse_args()
    n, d = options.points, options.dimensions
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((n, d)), rng.standard_normal((100, d))
    y = -(x**2).sum(1) + np.sin(x[:, 0])
    hyper = Hyperparameters.default(d)
    theirs = GaussianProcessRegressor(ConstantKernel() * RBF([2.0] * d) + WhiteKernel(1e-4), optimizer=None).fit(x, y)
    theta = theirs.kernel_.theta
    print("| trend | quantity | surrogate | scikit-learn | ratio |\n|---|---|---|---|---|")
    for trend in ("quadratic", "constant"):
        recipe, data = Trended("rbf", Polynomial(trend)), Data.of(x, y)
        model = recipe.condition(data, hyper)
        predictor = exported(model, hyper, trend)
        single = predictor.single
        rows = {
            "marginal likelihood and gradient": (
                fastest(lambda r=recipe, t=data: r.negative_log_evidence(t, hyper.vector()), 3),
                fastest(lambda: theirs.log_marginal_likelihood(theta, eval_gradient=True), 1, 5),
            ),
            "mean at 100 points": (fastest(lambda m=model: m.mean(new), 100), fastest(lambda: theirs.predict(new), 30)),
            "mean at 100 points, `Predictor`": (
                fastest(lambda p=predictor: p.log_likelihood(new), 100),
                fastest(lambda: theirs.predict(new), 30),
            ),
            "mean at 1 point, `Predictor`": (
                fastest(lambda f=single: f(new[0]), 2000),
                fastest(lambda: theirs.predict(new[:1]), 200),
            ),
        }
        for name, (ours, other) in rows.items():
            print(f"| {trend} | {name} | {1e3 * ours:.4f} ms | {1e3 * other:.4f} ms | {other / ours:.1f} |")


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        import bench_regression

        sys.exit(bench_regression.main())
    torch.set_num_threads(1)
    with threadpool_limits(1):
        main()
