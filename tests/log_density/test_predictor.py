"""The three forms of a predictor are the emulator's function, and its files hold numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import surrogate
from surrogate.gp.trended import Hyperparameters
from surrogate.inference.conclusion import Emulator
from surrogate.inference.draws import ScaledPrior
from surrogate.log_density.coordinates.couplings import Couplings
from surrogate.log_density.coordinates.decades import Decades
from surrogate.log_density.coordinates.symmetry import Symmetry
from surrogate.log_density.coordinates.warps import CIRCLE, InputWarp
from surrogate.log_density.coordinates.whitening import Whitening
from surrogate.log_density.model import build
from surrogate.log_density.parameters import Division, Structure, SurrogateParameters
from surrogate.log_density.peaks import Peaks
from surrogate.log_density.predictor import Predictor, load_predictor
from surrogate.problem.dataset import Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.samplers.mixture import Mixture
from surrogate.storage.arrays import save_arrays

D, N = 3, 25
WORDS = ("weights", "root", "shape")
NAMES, BOUNDS = ("a", "b", "c"), np.array([[-1.0, 3.0]] * D)
CASES = {
    "plain": {},
    "matern": {"kernel": "matern52", "trend": "constant"},
    "rough": {"kernel": "matern32", "trend": "linear"},
    "warped": {"kinds": (1, 2, 3)},
    "circle": {"kinds": (0, 4, 1)},
    "folded": {"kinds": (5, 0, 6)},
    "compressed": {"output": 8.0},
    "expanded": {"output": -8.0},
    "infeasible": {"infeasible": True},
    "infeasible by a machine": {"infeasible": True, "feasibility": "svm"},
    "divided": {"kinds": (0, 1, 0), "division": Division(1, -2)},
    "divided and more": {"kinds": (0, 0, 1), "division": Division(2, -1, axes=True)},
    "decades": {"kinds": (0, 0, 3), "origin": (np.nan, -2.0, np.nan)},
    "coupled": {"coupled": True},
    "peaks": {"peaks": True},
    "peaks and warped": {"peaks": True, "kinds": (1, 0, 3)},
    "symmetric": {"symmetric": True},
    "symmetric and warped": {"symmetric": True, "kinds": (1, 1, 0), "output": 8.0},
    "coupled circle": {"coupled": True, "kinds": (0, 1, 4)},
    "infeasible and warped": {"infeasible": True, "kinds": (0, 0, 3), "output": 8.0, "kernel": "matern52"},
}


def emulator_of(
    *,
    kernel="rbf",
    trend="quadratic",
    kinds=(0, 0, 0),
    output=0.0,
    infeasible=False,
    coupled=False,
    symmetric=False,
    division=None,
    origin=None,
    feasibility="process",
    peaks=False,
):
    rng = np.random.default_rng(0)
    x = BOUNDS[:, 0] + 4.0 * rng.random((N, D))
    y = -((x - 1.0) ** 2).sum(1) + np.sin(3 * x[:, 0])
    bad = (x[:, 0] > 2.0) & infeasible
    data = Dataset.empty(D).append(
        x, [Evaluation(-np.inf, "infeasible") if b else Evaluation(v, "ok") for v, b in zip(y, bad, strict=True)], 0
    )
    t = (x - BOUNDS[:, 0]) / 4.0
    warp = InputWarp(np.array(kinds), np.zeros(D), np.ones(D))
    if coupled:
        couplings = Couplings.none(np.full(D, 0.5), np.diag([4.0, 3.0, 2.0]))
        pairs = [("bend", 0, 1)] if CIRCLE in kinds else [("bend", 0, 1), ("scale", 0, 2), ("bend", 1, 2)]
        couplings = couplings.only(pairs)
        warp = warp.with_couplings(couplings.at(np.linspace(0.1, 0.4, len(couplings.vector))))
    if symmetric:
        orders = np.array([[0, 1, 2], [1, 0, 2]])
        warp = replace(warp, symmetry=Symmetry(orders, np.array([0.2, 0.6, 0.3]), np.array([2.0, 2.0, 1.0])))
    whitening = Whitening.of(warp.forward(t))
    size = warp.size
    low, high = np.quantile(warp.forward(t), [0.25, 0.75], axis=0)
    mixture = Mixture(np.array([0.3, 0.7]), np.stack([low, high]), np.stack([np.diag(high - low)] * 2))
    both = Peaks.of_mixture(mixture) if peaks else None
    hyper = Hyperparameters(0.5, np.log(1e-3), np.linspace(0.2, 0.8, size), 0.3)
    parameters = SurrogateParameters(
        hyper, whitening, Structure(kernel, trend, output, warp, division, both), 1.5, N, feasibility=feasibility
    )
    decades = None if origin is None else Decades(np.array(origin))
    functions = (lambda p: np.zeros(len(p)), lambda n, rng: rng.random((n, D)))
    scaled = ScaledPrior(BOUNDS[:, 0], np.full(D, 4.0), *functions, decades=decades)
    return Emulator(build(data, t, parameters), scaled)


def points(m=200):
    return -1.5 + 5.0 * np.random.default_rng(1).random((m, D))  # some of them outside of the trust region


@pytest.fixture(params=CASES)
def pair(request):
    emulator = emulator_of(**CASES[request.param])
    return emulator, emulator.predictor(NAMES, BOUNDS)


def credible(values):
    """The values up to where the emulator takes them for incredible, outside of the support of a divisor."""
    return np.minimum(values, 50.0)


def test_batches_are_those_of_the_emulator(pair):
    emulator, predictor = pair
    expected = credible(emulator.log_likelihood(points()))
    np.testing.assert_allclose(credible(predictor.log_likelihood(points())), expected, rtol=1e-9)


def test_single_points_are_those_of_the_emulator(pair):
    emulator, predictor = pair
    expected = credible(emulator.log_likelihood(points()))
    np.testing.assert_allclose(credible([predictor(x) for x in points()]), expected, rtol=1e-9)
    assert isinstance(predictor(points()[0]), float)
    assert predictor(points()[0].tolist()) == predictor(points()[0])


def test_the_cases_meet_what_they_are_for():
    assert np.isneginf(emulator_of(infeasible=True).log_likelihood(points())).any()
    model = emulator_of().model
    u = model.whiten((points() - BOUNDS[:, 0]) / 4.0)
    assert (model.region.excess(u) > 0.0).any()


def test_numbers_survive_their_file(pair, tmp_path):
    _, predictor = pair
    predictor.save(tmp_path / "p.npz")
    again = surrogate.load_predictor(tmp_path / "p.npz")
    assert again.names == NAMES
    assert np.array_equal(again.log_likelihood(points()), predictor.log_likelihood(points()))
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "fiuU" for name in file.files)


OFTEN = ("infeasible and warped", "coupled")  # the others with -m slow


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] * (case not in OFTEN))
        for case in ("plain", "infeasible and warped", "infeasible by a machine", "coupled", "divided", "decades")
    ],
)
def test_a_program_runs_without_the_package(case, tmp_path):
    predictor = emulator_of(**CASES[case]).predictor(NAMES, BOUNDS)
    predictor.save(tmp_path / "p.pt2")
    program = torch.export.load(tmp_path / "p.pt2").module()
    for m in (1, 7):
        values = program(torch.as_tensor(points(m))).numpy()
        np.testing.assert_allclose(values, predictor.log_likelihood(points(m)), rtol=1e-12)


@pytest.mark.parametrize("infeasible", [False, True])
def test_a_file_from_before_there_were_kinds_of_feasibility_is_read(infeasible):
    predictor = emulator_of(infeasible=infeasible).predictor(NAMES, BOUNDS)
    arrays = predictor.to_arrays()
    arrays.pop("predictor/feasibility")
    former = {"feasible_points": "border", **{f"feasible_{word}": f"border_{word}" for word in WORDS}}
    arrays = {f"predictor/{former.get(name.split('/')[1], name.split('/')[1])}": a for name, a in arrays.items()}
    again = Predictor.from_arrays(arrays)
    assert again.feasibility == ("process" if infeasible else "everywhere")
    assert np.array_equal(again.log_likelihood(points()), predictor.log_likelihood(points()))


def test_a_file_from_before_there_were_couplings_is_read():
    predictor = emulator_of().predictor(NAMES, BOUNDS)
    arrays = {name: array for name, array in predictor.to_arrays().items() if not name.endswith("couplings")}
    again = Predictor.from_arrays(arrays)
    assert np.array_equal(again.log_likelihood(points()), predictor.log_likelihood(points()))


def test_the_module_has_the_slope_of_the_function():
    predictor = emulator_of().predictor(NAMES, BOUNDS)
    x = np.full(D, 0.7)
    tensor = torch.tensor(x[None], requires_grad=True)
    predictor.module(tensor).sum().backward()
    numeric = [(predictor(x + h) - predictor(x - h)) / 2e-5 for h in 1e-5 * np.eye(D)]
    np.testing.assert_allclose(tensor.grad[0], numeric, rtol=1e-6)


def test_other_suffixes_are_refused(tmp_path):
    predictor = emulator_of().predictor(NAMES, BOUNDS)
    with pytest.raises(ValueError, match=r"saved as \.npz .* or \.pt2"):
        predictor.save(tmp_path / "p.pkl")
    with pytest.raises(ValueError, match="is a program"):
        load_predictor(tmp_path / "p.pt2")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", np.zeros(3)),
        ("kernel", np.array("cubic")),
        ("feasibility", np.array("forest")),
        ("feasible_root", np.zeros((2, 2))),
        ("warp", np.array([4, 0, 0])),
        ("constants", np.array(["1"] * 5)),
        ("forward", np.zeros(())),
    ],
)
def test_numbers_that_do_not_fit_are_refused(name, value, tmp_path):
    arrays = emulator_of().predictor(NAMES, BOUNDS).to_arrays()
    save_arrays(tmp_path / "p.npz", arrays | {f"predictor/{name}": value})
    with pytest.raises(ValueError, match="not a predictor"):
        load_predictor(tmp_path / "p.npz")


def test_other_files_are_refused(tmp_path):
    save_arrays(tmp_path / "p.npz", {"x": np.zeros(2)})
    with pytest.raises(ValueError, match="lacks names"):
        load_predictor(tmp_path / "p.npz")


def test_points_of_another_width_are_refused():
    predictor = emulator_of().predictor(NAMES, BOUNDS)
    with pytest.raises(ValueError, match=r"x must have shape \(m, 3\), got \(2, 2\)"):
        predictor.log_likelihood(np.zeros((2, 2)))
    assert isinstance(predictor, Predictor)
    assert predictor.log_likelihood(np.zeros((0, 3))).shape == (0,)
