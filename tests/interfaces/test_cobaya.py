"""The sampler inside Cobaya itself, on cheap normal likelihoods: files, flags, resuming, products, failures."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cobaya", reason="Cobaya is an extra: pip install surrogate-inference[cobaya]")

from cobaya.log import LoggedError
from cobaya.model import get_model
from cobaya.output import load_samples
from cobaya.run import run, run_script
from cobaya.yaml import yaml_dump, yaml_load_file

import surrogate
from surrogate.executors import ProcessExecutor
from surrogate.interfaces.cobaya import CobayaLikelihood, prior_of, problem_of, reference_of
from surrogate.interfaces.cobaya.options import number_of
from tests.executors import functions_for_workers as functions

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Cobaya's and its dependencies'

ROOT = Path(__file__).resolve().parents[2]

INFO = {
    "likelihood": {
        "first": {"external": "lambda a, b, fixed: -0.5 * (a**2 + (b - 0.5 * a)**2 / fixed)"},
        "second": {"external": "lambda b, c: -0.5 * ((c - 1)**2 / 0.04 + (b - 0.3)**2 / 4)"},
    },
    "params": {
        "a": {"prior": {"min": -5, "max": 5}, "latex": r"\alpha"},
        "b": {"prior": {"min": -4, "max": 6}},
        "c": {"prior": {"dist": "norm", "loc": 0, "scale": 2}},
        "fixed": 0.25,
        "ab": {"derived": "lambda a, b: a * b + 3", "latex": "ab"},
    },
    "prior": {"joint": "lambda a, c: -0.5 * (a - c)**2 / 4"},
    "sampler": {"surrogate": {"seed": 1, "n_samples": 300}},
}


def info(**sampler):
    copy = deepcopy(INFO)
    copy["sampler"]["surrogate"] |= sampler
    return copy


def exact():
    """Mean, covariance and log evidence of the product of all the normal densities above."""
    rows, means, variances = (
        np.array([[1, 0, 0], [-0.5, 1, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1], [1, 0, -1]], dtype=float),
        np.array([0, 0, 1, 0.3, 0, 0]),
        np.array([1, 0.25, 0.04, 4, 4, 4]),
    )
    precision = (rows.T / variances) @ rows
    covariance = np.linalg.inv(precision)
    mean = covariance @ (rows.T @ (means / variances))
    least = ((rows @ mean - means) ** 2 / variances).sum()
    box = -np.log(100) - 0.5 * np.log(2 * np.pi * 4)
    return mean, covariance, box + 1.5 * np.log(2 * np.pi) + 0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * least


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with all products, which no test may change."""
    root = tmp_path_factory.mktemp("chains") / "run"
    updated, sampler = run(info(n_samples=4000), output=str(root))
    return root, updated, sampler


def columns(root):
    with open(f"{root}.1.txt", encoding="utf-8") as file:
        names = file.readline()[1:].split()
    return dict(zip(names, np.loadtxt(f"{root}.1.txt").T, strict=True))


# A run and its products


def test_posterior_is_right(finished):
    """Means within 5 standard errors for 1000 independent draws, covariance and evidence likewise."""
    _, _, sampler = finished
    mean, covariance, log_evidence = exact()
    result = sampler.products()["result"]
    assert result.converged
    np.testing.assert_array_less(np.abs(result.mean - mean), 5 * np.sqrt(np.diag(covariance) / 1000))
    np.testing.assert_allclose(result.sd, np.sqrt(np.diag(covariance)), rtol=5 / np.sqrt(2000))
    assert sampler.products()["logZ"] == pytest.approx(log_evidence, abs=5 * sampler.products()["logZstd"] + 0.01)


