"""Emulated theories in Cobaya: the products that likelihoods ask for, and runs that learn them, on small theories."""

from __future__ import annotations

import pickle
from collections import Counter
from copy import deepcopy

import numpy as np
import pytest

pytest.importorskip("cobaya", reason="Cobaya is an extra: pip install surrogate-inference[cobaya]")

from cobaya.likelihood import Likelihood
from cobaya.log import LoggedError
from cobaya.model import get_model
from cobaya.run import run
from cobaya.theory import Theory

from surrogate.interfaces.cobaya import likelihoods_of, prior_of
from surrogate.interfaces.cobaya.emulation import CobayaObservables, Pipeline, UnsuitedError, chosen, emulated
from surrogate.interfaces.cobaya.files import OutputFiles
from surrogate.interfaces.cobaya.requests import Leaf, Product
from surrogate.problem.target import Posterior

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Cobaya's and its dependencies'


CALLS: Counter[str] = Counter()  # not an attribute of the class, which Cobaya would take for an option


class Curve(Theory):
    """A curve, spectra in a dict, and a derived parameter."""

    speed = 1
    params = {"a": None, "b": None, "size": {"derived": True}}

    def get_can_provide(self):
        return ["curve", "spectra", "interpolator"]

    def calculate(self, state, want_derived=True, a=0.0, b=0.0):
        CALLS["curve"] += 1
        if a > 1.9:
            return False
        state["a"], state["b"] = a, b
        state["derived"] = {"size": a**2 + b}
        return True

    def get_curve(self, z, units="1"):
        s = self.current_state
        return {"1": 1.0, "k": 1e-3}[units] * (np.exp(s["a"] * np.asarray(z)) + s["b"] * np.asarray(z) ** 2)

    def get_spectra(self):
        ell = np.arange(40)
        s = self.current_state
        return {"ell": ell, "tt": s["a"] * ell + s["b"], "ee": s["b"] * np.ones(40), "bb": np.full(40, s["a"])}

    def get_interpolator(self):
        return lambda k: self.current_state["a"] * k


class Data(Likelihood):
    """A comparison of the curve, times a calibration, with data."""

    params = {"cal": None}
    z = np.linspace(0.0, 1.0, 12)

    def get_requirements(self):
        return {"curve": None, "size": None}

    def logp(self, _derived=None, cal=1.0, **_):
        r = (cal * self.provider.get_curve(self.z) - np.exp(0.5 * self.z) - 0.3 * self.z**2) / 0.02
        return -0.5 * float(r @ r) - 0.5 * ((self.provider.get_param("size") - 0.55) / 0.2) ** 2


class Spectra(Likelihood):
    """A comparison of parts of two spectra, with a derived parameter of its own."""

    params = {"chance": {"derived": True}}

    def get_requirements(self):
        return {"spectra": None}

    def logp(self, _derived=None, **_):
        spectra = self.provider.get_spectra()
        value = (
            float((spectra["tt"][spectra["ell"]][5:20]).mean() - 6.3) ** 2
            + float(spectra.get("ee")[:3].sum() - 0.9) ** 2
        )
        if _derived is not None:
            _derived["chance"] = value
        return -0.5 * value / 0.1


class Moving(Likelihood):
    """A likelihood that asks for other places at each value of a nuisance parameter."""

    params = {"cal": None}

    def get_requirements(self):
        return {"curve": None}

    def logp(self, _derived=None, cal=1.0, **_):
        return -0.5 * float((self.provider.get_curve(np.array([0.1, cal])) ** 2).sum())


class Interpolated(Likelihood):
    """A likelihood that asks for a function."""

    def get_requirements(self):
        return {"interpolator": None}

    def logp(self, _derived=None, **_):
        return -0.5 * self.provider.get_interpolator()(2.0) ** 2


