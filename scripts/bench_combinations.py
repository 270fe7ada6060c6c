#!/usr/bin/env python
"""All combinations of several data sets from the evaluations of one run, beside a run for each combination.

    scripts/bench_combinations.py [--supernovae FOLDER] [--separate] [--seeds 1]
    scripts/bench_combinations.py --planck PACKAGES [--separate] [--seeds 1]

The simulator is the background of flat w0waCDM (`likelihoods.desi`). The data sets are the distances of DESI DR2, the
cosmic chronometers, and supernovae: those of Union3 if FOLDER holds its files (lcparam_full.txt and mag_covmat.txt of
github.com/CobayaSampler/sn_data), or else as many of a mock. Their absolute magnitude is a template, integrated out.

The first run has all data. Each of the other combinations then follows by `compare_with`, with further calls where the
surrogate is unsure, and each starts from all calls so far. Exact evidences are those of importance sampling with the
exact likelihoods.

With --planck the simulator is CAMB in Cobaya, and the data sets are Planck's plik_lite, DESI DR2 and Union3, in base
LambdaCDM with massless neutrinos. PACKAGES is the folder of cobaya-install for them. The priors of the baryon density
and of the optical depth are those of nucleosynthesis and of the large-scale polarisation. A run of its own without
plik_lite has the three parameters on which distances depend. There are no exact evidences.
"""

from __future__ import annotations

import argparse
import sys
import time
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy import stats

import surrogate
from likelihoods import desi
from likelihoods.target import Array

Names = tuple[str, ...]

HEADER = (
    "| data | calls so far | sure | log Z - exact | error | divergence | calls of its own run | its log Z - exact |\n"
    "|---|---|---|---|---|---|---|---|"
)
PRIOR = {
    "H0": (20.0, 100.0),
    "Omega_m": (0.01, 0.99),
    "w0": (-3.0, 1.0),
    "wa": (-3.0, 2.0),
    "omega_b": stats.norm(desi.OMEGA_B_BBN, desi.OMEGA_B_BBN_SD),
}
MAGNITUDE = stats.norm(0.0, 1.0)  # prior of the supernovae's absolute magnitude, relative to a first guess
_MOCK = np.linspace(0.05, 1.4, 22)  # redshifts of mock supernovae ...
_MOCK_TRUTH = {"H0": 68.0, "Omega_m": 0.31, "w0": -0.9, "wa": -0.3, "omega_b": 0.0222}
_REFINE = 60  # most calls for one combination
_DRAWS = 40_000  # of the exact importance sampling

PLANCK = {
    "plik": "planck_2018_highl_plik.TTTEEE_lite_native",
    "bao": "bao.desi_dr2.desi_bao_all",
    "sn": "sn.union3",
}
_PARAMETERS = {
    "H0": {"prior": {"min": 40, "max": 100}, "ref": [67.5, 0.6]},
    "ombh2": {
        "prior": {"dist": "norm", "loc": desi.OMEGA_B_BBN, "scale": desi.OMEGA_B_BBN_SD},
        "ref": [0.0224, 0.0001],
    },
    "omch2": {"prior": {"min": 0.01, "max": 0.3}, "ref": [0.12, 0.001]},
    "tau": {"prior": {"dist": "norm", "loc": 0.0544, "scale": 0.0073}, "ref": [0.055, 0.006]},
    "logA": {"prior": {"min": 1.61, "max": 3.91}, "ref": [3.05, 0.001], "drop": True},
    "ns": {"prior": {"min": 0.8, "max": 1.2}, "ref": [0.965, 0.004]},
}
_OF_SPECTRA = {"tau": 0.055, "logA": 3.05, "ns": 0.965}  # fixed where there are distances alone
_PLANCK_HEADER = "| data | calls so far | sure | log Z | error | CPU s so far |\n|---|---|---|---|---|---|"