def test_columns_are_those_of_cobaya_and_add_up(finished):
    got = columns(finished[0])
    expected = (
        "weight minuslogpost a b c ab minuslogprior minuslogprior__0 minuslogprior__joint chi2 chi2__first chi2__second"
    )
    assert list(got) == expected.split()
    tiny = {"rtol": 1e-7, "atol": 1e-8}  # half a unit of the eighth digit, in each term
    np.testing.assert_allclose(got["chi2"], got["chi2__first"] + got["chi2__second"], **tiny)
    np.testing.assert_allclose(got["minuslogprior"], got["minuslogprior__0"] + got["minuslogprior__joint"], **tiny)
    np.testing.assert_allclose(got["minuslogpost"], got["minuslogprior"] + got["chi2"] / 2, **tiny)


def test_derived_and_chi2_are_filled(finished):
    got = columns(finished[0])
    a, b, c = got["a"], got["b"], got["c"]
    np.testing.assert_allclose(got["ab"], a * b + 3, atol=0.02)
    np.testing.assert_allclose(got["chi2__first"], a**2 + (b - 0.5 * a) ** 2 / 0.25, atol=0.01)
    np.testing.assert_allclose(got["chi2__second"], (c - 1) ** 2 / 0.04 + (b - 0.3) ** 2 / 4, atol=0.01)
    np.testing.assert_allclose(got["minuslogprior__joint"], 0.5 * (a - c) ** 2 / 4, rtol=1e-5, atol=1e-6)


def test_other_files(finished):
    root, _, sampler = finished
    assert yaml_load_file(f"{root}.checkpoint")["sampler"]["surrogate"]["converged"]
    evidence = yaml_load_file(f"{root}.logZ")
    assert evidence == {"logZ": sampler.products()["logZ"], "logZstd": sampler.products()["logZstd"]}
    covariance = np.loadtxt(f"{root}.covmat")
    np.testing.assert_allclose(covariance, exact()[1], atol=0.1)
    with open(f"{root}.covmat", encoding="utf-8") as file:
        assert file.readline().split() == ["#", "a", "b", "c"]
    progress = np.genfromtxt(f"{root}.progress", usecols=(0, 2, 3, 4))
    assert progress[-1, 0] == sampler.products()["result"].n_evaluations
    assert (Path(f"{root}_surrogate") / "evaluations.jsonl").exists()


def test_cobaya_loads_the_chain(finished):
    collection = load_samples(str(finished[0]), combined=True)
    assert len(collection) == 4000
    np.testing.assert_allclose(collection.mean(), finished[2].samples().mean())


def test_getdist_loads_the_root_and_keeps_every_row(finished):
    import getdist

    samples = getdist.loadMCSamples(str(finished[0]), no_cache=True)
    assert samples.numrows == 4000
    assert samples.paramNames.parWithName("ab").isDerived
    assert samples.paramNames.parWithName("a").label == r"\alpha"
    mean = exact()[0]
    assert np.abs(samples.mean("a") - mean[0]) < 0.1


def test_products_in_a_script(finished):
    sampler = finished[2]
    assert set(sampler.products()) == {"sample", "logZ", "logZstd", "result", "minimum"}
    assert sampler.products()["minimum"] is None
    assert sampler.samples(to_getdist=True).numrows == 4000
    assert len(sampler.samples(combined=True)) == 4000


def test_infer_makes_the_same_evaluations(finished):
    model = {key: value for key, value in INFO.items() if key != "sampler"}
    result = surrogate.infer(get_model(deepcopy(model)), seed=1, progress=False, n_samples=100, max_evaluations=7)
    theirs = finished[2].products()["result"].data
    np.testing.assert_array_equal(result.data.x, theirs.x[:7])
    np.testing.assert_array_equal(result.data.y, theirs.y[:7])
    assert result.derived_names == ("ab", "chi2__first", "chi2__second")


def test_infer_takes_a_yaml_file(tmp_path, finished):
    path = tmp_path / "model.yaml"
    path.write_text(yaml_dump(INFO), encoding="utf-8")
    result = surrogate.infer(path, seed=1, progress=False, n_samples=100, max_evaluations=7)
    assert result.labels[0] == r"\alpha"
    np.testing.assert_array_equal(result.data.x, finished[2].products()["result"].data.x[:7])


