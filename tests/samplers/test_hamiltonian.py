import numpy as np
import pytest
import torch

from surrogate.rng import torch_generator
from surrogate.samplers.diagnostics import bulk_ess, rank_rhat
from surrogate.samplers.hamiltonian import hmc, preconditioned_crank_nicolson

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [-0.3, 0.5, 1.2]], dtype=torch.float64)
PRECISION = torch.linalg.inv(ROOT @ ROOT.T)


def gaussian(x):
    return 0.5 * (x - MEAN) @ PRECISION @ (x - MEAN)


def zeros(chains, d=3):
    return torch.zeros(chains, d, dtype=torch.float64)


def within_standard_errors(x, mean, covariance, *, errors=5.0):
    """Means and second moments of draws with shape (s, w, d) agree with the exact ones."""
    centred = x - mean
    products = centred[..., :, None] * centred[..., None, :]
    for values, exact in ((x, mean), (products.flatten(2), covariance.flatten())):
        ess = torch.from_numpy(bulk_ess(values.numpy()))
        deviation = values.flatten(0, 1).mean(0) - exact
        assert (deviation.abs() < errors * values.flatten(0, 1).std(0) / ess.sqrt()).all()


def test_hmc_draws_from_a_gaussian():
    chains = hmc(gaussian, zeros(16), n_draws=250, generator=torch_generator(0, "hmc"))
    assert chains.x.shape == (250, 16, 3)
    assert chains.draws.shape == (4000, 3)
    assert (rank_rhat(chains.x.numpy()) < 1.01).all()
    assert 0.6 < float(chains.acceptance.mean()) < 0.95
    assert chains.n_divergent == 0
    within_standard_errors(chains.x, MEAN, ROOT @ ROOT.T)


def test_crank_nicolson_draws_from_prior_times_likelihood():
    observed = torch.tensor([1.5, -0.5, 2.0], dtype=torch.float64)
    chains = preconditioned_crank_nicolson(
        lambda x: (x - observed).square().sum(), zeros(32), n_draws=500, thin=5, generator=torch_generator(0, "pcn")
    )
    # Prior precision 1 and likelihood precision 2: the posterior is normal with mean 2/3 of what was observed.
    within_standard_errors(chains.x, 2.0 / 3.0 * observed, torch.eye(3, dtype=torch.float64) / 3.0)
    assert chains.n_evaluations == 1 + 200 + 2500


def test_crank_nicolson_accepts_everything_without_a_likelihood():
    chains = preconditioned_crank_nicolson(
        lambda x: 0.0 * x.sum(), zeros(4), n_draws=100, n_warmup=100, generator=torch_generator(1, "pcn")
    )
    assert chains.step_size == 1.0
    assert (chains.acceptance - 1.0).abs().max() < 1e-12


def test_chains_of_a_batch_do_not_notice_each_other():
    def run(start):
        return hmc(gaussian, start, n_draws=1, n_warmup=0, step_size=1e-3, generator=torch_generator(2, "one"))

    many, one = run(zeros(3) + torch.arange(3.0)[:, None]), run(zeros(1))
    assert torch.isfinite(many.x).all()
    assert many.n_evaluations == one.n_evaluations == 9  # the start and 8 leapfrog steps


def test_the_same_generator_gives_the_same_draws():
    first, second = (
        hmc(gaussian, zeros(2), n_draws=5, n_warmup=5, generator=torch_generator(3, "same")) for _ in range(2)
    )
    assert torch.equal(first.x, second.x)


@pytest.mark.slow
def test_a_wall_of_infinite_energy_is_never_crossed():
    def half(x):
        return torch.where(x[0] > 0, 0.5 * x.square().sum(), torch.inf)

    chains = hmc(half, zeros(8) + 0.5, n_draws=300, generator=torch_generator(5, "wall"))
    assert (chains.x[..., 0] > 0).all()
    assert chains.n_divergent > 0
    first = chains.x[..., 0].numpy()
    error = first.std() / np.sqrt(bulk_ess(first)[0])
    assert abs(first.mean() - np.sqrt(2 / np.pi)) < 5 * error


def test_not_a_number_is_rejected_and_counted():
    chains = hmc(
        lambda x: torch.sqrt(1.0 - x.square().sum()),
        zeros(4),
        n_draws=50,
        n_warmup=0,
        step_size=0.5,
        generator=torch_generator(6, "nan"),
    )
    assert chains.n_divergent > 0
    assert torch.isfinite(chains.x).all()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_draws": 0}, "n_draws"),
        ({"n_warmup": -1}, "n_warmup"),
        ({"n_leapfrog": 0}, "steps per draw"),
        ({"target_acceptance": 1.0}, "target_acceptance"),
    ],
)
def test_misuse_is_told(change, match):
    with pytest.raises(ValueError, match=match):
        hmc(gaussian, zeros(2), **{"n_draws": 5, "generator": torch_generator(0), **change})


def test_bad_starts_are_told():
    with pytest.raises(ValueError, match="shape"):
        hmc(gaussian, torch.zeros(3), n_draws=5, generator=torch_generator(0))
    with pytest.raises(ValueError, match=r"not for chains \[1\]"):
        hmc(lambda x: -torch.log(x.sum()), torch.tensor([[1.0], [0.0]]), n_draws=5, generator=torch_generator(0))
    with pytest.raises(ValueError, match="step_size"):
        preconditioned_crank_nicolson(gaussian, zeros(2), n_draws=5, step_size=1.5, generator=torch_generator(0))