def info(*likelihoods, **sampler):
    params = {
        "a": {"prior": {"min": -1, "max": 2}, "ref": {"dist": "norm", "loc": 0.5, "scale": 0.1}},
        "b": {"prior": {"min": -2, "max": 2}, "ref": {"dist": "norm", "loc": 0.3, "scale": 0.1}},
        "size": {"latex": "s"},
    }
    if {Data, Moving} & set(likelihoods):
        params["cal"] = {"prior": {"dist": "norm", "loc": 1, "scale": 0.02}}
    if Spectra in likelihoods:
        params["chance"] = {"latex": "c"}
    return {
        "theory": {"curve": Curve},
        "likelihood": {kind.__name__.lower(): kind for kind in likelihoods},
        "params": params,
        "sampler": {"surrogate": {"seed": 1, "n_samples": 500, "use_ref": False, **sampler}},
    }


def model_of(*likelihoods):
    given = deepcopy(info(*likelihoods))
    return get_model({key: given[key] for key in ("theory", "likelihood", "params")})


def pipeline_of(*likelihoods):
    model = model_of(*likelihoods)
    point = np.array([{"a": 0.5, "b": 0.3, "cal": 1.0}[name] for name in model.parameterization.sampled_params()])
    return Pipeline(model, prior_of(model).bounds, ["curve"], point)


def points(model, n=6):
    rng = np.random.default_rng(3)
    x = np.array([model.prior.sample(random_state=rng)[0] for _ in range(n)])
    x[:, 0] = np.minimum(x[:, 0], 1.8)
    return x


# Products


def test_the_comparison_of_recorded_products_is_the_log_likelihood_of_cobaya():
    """Bit for bit, at points that the theory has computed."""
    pipeline = pipeline_of(Data, Spectra)
    names = list(pipeline.model.parameterization.sampled_params())
    assert (pipeline.slow_parameters, pipeline.fast_parameters) == (("a", "b"), ("cal",))
    for x in points(pipeline.model):
        expected = float(np.sum(pipeline.model.logposterior(x, cached=False).loglikes))
        outputs = pipeline.outputs()
        assert pipeline.compare(outputs, dict(zip(names, x, strict=True))) == expected
        other = x.copy()
        other[names.index("cal")] += 0.01
        calls = CALLS["curve"]
        value = pipeline.compare(outputs, dict(zip(names, other, strict=True)))
        assert CALLS["curve"] == calls  # a fast parameter costs no call
        assert value == float(np.sum(pipeline.model.logposterior(other).loglikes))


def test_comparisons_leave_no_trace_in_cobaya():
    pipeline = pipeline_of(Data)
    x = points(pipeline.model, 1)[0]
    names = list(pipeline.model.parameterization.sampled_params())
    before = pipeline.model.logposterior(x)
    outputs = pipeline.outputs()
    pipeline.compare({name: 2.0 * values for name, values in outputs.items()}, dict(zip(names, x, strict=True)))
    assert pipeline.model.logposterior(x).logpost == before.logpost


def test_only_what_matters_is_kept():
    pipeline = pipeline_of(Spectra)
    outputs = pipeline.outputs()
    assert {name.split(".")[-1]: np.shape(values) for name, values in outputs.items()} == {"tt": (15,), "ee": (3,)}
    np.testing.assert_array_equal(next(iter(outputs.values())), 0.5 * np.arange(5, 20) + 0.3)


def test_products_travel_to_other_processes_without_a_call():
    pipeline = pipeline_of(Data)
    calls = CALLS["curve"]
    again = pickle.loads(pickle.dumps(pipeline))
    assert CALLS["curve"] == calls
    x = points(pipeline.model, 1)[0]
    target = [Posterior(CobayaObservables.of(p), prior_of(p.model)) for p in (pipeline, again)]
    first, second = (t.evaluate(x) for t in target)
    assert (first.y, first.derived, first.outputs) == (second.y, second.derived, second.outputs)