# Names, chi2s and evidences


def test_likelihoods_of_any_name():
    """Cobaya takes them, and calls their chi2s by the same name."""

    def quadratic(a):
        return -0.5 * a**2

    names = ("BAO+SN", "my like", "BAO SN")
    likelihoods = {name: {"external": quadratic, "input_params": ["a"]} for name in names}
    sampler = {"surrogate": {"seed": 1, "n_samples": 300, "max_evaluations": 7}}
    box = {"a": {"prior": [-3, 3]}}
    _, sampler = run({"likelihood": likelihoods, "params": box, "sampler": sampler})
    found = sampler.products()["result"]
    assert found.data.finite.all()
    assert found.derived_names == ("chi2__BAO_SN", "chi2__my_like", "chi2__BAO_SN_2")
    columns = sampler.samples()
    for name in names:
        np.testing.assert_allclose(columns[f"chi2__{name}"], columns["a"] ** 2, atol=1e-3)


def test_the_chi2_of_a_single_likelihood_is_exact():
    model = get_model(
        {
            "likelihood": {"rough": lambda a, b: -(abs(a) ** 1.5) - b**2},
            "params": {name: {"prior": [-3, 3]} for name in "ab"},
        }
    )
    result = surrogate.infer(model, seed=1, progress=False, n_samples=300, max_evaluations=10)
    assert result.derived_names == ("chi2__rough",)
    assert result.derived_error[0] == 0.0
    log_likelihood = result.log_posterior - result.log_prior
    np.testing.assert_allclose(result.derived[:, 0], -2.0 * log_likelihood, atol=1e-9)


def test_an_unconverged_run_leaves_no_evidence_for_scripts(tmp_path):
    root = tmp_path / "run"
    _, sampler = run(info(max_evaluations=8), output=str(root))
    products = sampler.products()
    assert not products["result"].converged
    assert products["logZ"] is None
    assert products["logZstd"] is None
    assert not root.with_suffix(".logZ").exists()
    run(info(), output=str(root), resume=True)
    assert root.with_suffix(".logZ").exists()


# Flags


def test_old_output_needs_a_flag(tmp_path):
    root = str(tmp_path / "run")
    run(info(max_evaluations=7), output=root)
    with pytest.raises(LoggedError, match="Delete the previous output manually"):
        run(info(max_evaluations=7), output=root)
    journal = Path(f"{root}_surrogate") / "evaluations.jsonl"
    before = journal.read_text(encoding="utf-8")
    _, again = run(info(max_evaluations=9), output=root, resume=True)
    assert journal.read_text(encoding="utf-8").startswith(before)
    assert again.products()["result"].n_evaluations == 9
    run(info(max_evaluations=7), output=root, force=True)
    assert len(journal.read_text(encoding="utf-8").splitlines()) == 7


def test_test_flag_evaluates_nothing(tmp_path):
    run(info(), output=str(tmp_path / "run"), test=True)
    assert not list(tmp_path.glob("*surrogate*"))
    assert not list(tmp_path.glob("*.txt"))


def test_changed_model_is_refused_on_resume(tmp_path):
    root = str(tmp_path / "run")
    run(info(max_evaluations=7), output=root)
    other = info(max_evaluations=7)
    other["params"]["a"]["prior"]["max"] = 6
    with pytest.raises(LoggedError, match="not compatible"):
        run(other, output=root, resume=True)


@pytest.mark.slow
def test_no_output_is_fine():
    _, sampler = run(info())
    assert sampler.products()["result"].converged


def test_unknown_option_is_refused_with_a_suggestion():
    with pytest.raises(LoggedError, match="did you mean 'max_evaluations'"):
        run(info(max_evaluation=10))
    with pytest.raises(LoggedError, match="unknown option 'fast_point' in speeds; did you mean 'fast_points'"):
        run(info(speeds={"fast_point": 2}))


