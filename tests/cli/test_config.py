import dataclasses
import inspect
import sys
import textwrap

import numpy as np
import pytest
import scipy.stats
import yaml

import surrogate
from surrogate.cli.config import DEFAULTS, build, read_config, write_config
from surrogate.problem.evaluation import Evaluation
from surrogate.storage.journal import Entry, Journal

MODEL = """
def log_likelihood(x):
    return -0.5 * (x[0] ** 2 + x[1] ** 2)

class Things:
    @staticmethod
    def inside(x):
        return 0.0

constant = 3
"""

PLAIN = """
likelihood: {model}:log_likelihood
parameters:
  a: [0, 1]
  b: {{prior: {{dist: norm, loc: 0, scale: 2}}, label: '\\beta'}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a likelihood in a module of a name of its own, and a path that is put back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"model_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODEL)
    yield tmp_path
    sys.modules.pop(name, None)


def write(folder, text, **changes):
    path = folder / "run.yaml"
    path.write_text(textwrap.dedent(text).format(model=f"model_{folder.name}", **changes))
    return path


def read(folder, text, **changes):
    return read_config(write(folder, text, **changes))


def with_parameters(folder, parameters):
    return read(folder, f"likelihood: {{model}}:log_likelihood\nparameters: {parameters}")


def with_options(folder, options):
    return read(folder, PLAIN + f"options: {options}")


def test_a_plain_file(folder):
    config = read(folder, PLAIN)
    assert config.log_likelihood([1.0, 1.0]) == -1.0
    assert config.prior.names == ("a", "b")
    assert config.prior.labels == ("a", r"\beta")
    x = np.array([[0.5, 1.0]])
    np.testing.assert_allclose(config.prior.log_density(x), scipy.stats.norm(0, 2).logpdf(1.0))
    assert config.options == {}


@pytest.mark.parametrize(
    ("spec", "bounds"),
    [
        ("[-1, 2]", (-1.0, 2.0)),
        ("{{min: -1, max: 2}}", (-1.0, 2.0)),
        ("{{prior: [-1, 2], periodic: true}}", (-1.0, 2.0)),
        ("[1e-3, 1e3]", (1e-3, 1e3)),  # text to YAML 1.1
        ("{{prior: {{dist: norm}}}}", (-np.inf, np.inf)),
        ("{{prior: {{dist: gamma, a: 2}}}}", (0.0, np.inf)),
        ("{{prior: {{dist: uniform, loc: 1e0, scale: 3}}}}", (1.0, 4.0)),
    ],
)
def test_priors(folder, spec, bounds):
    prior = with_parameters(folder, f"{{{{a: {spec}}}}}").prior
    np.testing.assert_array_equal(prior.bounds[0], bounds)


def test_categories_and_where_a_parameter_acts(folder):
    kind = "kind: {{categories: [p, q], weights: {{p: 1, q: 3}}}}, n: {{integers: [0, 1]}}"
    only = "a: {{prior: [0, 1], only: {{kind: [q], n: [1]}}}}"
    prior = with_parameters(folder, "{{" + kind + ", " + only + "}}").prior
    assert prior.parameters[0].prior.weights == (0.25, 0.75)
    assert prior.levels.acts[:, 2].tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    "likelihood",
    [
        "{model}:log_likelihood",
        "{model}.py:log_likelihood",
        "{{file: {model}.py, function: log_likelihood}}",
        "{model}:Things.inside",
    ],
)
def test_ways_to_name_the_likelihood(folder, likelihood):
    config = read(
        folder, f"likelihood: '{likelihood}'".replace("'{{", "{{").replace("}}'", "}}") + "\nparameters: {{a: [0, 1]}}"
    )
    assert config.log_likelihood([0.0, 0.0]) == 0.0


def test_a_likelihood_of_an_installed_package_keeps_its_name(folder):
    config = read(folder, "likelihood: likelihoods.desi:log_likelihood\nparameters: {{a: [0, 1]}}")
    assert config.document["likelihood"] == "likelihoods.desi:log_likelihood"


def test_options(folder):
    config = with_options(
        folder,
        "{{seed: 3, max_evaluations: 1e2, max_walltime: 1e4, executor: 'processes:2', vectorized: true, device: null,"
        " feasibility: svm, explore: fast,"
        " reference: {{b: 2, a: 1}}}}",
    )
    assert config.options.pop("reference").tolist() == [1.0, 2.0]
    assert config.options == {
        "seed": 3,
        "max_evaluations": 100,
        "max_walltime": 1e4,
        "executor": "processes:2",
        "vectorized": True,
        "device": None,
        "feasibility": "svm",
        "explore": "fast",
    }
    assert isinstance(config.options["max_evaluations"], int)


def test_reference_with_standard_deviations(folder):
    mean, sd = with_options(folder, "{{reference: {{a: [0.5, 0.1], b: [1, 1e-2]}}}}").options["reference"]
    assert (mean.tolist(), sd.tolist()) == ([0.5, 1.0], [0.1, 0.01])


def test_initial_points_of_a_table(folder):
    (folder / "old.csv").write_text("b, log_likelihood, a\n1, -2.5, 0.1\n2, -inf, 0.2\n")
    x, y = with_options(folder, "{{initial: old.csv}}").options["initial"]
    assert x.tolist() == [[0.1, 1.0], [0.2, 2.0]]
    assert y.tolist() == [-2.5, -np.inf]


def test_initial_points_of_another_run(folder):
    journal = Journal(folder / "evaluations.jsonl")
    answers = [Evaluation(-1.0, "ok"), Evaluation.failure("no"), Evaluation(-np.inf, "infeasible")]
    for index, evaluation in enumerate(answers):
        journal.append(Entry(0, index, np.array([0.1 * index, 1.0]), evaluation))
    x, y = with_options(folder, "{{initial: evaluations.jsonl}}").options["initial"]
    assert x.tolist() == [[0.0, 1.0], [0.2, 1.0]]
    assert y.tolist() == [-1.0, -np.inf]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("likelihod: x", "unknown key 'likelihod'; did you mean 'likelihood'.*allowed: likelihood, parameters"),
        ("parameters: {{a: [0, 1]}}", "likelihood is missing"),
        ("likelihood: m:f", "parameters is missing"),
        ("", "must be a mapping of keys to values, got None"),
        ("- 1", r"must be a mapping of keys to values, got \[1\]"),
        ("a: [1", "line 1: .*expected"),
        ("likelihood: m:f\nlikelihood: m:g", "line 1: 'likelihood' appears twice"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("likelihood: m\nparameters: {{a: [0, 1]}}", "likelihood must be 'package.module:function'.*got 'm'"),
        ("likelihood: nowhere.py:f\nparameters: {{a: [0, 1]}}", "there is no file .*nowhere.py"),
        (
            "likelihood: no_such_module:f\nparameters: {{a: [0, 1]}}",
            "importing no_such_module failed with ModuleNotFound",
        ),
        ("likelihood: {model}:loglikelihood\nparameters: {{a: [0, 1]}}", "did you mean 'log_likelihood'"),
        ("likelihood: {model}:constant\nparameters: {{a: [0, 1]}}", "constant must be a function, got int"),
        ("likelihood: {{fil: x.py}}\nparameters: {{a: [0, 1]}}", "likelihood: unknown key 'fil'; did you mean 'file'"),
        ("likelihood: {{file: x.txt, function: f}}\nparameters: {{a: [0, 1]}}", "must end in .py, got 'x.txt'"),
    ],
)
def test_mistakes_in_the_file(folder, text, message):
    with pytest.raises(ValueError, match=f"run.yaml: .*{message}"):
        read(folder, text)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("{{a: [0, 1, 2]}}", r"parameters.a must be two numbers \[low, high\], got \[0, 1, 2\]"),
        ("{{a: [0, x]}}", "parameters.a must be a number, got 'x'"),
        ("{{a: [0, true]}}", "parameters.a must be a number, got True"),
        ("{{a: 3}}", r"parameters.a must be \[low, high\] or a mapping"),
        ("{{a: [1, 0]}}", "'a'"),
        ("{{yes: [0, 1]}}", "names of parameters must be text, got True: put it in quotes"),
        ("{{a: {{min: 0}}}}", r"two numbers \[low, high\], got \[0, None\]"),
        ("{{a: {{min: 0, max: 1, prior: [0, 1]}}}}", "either min and max, or prior, got min, max, prior"),
        ("{{a: {{label: x}}}}", "either min and max, or prior, got label"),
        ("{{a: {{minimum: 0}}}}", "parameters.a: unknown key 'minimum'; did you mean 'min'.*allowed: prior, min, max"),
        ("{{a: {{min: 0, max: 1, periodic: 1}}}}", "periodic must be true or false, got 1"),
        ("{{a: {{min: 0, max: 1, label: 1}}}}", "label must be text, got 1"),
        ("{{a: {{prior: {{dist: nrm}}}}}}", "parameters.a.prior.dist: unknown key 'nrm'; did you mean 'norm'"),
        ("{{a: {{prior: {{dist: poisson, mu: 3}}}}}}", "unknown key 'poisson'"),
        ("{{a: {{prior: {{loc: 0}}}}}}", "parameters.a.prior must be a mapping with the key 'dist'"),
        ("{{a: {{prior: {{dist: norm, sigma: 1}}}}}}", "unknown key 'sigma'; .*allowed: dist, loc, scale"),
        ("{{a: {{prior: {{dist: norm, scale: wide}}}}}}", "parameters.a.prior.scale must be a number, got 'wide'"),
        ("{{a: {{prior: norm}}}}", r"parameters.a.prior must be \[low, high\] or a mapping"),
        ("{{a: {{prior: [0, 1], only: n}}}}", "parameters.a.only must be a mapping"),
        ("{{n: {{integers: [0, 1]}}, a: {{prior: [0, 1], only: {{n: 1}}}}}}", "a.only must have a list of values"),
        ("{{n: {{integers: [0, 1]}}, a: {{prior: [0, 1], only: {{n: [2]}}}}}}", "only= of 'a' must name values"),
        ("{{}}", "parameters is missing"),
    ],
)
def test_mistakes_in_the_parameters(folder, parameters, message):
    with pytest.raises(ValueError, match=f"run.yaml: .*{message}"):
        with_parameters(folder, parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{{sead: 1}}", "options: unknown key 'sead'; did you mean 'seed'"),
        ("{{output: here}}", "options: unknown key 'output'"),
        ("{{seed: 1.5}}", "options.seed must be a whole number, got 1.5"),
        ("{{max_evaluations: many}}", "options.max_evaluations must be a number, got 'many'"),
        ("{{vectorized: 1}}", "options.vectorized must be true or false, got 1"),
        ("{{executor: 4}}", "options.executor must be text, got 4"),
        ("{{reference: {{a: 1}}}}", "missing: b"),
        ("{{reference: {{a: 1, b: [1, 2]}}}}", "not a mixture of both"),
        ("{{reference: {{c: 1}}}}", "options.reference: unknown key 'c'"),
        ("{{initial: nothing.csv}}", "there is no file"),
        ("{{initial: run.yaml}}", "a .csv table or the evaluations.jsonl of a run"),
        ("[1]", "options must be a mapping"),
    ],
)
def test_mistakes_in_the_options(folder, options, message):
    with pytest.raises(ValueError, match=f"run.yaml: .*{message}"):
        with_options(folder, options)


def test_a_table_without_a_column_or_with_text_in_it(folder):
    (folder / "old.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="needs the columns a, b, log_likelihood; missing: log_likelihood"):
        with_options(folder, "{{initial: old.csv}}")
    (folder / "old.csv").write_text("a,b,log_likelihood\n1,2,3\n1,2,\n")
    with pytest.raises(ValueError, match="old.csv, row 2, log_likelihood must be a number, got ''"):
        with_options(folder, "{{initial: old.csv}}")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="nothing.yaml: cannot be read: No such file"):
        read_config(tmp_path / "nothing.yaml")


def test_a_module_that_fails_says_how(folder):
    (folder / f"broken_{folder.name}.py").write_text("import nothing_of_this_name")
    with pytest.raises(ValueError, match="failed with ModuleNotFoundError: No module named 'nothing_of_this_name'"):
        read(folder, f"likelihood: broken_{folder.name}.py:f\nparameters: {{{{a: [0, 1]}}}}")


def test_a_file_with_the_name_of_another_module_is_refused(folder):
    (folder / "json.py").write_text(MODEL)
    with pytest.raises(ValueError, match="json.py has the name of another module .*: rename the file"):
        read(folder, "likelihood: json.py:log_likelihood\nparameters: {{a: [0, 1]}}")


def test_what_is_written_is_read_back_from_anywhere(folder, tmp_path_factory):
    config = with_options(folder, "{{seed: 3, reference: {{a: 0.5, b: 1}}}}")
    path = tmp_path_factory.mktemp("run") / "config.yaml"
    write_config(config, path, overrides={"max_evaluations": 50})
    document = yaml.safe_load(path.read_text())
    assert document["options"] == DEFAULTS | {"seed": 3, "max_evaluations": 50, "reference": {"a": 0.5, "b": 1}}
    assert document["versions"]["surrogate"]
    again = read_config(path)
    assert again.log_likelihood is config.log_likelihood
    assert again.prior.names == config.prior.names
    np.testing.assert_array_equal(again.options["reference"], config.options["reference"])


def test_defaults_are_those_of_infer():
    from surrogate.inference.run import infer
    from surrogate.inference.settings import GivenSettings, Settings

    signature = inspect.signature(infer).parameters
    theirs = {name: parameter.default for name, parameter in signature.items()}
    more = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert list(more) == list(GivenSettings.__annotations__)
    for name in ("log_likelihood", "prior", "output", "progress", "resume", "settings"):
        theirs.pop(name)
    for name in ("callback", "fast"):
        more.pop(name)
    assert theirs | more == DEFAULTS


def test_build_makes_what_is_named():
    assert build({"kind": "int", "x": 3}, {"int": lambda x: x + 1}, key="kind", where="here") == 4
    with pytest.raises(ValueError, match="here.kind: unknown key 'itn'; did you mean 'int'"):
        build({"kind": "itn"}, {"int": int}, key="kind", where="here")
    with pytest.raises(ValueError, match="here: unknown key 'z'; allowed: kind, x"):
        build({"kind": "int", "z": 3}, {"int": lambda x: x}, key="kind", where="here")


SIMULATOR = """
import numpy as np