class Data:
    """The data sets, the simulator of what they measure, and exact likelihoods."""

    def __init__(self, supernovae: Path | None = None) -> None:
        self.z, magnitudes, covariance = mock_supernovae() if supernovae is None else union3(supernovae)
        _, rates, sds = desi.CHRONOMETERS.T
        self.y = {"bao": desi.BAO_DISTANCES, "rates": rates, "sn": magnitudes}
        self.covariance = {"bao": desi.BAO_COVARIANCE, "rates": sds**2, "sn": covariance}

    def outputs(self, x: Array) -> dict[str, Array]:
        """What the data measure, for points with shape (m, 5)."""
        background = desi.Background(*x[:, :4].T)
        omega_bc = x[:, 1] * (x[:, 0] / 100.0) ** 2 - desi.OMEGA_NEUTRINO
        far = background.comoving_distance(self.z) * (1.0 + self.z)
        return {
            "bao": desi.bao_distances(background, desi.sound_horizon(x[:, 4], omega_bc)),
            "rates": background.rate(desi.CHRONOMETERS[:, 0]),
            "sn": 5.0 * np.log10(far) + 25.0,
        }

    @staticmethod
    def possible(x: Array) -> Array:
        """Whether there is such a universe, with shape (m,): see `likelihoods.desi.observables`."""
        omega_bc = x[:, 1] * (x[:, 0] / 100.0) ** 2 - desi.OMEGA_NEUTRINO
        return (x[:, 2] + x[:, 3] < 0.0) & (omega_bc >= x[:, 4]) & (x[:, 4] > 0.0)

    def simulate(self, x: Array) -> Any:
        """The simulator."""
        if not self.possible(x[None])[0]:
            return -np.inf
        return {name: values[0] for name, values in self.outputs(x[None]).items()}

    def compare(self, names: Names) -> surrogate.GaussianData:
        """The comparison with some of the data sets."""
        magnitude = {"magnitude": {"sn": np.ones(len(self.z))}} if "sn" in names else {}
        y = {name: self.y[name] for name in names}
        return surrogate.GaussianData(y, {name: self.covariance[name] for name in names}, templates=magnitude)

    @staticmethod
    def prior(names: Names) -> dict[str, Any]:
        """The prior of a combination."""
        return PRIOR | ({"magnitude": MAGNITUDE} if "sn" in names else {})

    def log_posterior(self, names: Names, x: Array) -> Array:
        """Exact log-likelihood plus log prior of the five parameters, with the magnitude integrated out."""
        from surrogate.problem.prior import Prior

        data = self.compare(names)
        if "sn" in names:
            data = data.integrated({"magnitude": (0.0, 1.0)})
        value = Prior.of(PRIOR).log_density(x)
        ok = np.isfinite(value) & self.possible(x)
        with np.errstate(over="ignore", invalid="ignore"):
            value[ok] += data(self.outputs(x[ok]), {})
        return np.where(ok & ~np.isnan(value), value, -np.inf)


def union3(folder: Path) -> tuple[Array, Array, Array]:
    """Redshifts, magnitudes and covariance of Union3 (Rubin et al. 2023, arXiv:2311.12098)."""
    table = np.loadtxt(folder / "lcparam_full.txt", usecols=(1, 4))
    covariance = np.loadtxt(folder / "mag_covmat.txt", skiprows=1).reshape(len(table), len(table))
    return table[:, 0], table[:, 1], covariance


def mock_supernovae() -> tuple[Array, Array, Array]:
    """The same of a mock, whose covariance has a common part."""
    far = desi.Background(*(np.array([v]) for v in list(_MOCK_TRUTH.values())[:4])).comoving_distance(_MOCK)[0]
    covariance = np.diag(np.full(len(_MOCK), 0.05**2)) + 0.02**2
    noise = np.linalg.cholesky(covariance) @ np.random.default_rng(5).standard_normal(len(_MOCK))
    return _MOCK, 5.0 * np.log10(far * (1.0 + _MOCK)) + 25.0 + noise, covariance


def subsets(names: Names) -> list[Names]:
    """All combinations, the largest first."""
    return [part for size in range(len(names), 0, -1) for part in combinations(names, size)]