def test_options_in_d_notation_and_deep_merging(tmp_path):
    _, sampler = run(
        info(max_evaluations="4d", n_samples="100d", speeds={"measure": False}), output=str(tmp_path / "r")
    )
    assert sampler.products()["result"].n_evaluations == 12
    assert len(sampler.samples()) == 300
    assert sampler._speeds.fast_points == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [("10d", 40), ("d", 4), ("30d1.5", 240), ("2 d^2", 32), (7, 7), ("7", 7), (1e3, 1000), (None, None)],
)
def test_d_notation(text, number):
    assert number_of(text, 4, "n") == number


@pytest.mark.parametrize("text", ["ten", "10x", 1.5, True, float("nan"), [1]])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"n must be a whole number.*'10d'"):
        number_of(text, 4, "n")


# References


def with_references(ref, proposal=None):
    copy = {key: deepcopy(value) for key, value in INFO.items() if key != "sampler"}
    for name in "abc":
        copy["params"][name]["ref"] = ref
        if proposal:
            copy["params"][name]["proposal"] = proposal
    return get_model(copy)


def test_reference_of_ref_and_proposal():
    assert reference_of(get_model({key: deepcopy(value) for key, value in INFO.items() if key != "sampler"})) is None
    wide = reference_of(with_references([0.1, 0.5], proposal=0.1))
    np.testing.assert_allclose(wide.mean, 0.1)
    np.testing.assert_allclose(wide.covariance, 0.25 * np.eye(3))
    np.testing.assert_allclose(reference_of(with_references([0.1, 0.01], 0.2)).covariance, 0.16 * np.eye(3))
    assert reference_of(with_references(0.3)).covariance is None
    np.testing.assert_array_equal(reference_of(with_references(0.3), 2 * np.eye(3)).covariance, 2 * np.eye(3))


def test_covmat_of_a_run_starts_the_next_one(finished, tmp_path):
    second = info(covmat=f"{finished[0]}.covmat", batch_size=3)
    for name, value in zip("abc", exact()[0].tolist(), strict=True):
        second["params"][name]["ref"] = value
    _, sampler = run(second)
    result = sampler.products()["result"]
    start = result.data.x[result.data.step == 0]
    assert (np.abs(start - exact()[0]) < 5 * 1.5 * np.sqrt(np.diag(exact()[1]))).all()
    assert result.converged


def test_priors_are_those_of_the_model():
    prior = prior_of(get_model({key: deepcopy(value) for key, value in INFO.items() if key != "sampler"}))
    assert prior.names == ("a", "b", "c")
    np.testing.assert_array_equal(prior.bounds, [[-5, 5], [-4, 6], [-np.inf, np.inf]])
    assert prior.log_density(np.zeros((1, 3)))[0] == pytest.approx(-np.log(100) - 0.5 * np.log(2 * np.pi * 4))


# Failures


BAD = {
    "raises": ("def", ZeroDivisionError),
    "nan": (np.nan, None),
    "plus": (np.inf, None),
    "none": (None, None),
    "complex": (1j, None),
}


def misbehaving(kind):
    value, error = BAD[kind]

    def like(a, b):
        if a > 1:
            if error:
                raise error
            return value
        return -0.5 * (a**2 + b**2)

    box = {"prior": {"min": -4, "max": 4}}
    return {"likelihood": {"bad": {"external": like}}, "params": {"a": dict(box), "b": dict(box)}}


@pytest.mark.parametrize(
    "kind",
    ["raises", *(pytest.param(kind, marks=pytest.mark.slow) for kind in BAD if kind != "raises")],
)
def test_bad_answers_are_recorded_and_the_run_goes_on(kind):
    _, sampler = run(
        {**misbehaving(kind), "sampler": {"surrogate": {"seed": 2, "n_samples": 200, "max_evaluations": 10}}}
    )
    data = sampler.products()["result"].data
    bad = data.x[:, 0] > 1
    assert bad.any()
    assert not data.finite[bad].any()
    assert data.finite[~bad].all()
    if kind != "raises":  # which Cobaya makes -inf
        assert any(reason for reason in data.reasons)