def test_evaluations_have_derived_parameters_chi2s_and_outputs():
    pipeline = pipeline_of(Data, Spectra)
    target = Posterior(CobayaObservables.of(pipeline), prior_of(pipeline.model))
    x = np.array([0.4, 0.2, 1.01])
    evaluation = target.evaluate(x)
    expected = pipeline.model.logposterior(x)
    assert evaluation.y == float(np.sum(expected.loglikes))
    assert evaluation.derived["size"] == 0.4**2 + 0.2
    assert evaluation.derived["chi2__data"] == -2.0 * expected.loglikes[0]
    assert target.observables.compared(evaluation.outputs, x).y == evaluation.y
    assert target.evaluate(np.array([1.95, 0.2, 1.0])).status == "infeasible"


def test_the_chi2_of_a_type_is_the_sum_over_its_likelihoods(monkeypatch):
    monkeypatch.setattr(Data, "type", "shape", raising=False)
    monkeypatch.setattr(Spectra, "type", ["shape", "power"], raising=False)
    pipeline = pipeline_of(Data, Spectra)
    x = points(pipeline.model, 1)[0]
    names = list(pipeline.model.parameterization.sampled_params())
    expected = pipeline.model.logposterior(x)
    found = pipeline.chi2s(pipeline.outputs(), dict(zip(names, x, strict=True)))
    one, other = -2.0 * expected.loglikes
    assert found == {"chi2__data": one, "chi2__spectra": other, "chi2__shape": one + other, "chi2__power": other}
    alone = pipeline.chi2s(pipeline.outputs(), dict(zip(names, x, strict=True)), ["data"])
    assert alone == {"chi2__data": one}


# What cannot be emulated


@pytest.mark.parametrize(
    ("likelihood", "reason"),
    [
        (Interpolated, r"get_interpolator\(\): the answer holds a function"),
        (Moving, r"get_curve.*has arguments that change between calls"),
    ],
)
def test_what_cannot_be_learned_is_said(likelihood, reason, caplog):
    with pytest.raises(UnsuitedError, match=reason):
        pipeline_of(likelihood)
    with pytest.raises(LoggedError, match="emulate: theory is impossible"):
        run(info(likelihood, emulate="theory"))
    model = model_of(likelihood)
    with caplog.at_level("INFO"):
        found = emulated(model, prior_of(model).bounds, "auto", np.random.default_rng(1), model.log)
    assert found is None
    assert "auto chose none" in caplog.text


def test_shapes_that_change_are_failures():
    pipeline = pipeline_of(Data)
    product = next(p for p in pipeline.desk.products.values() if p.method == "get_curve")
    with pytest.raises(UnsuitedError, match=r"the shape of curve.* changes from \(12,\) to \(3,\)"):
        product.parts(np.zeros(3))


def test_arrays_may_have_another_length_where_their_last_entries_are_not_used():
    """Spectra end at a multipole that depends on the parameters; as failures they would cut off the posterior."""
    spectrum = Leaf("tt", ("tt",), np.arange(20.0), 2, 15)
    multipoles = Leaf("ell", ("ell",), np.arange(20), learned=False)
    product = Product("theory", "get_Cl", (), {}, "dict", (multipoles, spectrum))
    for length in (15, 17, 30):
        found = product.parts({"tt": np.arange(float(length)) + 0.5, "ell": np.arange(length)})
        np.testing.assert_array_equal(found["tt"], np.arange(2, 15) + 0.5)
    with pytest.raises(UnsuitedError, match=r"the shape of tt changes from \(20,\) to \(14,\)"):
        product.parts({"tt": np.arange(14.0), "ell": np.arange(14)})
    with pytest.raises(UnsuitedError, match="ell is a constant that changes"):
        product.parts({"tt": np.arange(20.0), "ell": np.arange(20) + 1})


def test_cheap_theories_are_not_emulated_by_default(monkeypatch):
    monkeypatch.setattr(Curve, "speed", 1e9)
    monkeypatch.setattr(Data, "speed", 1e3)
    model = model_of(Data)
    assert emulated(model, prior_of(model).bounds, "auto", np.random.default_rng(1), model.log) is None