def exact(data: Data, names: Names, result: surrogate.Result) -> tuple[float, float, Array, Array]:
    """Evidence, its error, mean and covariance of the five parameters, by importance sampling about a result.

    The proposal is a mixture of Student t distributions of the surrogate's draws, widened, with a tenth of the prior.
    """
    from surrogate.problem.prior import Prior
    from surrogate.samplers.mixture import fit_mixture

    rng, prior = np.random.default_rng(0), Prior.of(PRIOR)
    rows = rng.choice(len(result.weights), 4000, p=result.weights)
    draws = result.samples[rows][:, :5]
    mixture = fit_mixture(draws, 12, rng).widened(1.5)
    count = _DRAWS // 10
    x = np.concatenate([prior.sample(count, rng), mixture.sample(_DRAWS - count, rng)])
    density = np.logaddexp(np.log(0.1) + prior.log_density(x), np.log(0.9) + mixture.log_density(x))
    log_weights = data.log_posterior(names, x) - density
    top = log_weights.max()
    weights = np.exp(log_weights - top)
    log_evidence = float(np.log(weights.mean()) + top)
    error = float(weights.std() / weights.mean() / np.sqrt(_DRAWS))
    weights /= weights.sum()
    mean = weights @ x
    return log_evidence, error, mean, (x - mean).T @ ((x - mean) * weights[:, None])


def divergence(result: surrogate.Result, mean: Array, covariance: Array) -> float:
    """Mean of both Gaussian divergences of the five parameters, in nats."""
    k = len(mean)
    shift, found = result.mean[:k] - mean, result.covariance[:k, :k]
    inverse, other = np.linalg.inv(found), np.linalg.inv(covariance)
    trace = float(np.trace(inverse @ covariance) + np.trace(other @ found)) - 2 * k
    return 0.25 * (trace + float(shift @ (inverse + other) @ shift))


def all_results(data: Data, names: Names, seed: int, *, refine: int = _REFINE, **options: Any) -> dict[Names, Any]:
    """The result of each combination, the first by a run and the others by `compare_with`; each one's calls add up."""
    found: dict[Names, Any] = {}
    last = None
    for part in subsets(names):
        if last is None:
            target = surrogate.Observables(data.simulate, data.compare(part), tuple(PRIOR))
            result = surrogate.infer(target, data.prior(part), seed=seed, progress=False, **options)
        else:
            n_samples = options.get("n_samples", 10_000)
            result = last.compare_with(data.compare(part), data.prior(part), seed=seed, n_samples=n_samples)
            if not result.converged and refine:
                result = last.compare_with(
                    data.compare(part), data.prior(part), seed=seed, n_samples=n_samples, refine=refine
                )
        found[part] = result
        last = result if len(result.data) > len(getattr(last, "data", ())) else last
        print(part, len(result.data), result.converged, result.status, flush=True, file=sys.stderr)
    return found


def separate(data: Data, part: Names, seed: int) -> Any:
    """The result of a run of its own."""
    target = surrogate.Observables(data.simulate, data.compare(part), tuple(PRIOR))
    return surrogate.infer(target, data.prior(part), seed=seed, progress=False)


def camb_model(names: Names, packages: Path, seed: int) -> dict[str, Any]:
    """Cobaya's input for some of the data sets of ``PLANCK``."""
    params: dict[str, Any] = {name: dict(entry) for name, entry in _PARAMETERS.items()}
    if "plik" not in names:
        params |= {name: {"value": value} for name, value in _OF_SPECTRA.items()}
        params["logA"]["drop"] = True
    camb = {"halofit_version": "mead", "lens_potential_accuracy": 1, "num_massive_neutrinos": 0, "nnu": 3.044}
    return {
        "likelihood": {PLANCK[name]: None for name in names},
        "theory": {"camb": {"extra_args": camb}},
        "params": {**params, "As": {"value": "lambda logA: 1e-10*np.exp(logA)"}, "mnu": 0.0},
        "packages_path": str(packages),
        "sampler": {"surrogate": {"seed": seed, "emulate": "theory"}},
    }


def cobaya_run(names: Names, packages: Path, seed: int) -> Any:
    """The result of a run of some of the data sets of ``PLANCK``."""
    from cobaya.run import run

    return run(camb_model(names, packages, seed))[1].products()["result"]