def test_stop_at_error_stops():
    with pytest.raises((LoggedError, ZeroDivisionError)):
        run({**misbehaving("raises"), "stop_at_error": True, "sampler": {"surrogate": {"seed": 2}}})


def test_likelihood_travels_as_its_description():
    import pickle

    problem = problem_of({key: deepcopy(value) for key, value in INFO.items() if key != "sampler"})
    copy = pickle.loads(pickle.dumps(problem.log_likelihood))
    assert isinstance(copy, CobayaLikelihood)
    assert copy(np.zeros(3)) == problem.log_likelihood(np.zeros(3))


@pytest.mark.parametrize("target", [{"params": {}}, {"likelihood": {"nowhere_to_be_found": None}, "params": {"a": 1}}])
def test_what_is_no_model_is_refused(target):
    with pytest.raises(ValueError, match="Cobaya"):
        problem_of(target)


def test_prior_is_needed_for_other_things():
    with pytest.raises(TypeError, match="needs a prior"):
        surrogate.infer(lambda x: 0.0)


# True evaluations at the end


def test_reweighting(tmp_path):
    root = str(tmp_path / "run")
    _, sampler = run(info(reweight=120, n_samples=500), output=root)
    result, got = sampler.products()["result"], columns(root)
    assert result.reweighting.reliable
    assert result.reweighting.ess > 100
    assert len(got["weight"]) == 120
    np.testing.assert_allclose(got["ab"], got["a"] * got["b"] + 3, rtol=1e-6)
    assert load_samples(root, combined=True)


def test_recomputing(tmp_path):
    root = str(tmp_path / "run")
    run(info(recompute="20d", n_samples=500, max_evaluations=9), output=root)
    got = columns(root)
    np.testing.assert_array_equal(got["weight"], np.ones(60))
    np.testing.assert_allclose(got["ab"], got["a"] * got["b"] + 3, rtol=1e-6)
    with pytest.raises(LoggedError, match="either 'reweight' or 'recompute'"):
        run(info(reweight=10, recompute=10))


# Post-processing


def test_post_adds_and_removes(finished):
    root = finished[0]
    block = {
        "add": {
            "likelihood": {"three": {"external": "lambda a: -0.5 * (a - 0.2)**2 / 4"}},
            "params": {"twice": {"derived": "lambda a: 2 * a"}},
        },
        "suffix": "more",
    }
    _, more = run({"output": str(root), "post": deepcopy(block)})
    sample = more.samples(combined=True)
    np.testing.assert_allclose(sample["twice"], 2 * sample["a"], rtol=1e-6)
    block = {
        "remove": {"likelihood": {"first": None}},
        "add": {"likelihood": {"first": deepcopy(INFO["likelihood"]["first"])}},
        "suffix": "exact",
    }
    _, exactly = run({"output": str(root), "post": block})
    weights = exactly.samples(combined=True)["weight"].to_numpy(dtype=float)
    assert weights.sum() ** 2 / (weights**2).sum() > 0.99 * 4000


# Other processes

SLOW = """
import sys, time
def like(a, b):
    time.sleep({seconds})
    return -0.5 * (a**2 + (b - 0.5 * a)**2 / 0.25)
"""


def environment(folder):
    return os.environ | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"}


COBAYA_RUN = "import sys; from cobaya.run import run_script; [run_script(words.split('|')) for words in sys.argv[1:]]"