def test_auto_is_the_default_and_says_what_it_chose(caplog):
    wanted = info(Data)
    wanted["likelihood"]["data"] = {"external": Data, "speed": 1000}
    with caplog.at_level("INFO"):
        updated, _ = run(deepcopy(wanted), test=True)
    assert updated["sampler"]["surrogate"]["emulate"] == ["curve"]
    assert "emulate: auto chose theory, since its calls are the cost of the run: 13 numbers of curve" in caplog.text


@pytest.mark.parametrize(
    ("speeds", "sampler", "reason"),
    [
        ((1000, 1e6), {}, "theories take 0.001 s per call, less than 0.005 s"),
        ((1, 2), {}, "theories take 1 s per call, less than 10 times the 0.5 s of the likelihoods"),
        ((1, 1000), {"executor": "files:calls"}, r"the executor files:... cannot carry products"),
        ((1, 1000), {"integers": ["a"]}, "the option integers is for learned log-likelihoods alone"),
    ],
)
def test_auto_learns_the_log_likelihood_where_that_is_better_or_safer(speeds, sampler, reason, caplog):
    wanted = info(Data, **sampler)
    wanted["theory"]["curve"] = {"external": Curve, "speed": speeds[0]}
    wanted["likelihood"]["data"] = {"external": Data, "speed": speeds[1]}
    with caplog.at_level("INFO"):
        updated, _ = run(wanted, test=True)
    assert updated["sampler"]["surrogate"]["emulate"] == "none"
    assert "emulate: auto chose none, so the log-likelihood is learned: " + reason in caplog.text


def test_auto_without_a_theory(caplog):
    with caplog.at_level("INFO"):
        run(
            {
                "likelihood": {"one": "lambda a: -0.5 * a**2"},
                "params": {"a": {"prior": {"min": -5, "max": 5}}},
                "sampler": {"surrogate": {}},
            },
            test=True,
        )
    assert "auto chose none, so the log-likelihood is learned: the model has no theory to emulate" in caplog.text


def test_auto_leaves_a_model_that_it_cannot_emulate_as_it_was():
    model = model_of(Interpolated)
    before = dict(model.provider.requirement_providers)
    assert emulated(model, prior_of(model).bounds, "auto", np.random.default_rng(1), model.log) is None
    assert model.provider.requirement_providers == before


def test_auto_takes_a_component_that_raises_for_one_that_cannot_be_emulated(monkeypatch, caplog):
    def raises(*_, **__):
        raise RuntimeError("no such table")

    model = model_of(Data)
    monkeypatch.setattr(Data, "logp", raises)
    with caplog.at_level("INFO"):
        assert emulated(model, prior_of(model).bounds, "auto", np.random.default_rng(1), model.log) is None
    assert "auto chose none" in caplog.text


@pytest.mark.parametrize("given", ["theroy", 3, [], [1]])
def test_other_options_are_refused(given):
    with pytest.raises(ValueError, match="emulate must be one of auto, theory, none, or a list"):
        chosen(given)


def test_unknown_theories_are_refused():
    with pytest.raises(LoggedError, match="the model has no theory 'curv'"):
        run(info(Data, emulate=["curv"]))


@pytest.mark.parametrize(("given", "kept"), [("theory", ["curve"]), ("auto", ["curve"]), ("none", "none")])
def test_the_choice_is_written_so_that_a_resumed_run_makes_it_again(given, kept, tmp_path):
    wanted = info(Data, emulate=given)
    wanted["likelihood"]["data"] = {"external": Data, "speed": 1000}  # auto goes by the speeds
    updated, _ = run(wanted, output=str(tmp_path / "run"), test=True)
    assert updated["sampler"]["surrogate"]["emulate"] == kept


# Runs