def _planck_row(part: Names, result: Any, start: float) -> str:
    """A row of the table; CPU seconds are those from ``start``."""
    return (
        f"| {' + '.join(part)} | {len(result.data)} | {'yes' if result.converged else 'no'} | "
        f"{result.log_evidence:.3f} | {result.log_evidence_error:.3f} | {time.process_time() - start:.0f} |"
    )


def planck(packages: Path, seed: int, *, separately: bool) -> None:
    """Prints the table of the combinations with plik_lite."""
    from surrogate.interfaces.cobaya import likelihoods_of

    found: dict[Names, Any] = {}
    names, start = tuple(PLANCK), time.process_time()
    print(f"seed {seed}\n\n{_PLANCK_HEADER}", flush=True)
    for part in subsets(names):
        if part == names:
            result = last = cobaya_run(names, packages, seed)
        else:
            some = likelihoods_of(last, [PLANCK[name] for name in part])
            result = last.compare_with(some, seed=seed)
            if not result.converged:
                result = last.compare_with(some, seed=seed, refine=_REFINE)
        found[part] = result
        last = result if len(result.data) > len(last.data) else last
        print(_planck_row(part, result, start), flush=True)
    own = {names: found[names]}
    for part in reversed(subsets(names)[1:]) if separately else ():
        start = time.process_time()
        own[part] = cobaya_run(part, packages, seed)
        print(f"its own run: {_planck_row(part, own[part], start)}", flush=True)
    for kind, results in (("one run", found), ("runs of their own", own)):
        for a, b in combinations(names, 2) if len(results) == len(found) else ():
            figures = surrogate.tension(results[a,], results[b,], results[a, b])
            shifts = ", ".join(f"{n} {shift:+.2f}" for n, shift in zip(figures.names, figures.shift, strict=True))
            print(f"{a}, {b}, {kind}: {figures}; shifts in sds: {shifts}")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--supernovae", type=Path, help="folder of the files of Union3")
    parser.add_argument("--data", nargs="*", default=["bao", "rates", "sn"])
    parser.add_argument("--seeds", type=int, nargs="*", default=[1])
    parser.add_argument("--separate", action="store_true", help="a run for each combination as well")
    parser.add_argument("--planck", type=Path, metavar="PACKAGES", help="plik_lite, BAO and supernovae with CAMB")
    asked = parser.parse_args()
    if asked.planck:
        if absent := [name for name in ("cobaya", "camb") if find_spec(name) is None]:
            sys.exit(f"--planck needs {' and '.join(absent)}: pip install {' '.join(absent)}")
        if not (asked.planck / "data").is_dir():
            wanted = " ".join(PLANCK.values())
            sys.exit(f"{asked.planck} has no folder data: cobaya-install {wanted} camb -p {asked.planck}")
        for seed in asked.seeds:
            planck(asked.planck.absolute(), seed, separately=asked.separate)
        return
    data = Data(asked.supernovae)
    for seed in asked.seeds:
        start = time.process_time()
        found = all_results(data, tuple(asked.data), seed)
        print(f"seed {seed}, {time.process_time() - start:.0f} CPU s\n\n{HEADER}", flush=True)
        for part, result in found.items():
            log_evidence, error, mean, covariance = exact(data, part, result)
            own = separate(data, part, seed) if asked.separate else None
            its = f"{own.n_evaluations} | {own.log_evidence - log_evidence:+.3f}" if own else " | "
            print(
                f"| {' + '.join(part)} | {len(result.data)} | {'yes' if result.converged else 'no'} | "
                f"{result.log_evidence - log_evidence:+.3f} ({error:.3f}) | {result.log_evidence_error:.3f} | "
                f"{divergence(result, mean, covariance):.4f} | {its} |",
                flush=True,
            )
        joint = found[tuple(asked.data)]
        for a, b in combinations(asked.data, 2):
            print(f"{a}, {b}: {surrogate.tension(found[a,], found[b,], found.get((a, b), joint))}")


if __name__ == "__main__":
    main()