def written(folder, *, seconds, **sampler):
    """A yaml file with a slow likelihood, in a folder."""
    (folder / "slow_like.py").write_text(SLOW.format(seconds=seconds), encoding="utf-8")
    box = {"prior": {"min": -5, "max": 5}}
    document = {
        "likelihood": {"slow": {"external": "import_module('slow_like').like"}},
        "params": {"a": dict(box), "b": dict(box), "s": {"derived": "lambda a, b: a + b"}},
        "sampler": {"surrogate": {"seed": 1, "n_samples": 200} | sampler},
    }
    name = f"model{len(list(folder.glob('*.yaml')))}.yaml"
    (folder / name).write_text(yaml_dump(document), encoding="utf-8")
    return str(folder / name)


@pytest.fixture
def cobaya_run(tmp_path, monkeypatch):
    """The command ``cobaya-run`` in this process."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield lambda *words: run_script([str(word) for word in words])
    for name in ("slow_like", "curve_theory"):
        sys.modules.pop(name, None)


def journal_of(root):
    path = Path(f"{root}_surrogate") / "evaluations.jsonl"
    return [json.loads(line)["x"] for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


@pytest.mark.slow
def test_resumes_after_sigkill(tmp_path, cobaya_run):
    model, root = written(tmp_path, seconds=0.3), str(tmp_path / "killed")
    command = [sys.executable, "-m", "cobaya", "run", model, "-o", root]
    process = subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while len(journal_of(root)) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = journal_of(root)
    assert len(before) >= 3
    model = written(tmp_path, seconds=0)
    cobaya_run(model, "-o", root, "-r")
    cobaya_run(model, "-o", tmp_path / "whole")
    assert journal_of(root)[: len(before)] == before
    assert len(before) < len(journal_of(root))
    assert sorted(journal_of(root)) == sorted(journal_of(tmp_path / "whole"))
    np.testing.assert_array_equal(np.loadtxt(f"{root}.1.txt"), np.loadtxt(tmp_path / "whole.1.txt"))


def mpirun(n, *runs):
    """The command of several runs of Cobaya on n ranks, one after the other, whichever MPI there is."""
    flags = ["--allow-run-as-root", "--oversubscribe"] if shutil.which("ompi_info", path=BIN) else []
    words = ["|".join(map(str, run)) for run in runs]
    return [shutil.which("mpirun", path=BIN), *flags, "-n", str(n), sys.executable, "-c", COBAYA_RUN, *words]


BIN = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
needs_mpi = pytest.mark.skipif(
    shutil.which("mpirun", path=BIN) is None or importlib.util.find_spec("mpi4py") is None,
    reason="there is no MPI here",
)


@pytest.mark.slow
@needs_mpi
def test_ranks_make_the_same_run_and_resume_that_of_another_number(tmp_path, cobaya_run):
    serial, parallel = str(tmp_path / "serial"), str(tmp_path / "parallel")
    model = written(tmp_path, seconds=0, max_evaluations=8)
    larger = written(tmp_path, seconds=0, max_evaluations=40)
    cobaya_run(model, "-o", serial)
    begun = sorted(journal_of(serial)), np.loadtxt(f"{serial}.1.txt")
    both = mpirun(2, (model, "-o", parallel), (larger, "-o", serial, "-r"))
    subprocess.run(both, env=environment(tmp_path), check=True, capture_output=True)
    assert begun[0] == sorted(journal_of(parallel))
    np.testing.assert_array_equal(begun[1], np.loadtxt(f"{parallel}.1.txt"))
    assert yaml_load_file(f"{parallel}.checkpoint")["sampler"]["surrogate"]["mpi_size"] == 2
    cobaya_run(larger, "-o", parallel, "-r")
    for prefix in (serial, parallel):
        assert yaml_load_file(f"{prefix}.checkpoint")["sampler"]["surrogate"]["converged"]
    np.testing.assert_array_equal(np.loadtxt(f"{serial}.1.txt"), np.loadtxt(f"{parallel}.1.txt"))


THEORY = """
import numpy as np
from cobaya.likelihood import Likelihood
from cobaya.theory import Theory