def exact(n=60):
    """Mean of a, and log evidence, of the model with ``Data``, by Gauss-Legendre sums over a, b and the calibration."""
    nodes, weights = np.polynomial.legendre.leggauss(n)

    def axis(low, high):
        return low + 0.5 * (high - low) * (nodes + 1.0), 0.5 * (high - low) * weights

    (a, wa), (b, wb), (c, wc) = axis(0.0, 1.0), axis(-0.5, 0.9), axis(0.9, 1.1)
    f = np.exp(a[:, None, None] * Data.z) + b[:, None] * Data.z**2
    data = np.exp(0.5 * Data.z) + 0.3 * Data.z**2
    ff, fd, dd = (f**2).sum(2), (f * data).sum(2), data @ data
    chi2 = (c**2 * ff[..., None] - 2.0 * c * fd[..., None] + dd) / 0.02**2
    size = a[:, None] ** 2 + b
    log_prior = -0.5 * ((c - 1.0) / 0.02) ** 2 - np.log(0.02 * np.sqrt(2.0 * np.pi)) - np.log(3.0 * 4.0)
    density = np.exp(-0.5 * chi2 - 0.5 * ((size - 0.55) / 0.2)[..., None] ** 2 + log_prior)
    mass = density * wa[:, None, None] * wb[:, None] * wc
    return float((mass.sum((1, 2)) @ a) / mass.sum()), float(np.log(mass.sum()))


@pytest.mark.slow
def test_a_likelihood_of_a_run_alone_without_a_call():
    """The evidence of one likelihood, from a run with two."""
    _, sampler = run(info(Data, Spectra, emulate="theory"))
    result = sampler.products()["result"]
    model, columns = model_of(Data, Spectra), [result.derived_names.index(f"chi2__{n}") for n in ("data", "spectra")]
    chi2 = np.array([-2.0 * model.logposterior(x, cached=False).loglikes for x in result.samples[:50]])
    np.testing.assert_allclose(result.derived[:50, columns], chi2, atol=0.03, rtol=0.01)  # sds are 2.0 and 1.4
    calls = CALLS["curve"]
    alone = result.compare_with(likelihoods_of(result, ["data"]), n_samples=500)
    assert CALLS["curve"] == calls
    mean, log_evidence = exact()
    assert abs(alone.log_evidence - log_evidence) < 5.0 * alone.log_evidence_error + 0.02
    assert abs(alone.mean[0] - mean) < 0.2 * alone.sd[0]
    with pytest.raises(ValueError, match=r"likelihoods of the model \(data, spectra\), got \['date'\]"):
        likelihoods_of(result, ["date"])


@pytest.mark.slow
def test_a_chain_is_written_while_a_run_with_emulated_theories_goes_on(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(OutputFiles, "write_chain", lambda _, columns: written.append(columns))
    given = info(Data, emulate="theory", interim_every=1, max_evaluations=9, n_samples=100)
    _, sampler = run(given, output=str(tmp_path / "run"))
    assert sampler.products()["result"].n_evaluations <= 9
    assert len(written) >= 2


@pytest.mark.slow
def test_a_run_is_exact_at_fewer_calls_than_the_scalar_way_and_resumes(tmp_path):
    found = {}
    for way in ("theory", "none"):
        CALLS.clear()
        _, sampler = run(info(Data, emulate=way), output=str(tmp_path / way))
        found[way] = (CALLS["curve"], sampler.products()["result"])
    (few, emulation), (many, scalar) = found["theory"], found["none"]
    assert emulation.converged
    assert scalar.converged
    assert few == emulation.n_evaluations + 1  # one call to note the products
    assert few < many
    mean, log_evidence = exact()
    assert abs(emulation.log_evidence - log_evidence) < 5.0 * emulation.log_evidence_error + 0.01
    assert abs(emulation.mean[0] - mean) < 0.1 * emulation.sd[0]
    updated, again = run(info(Data, emulate="theory"), output=str(tmp_path / "theory"), resume=True)
    assert updated["sampler"]["surrogate"]["emulate"] == ["curve"]
    assert again.products()["result"].n_evaluations == emulation.n_evaluations
