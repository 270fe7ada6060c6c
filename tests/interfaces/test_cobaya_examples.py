"""The Cobaya examples: the one without data runs, the others where SURROGATE_PACKAGES names a folder of data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cobaya", reason="Cobaya is an extra: pip install surrogate-inference[cobaya]")

from cobaya.run import run
from cobaya.yaml import yaml_load_file

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Cobaya's and its dependencies'
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),  # Cobaya leaves the matrix of plik_lite open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the same, when it is collected
]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PACKAGES = os.environ.get("SURROGATE_PACKAGES")
needs_data = pytest.mark.skipif(not PACKAGES, reason="SURROGATE_PACKAGES names no folder of Cobaya's data")

# Planck 2018 TTTEEE+lowE; tau and logA with the widths of the binned low multipoles
PUBLISHED = {
    "ombh2": (0.02236, 0.00015),
    "omch2": (0.1202, 0.0014),
    "theta_MC_100": (1.04090, 0.00031),
    "tau": (0.0544, 0.0093),
    "logA": (3.045, 0.0187),
    "ns": (0.9649, 0.0044),
}


def loaded(name, **options):
    info = yaml_load_file(str(EXAMPLES / name))
    info["sampler"]["surrogate"] |= options
    return info


@pytest.mark.slow
def test_dark_energy():
    _, sampler = run(loaded("cobaya_desi.yaml", max_evaluations=25, n_samples=200))
    sample = sampler.products()["sample"]
    for name in ("omega_m", "r_d", "h_r_d", "age"):  # emulated; how well is said, and little after so few calls
        assert np.isfinite(np.asarray(sample[name], dtype=float)).all()
    assert sampler.products()["result"].n_evaluations == 25


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("emulate", "seed", "most"), [("none", 1, 150), ("none", 2, 150), ("theory", 1, 40)])
def test_planck(emulate, seed, most):
    _, sampler = run(loaded("cobaya_planck.yaml", seed=seed, emulate=emulate) | {"packages_path": PACKAGES})
    result = sampler.products()["result"]
    assert result.converged
    assert result.n_evaluations <= most
    for name, (mean, sd) in PUBLISHED.items():
        j = result.names.index(name)
        assert abs(result.mean[j] - mean) < 0.15 * sd
        assert result.sd[j] == pytest.approx(sd, rel=0.12)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("emulate", "most"), [("none", 150), ("theory", 30)])
def test_distances(emulate, most):
    _, sampler = run(loaded("cobaya_background.yaml", emulate=emulate) | {"packages_path": PACKAGES})
    result = sampler.products()["result"]
    assert result.converged
    assert result.n_evaluations <= most
    assert abs(result.log_evidence + 26.04) < 0.15