def simulate(a, b):
    return np.array([a, b, a + b])

def compare(outputs, parameters):
    return -float((outputs**2).sum()) - parameters["c"] ** 2
"""


def test_simulator_and_comparison(tmp_path):
    (tmp_path / "sim_model.py").write_text(SIMULATOR)
    parameters = "parameters: {a: [0, 1], b: [0, 1], c: [0, 1]}"
    path = tmp_path / "run.yaml"
    path.write_text(f"simulator: sim_model.py:simulate\ncompare: sim_model.py:compare\nslow: [a, b]\n{parameters}\n")
    config = read_config(path)
    assert isinstance(config.log_likelihood, surrogate.Observables)
    assert config.log_likelihood.slow == ("a", "b")
    found = surrogate.Posterior(config.log_likelihood, config.prior).evaluate([0.5, 0.25, 0.5])
    assert found.y == pytest.approx(-0.25 - 0.0625 - 0.5625 - 0.25)
    write_config(config, tmp_path / "again.yaml")
    assert read_config(tmp_path / "again.yaml").log_likelihood.slow == ("a", "b")
    np.savetxt(tmp_path / "y.txt", [0.1, 0.2, 0.3])
    np.save(tmp_path / "cov.npy", np.eye(3))
    path.write_text(
        "simulator: sim_model.py:simulate\ncompare: {data: y.txt, covariance: cov.npy}\n"
        "parameters: {a: [0, 1], b: [0, 1]}\n"
    )
    config = read_config(path)
    assert surrogate.Posterior(config.log_likelihood, config.prior).evaluate([0.1, 0.2]).y == pytest.approx(0.0)
    for text, message in (
        (f"simulator: sim_model.py:simulate\n{parameters}\n", "compare is missing"),
        (
            f"simulator: sim_model.py:simulate\ncompare: sim_model.py:compare\nslow: [q]\n{parameters}\n",
            "unknown key 'q'",
        ),
        (
            f"simulator: sim_model.py:simulate\ncompare: {{data: no.txt, covariance: cov.npy}}\n{parameters}\n",
            "no file",
        ),
        (f"simulator: sim_model.py:simulate\ncompare: {{data: y.txt}}\n{parameters}\n", "compare.covariance"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_config(path)
