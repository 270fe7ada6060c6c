"""MontePython's likelihood as a function and its chains, with a stand-in for its (cosmo, data)."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.interfaces.montepython import MontePythonLikelihood, infer_montepython, prior_of


class Data:
    """The attributes of MontePython's Data that samplers use."""

    def __init__(self, kind="flat"):
        self.mcmc_parameters = {
            "omega_b": self.entry(kind, [1.9, 2.5]),
            "ln10^{10}A_s": self.entry("flat", [2.0, 4.0]),
            "100*theta_s": self.entry("flat", None, role="derived"),
        }
        self.cosmo_arguments = {}

    def entry(self, kind, bounds, role="varying"):
        return {
            "prior": SimpleNamespace(prior_type=kind, prior_range=bounds),
            "current": 0.0,
            "role": role,
            "scale": 0.01,
        }

    def get_mcmc_parameters(self, roles):
        return [name for name, entry in self.mcmc_parameters.items() if entry["role"] in roles]

    def update_cosmo_arguments(self):
        self.cosmo_arguments = {name: entry["current"] for name, entry in self.mcmc_parameters.items()}


def compute_lkl(cosmo, data):
    b, a = data.cosmo_arguments["omega_b"], data.cosmo_arguments["ln10^{10}A_s"]
    if b < 1.95:
        return -1e30
    data.mcmc_parameters["100*theta_s"]["current"] = b + a
    return -0.5 * ((b - 2.2) / 0.02) ** 2 - 0.5 * ((a - 3.0 - (b - 2.2)) / 0.1) ** 2


def test_prior_has_words_for_names():
    prior = prior_of(Data())
    assert prior.names == ("omega_b", "ln10_10_A_s")
    np.testing.assert_array_equal(prior.bounds, [[1.9, 2.5], [2, 4]])


def test_only_flat_bounded_priors():
    with pytest.raises(ValueError, match="'omega_b' needs a flat prior with two bounds, got gaussian"):
        prior_of(Data("gaussian"))


def test_impossible_is_minus_infinity():
    like = MontePythonLikelihood(None, Data(), compute_lkl)
    assert like(np.array([1.92, 3.0])) == (-np.inf, {})
    assert like(np.array([2.2, 3.0])) == (0.0, {"p_100_theta_s": 5.2})


def test_chain_in_its_layout(tmp_path):
    folder = tmp_path / "planck"
    result = infer_montepython(None, Data(), compute_lkl, folder=folder, seed=1, progress=False, n_samples=1000)
    (chain,) = folder.glob("*__1.txt")
    table = np.loadtxt(chain)
    assert table.shape == (len(result.weights), 2 + 2 + 1)
    exact = np.array([compute_lkl(None, filled(row)) for row in table[:50, 2:4]])
    np.testing.assert_allclose(-table[:50, 1], exact, atol=0.05)
    np.testing.assert_allclose(table[:, 4], table[:, 2] + table[:, 3], atol=0.01)
    names = [line.split("\t")[0] for line in (folder / "planck.paramnames").read_text(encoding="utf-8").splitlines()]
    assert names == ["omega_b", "ln10^{10}A_s", "100*theta_s"]
    head, *rows = (folder / "planck.covmat").read_text(encoding="utf-8").splitlines()
    assert head == "# omega_b, ln10^{10}A_s"
    assert len(rows) == 2
    assert (folder / "planck.bestfit").exists()


def filled(row):
    data = Data()
    data.cosmo_arguments = dict(zip(["omega_b", "ln10^{10}A_s"], row, strict=True))
    return data