class Curve(Theory):
    speed = 1
    params = {"a": None, "b": None}

    def get_can_provide(self):
        return ["curve"]

    def calculate(self, state, want_derived=True, a=0.0, b=0.0):
        state["curve"] = np.exp(0.3 * a * np.linspace(0.0, 1.0, 8)) + b * np.linspace(0.0, 1.0, 8) ** 2

    def get_curve(self):
        return self.current_state["curve"]

class Data(Likelihood):
    speed = 1000

    def get_requirements(self):
        return {"curve": None}

    def logp(self, _derived=None, **_):
        return -0.5 * float(((self.provider.get_curve() - 1.2) ** 2).sum()) / 0.05**2
"""


@pytest.mark.slow
@needs_mpi
def test_ranks_that_emulate_make_the_same_run(tmp_path, cobaya_run):
    """All ranks take the choice of rank 0, and stop with it."""
    (tmp_path / "curve_theory.py").write_text(THEORY, encoding="utf-8")
    box = {"prior": {"min": -2, "max": 2}}
    document = {
        "theory": {"curve_theory.Curve": None},
        "likelihood": {"curve_theory.Data": None},
        "params": {"a": dict(box), "b": dict(box)},
        "sampler": {"surrogate": {"seed": 1, "n_samples": 200, "emulate": "auto"}},
    }
    (tmp_path / "model.yaml").write_text(yaml_dump(document), encoding="utf-8")
    model, serial, parallel = (str(tmp_path / name) for name in ("model.yaml", "serial", "parallel"))
    both = mpirun(2, (model, "-o", parallel))
    subprocess.run(both, env=environment(tmp_path), check=True, capture_output=True, timeout=300)
    cobaya_run(model, "-o", serial)
    for prefix in (serial, parallel):
        assert yaml_load_file(f"{prefix}.updated.yaml")["sampler"]["surrogate"]["emulate"] == ["curve_theory.Curve"]
        assert yaml_load_file(f"{prefix}.checkpoint")["sampler"]["surrogate"]["converged"]
    assert sorted(journal_of(serial)) == sorted(journal_of(parallel))
    np.testing.assert_array_equal(np.loadtxt(f"{serial}.1.txt"), np.loadtxt(f"{parallel}.1.txt"))


@pytest.mark.slow
def test_executor_of_processes():
    _, sampler = run(info(executor="processes:2", max_evaluations=12))
    assert len({reason for reason in sampler.products()["result"].data.reasons if reason}) == 0


@pytest.mark.slow
def test_processes_that_evaluate_load_no_torch():
    problem = problem_of(info())
    likelihood, point = problem.log_likelihood, np.array([0.1, 0.2, 0.3])
    with ProcessExecutor(1, likelihood) as executor:
        assert executor.submit(likelihood, point).result(300) == likelihood(point)
        assert executor.submit(functions.heavy_modules, point).result(300) == 0.0


def test_fast_points_count_slow_and_fast_calls(caplog):
    _, sampler = run(info(speeds={"fast_points": 2, "fast_params": ["c"]}, max_evaluations=12))
    x = sampler.products()["result"].data.x
    np.testing.assert_array_equal(x[0, :2], x[1, :2])
    assert x[0, 2] != x[1, 2]
    assert "slow calls, and" in caplog.text


def test_command_takes_a_cobaya_file(tmp_path, monkeypatch):
    from surrogate.cli.main import main

    monkeypatch.setattr("surrogate.output.report.report_html", lambda *_, **__: "")  # pictures take seconds

    path = tmp_path / "model.yaml"
    path.write_text(yaml_dump(info(max_evaluations="4d")), encoding="utf-8")
    folder = tmp_path / "run"
    assert main(["run", str(path), "-o", str(folder), "--quiet"]) in (0, 3)
    assert len((folder / "evaluations.jsonl").read_text(encoding="utf-8").splitlines()) == 12
    assert "ab*" in (folder / "chain.paramnames").read_text(encoding="utf-8")
