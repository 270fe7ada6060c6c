"""Parameters, priors, and what becomes of everything that a likelihood may do."""

import functools
import inspect
import math
import re
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats as st
import torch

from surrogate.problem.evaluation import Evaluation
from surrogate.problem.prior import Parameter, Prior
from surrogate.problem.target import Posterior

# Name -> how a user writes the prior, and the same thing in scipy.
DENSITIES = {
    "box": ((-1.5, 2.0), st.uniform(-1.5, 3.5)),
    "box of integers": ([0, 3], st.uniform(0, 3)),
    "box as array": (np.array([2.0, 2.5]), st.uniform(2.0, 0.5)),
    "uniform": (st.uniform(-1, 3), st.uniform(-1, 3)),
    "uniform by keywords": (st.uniform(scale=3, loc=-1), st.uniform(-1, 3)),
    "uniform, standard": (st.uniform(), st.uniform()),
    "norm": (st.norm(1, 2), st.norm(1, 2)),
    "norm, scale alone": (st.norm(scale=0.3), st.norm(0, 0.3)),
    "norm, mixed": (st.norm(5, scale=0.1), st.norm(5, 0.1)),
    "lognorm": (st.lognorm(0.5), st.lognorm(0.5)),
    "truncnorm": (st.truncnorm(-1, 2, loc=3, scale=0.5), st.truncnorm(-1, 2, loc=3, scale=0.5)),
    "beta": (st.beta(2, 3), st.beta(2, 3)),
    "beta with infinite edges": (st.beta(0.5, 0.5), st.beta(0.5, 0.5)),
    "gamma": (st.gamma(2.5, scale=2), st.gamma(2.5, scale=2)),
    "expon": (st.expon(1, 2), st.expon(1, 2)),
    "loguniform": (st.loguniform(1e-3, 1e2), st.loguniform(1e-3, 1e2)),
    "cauchy": (st.cauchy(0, 1), st.cauchy(0, 1)),
    "halfnorm": (st.halfnorm(0, 2), st.halfnorm(0, 2)),
    "t": (st.t(3), st.t(3)),
    "histogram": (
        st.rv_histogram(np.histogram([0.0, 1, 1, 2], bins=3))(),
        st.rv_histogram(np.histogram([0.0, 1, 1, 2], bins=3)),
    ),
}


def spelling(value):
    """A value as text that is the same in every process: without addresses of objects."""
    return re.sub(r" object at 0x\w+", "", str(value))


@pytest.fixture(params=DENSITIES, ids=str)
def density(request):
    """A prior of one parameter and the distribution that it should be."""
    spec, distribution = DENSITIES[request.param]
    return Prior.of({"a": spec}), distribution


@pytest.fixture
def mixed():
    """A prior of all kinds, whose columns are not in the order of kinds."""
    return Prior.of({f"p{i}": spec for i, (spec, _) in enumerate(DENSITIES.values())})


class TestPrior:
    def test_log_density_is_that_of_scipy(self, density):
        prior, distribution = density
        x = distribution.ppf(np.linspace(1e-3, 1 - 1e-3, 101))
        np.testing.assert_allclose(prior.log_density(x[:, None]), distribution.logpdf(x), rtol=1e-12, atol=1e-12)

    def test_log_density_is_normalised(self, density):
        # Midpoint rule in the cumulative probability, whose error for bounded integrands is O(1 / m).
        prior, distribution = density
        u = (np.arange(20_000) + 0.5) / 20_000
        x = distribution.ppf(u)
        widths = np.diff(x)
        middle = 0.5 * (x[1:] + x[:-1])
        total = np.exp(prior.log_density(middle[:, None])) @ widths
        assert total == pytest.approx(1.0, abs=2e-3)

    def test_outside_of_the_support(self, density):
        prior, distribution = density
        low, high = distribution.support()
        outside = np.array([[low - 1e-6], [high + 1e-6], [-np.inf], [np.inf], [np.nan]])
        np.testing.assert_array_equal(prior.log_density(outside), -np.inf)

    def test_very_far_away(self):
        np.testing.assert_array_equal(Prior.of({"a": st.norm(), "b": (0, 1)}).log_density([[1e200, 0.5]]), [-np.inf])

    def test_edges_are_never_plus_infinity(self):
        edges = np.array([[0.0], [1.0]])
        np.testing.assert_array_equal(Prior.of({"a": st.beta(0.5, 0.5)}).log_density(edges), -np.inf)
        np.testing.assert_array_equal(Prior.of({"a": (0, 1)}).log_density(edges), 0.0)

    def test_quantile_and_cumulative_are_those_of_scipy(self, density):
        prior, distribution = density
        u = np.linspace(0.01, 0.99, 31)
        x = prior.quantile(u[:, None])
        np.testing.assert_allclose(x[:, 0], distribution.ppf(u), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(prior.cumulative(x)[:, 0], u, rtol=1e-9)

    def test_quantiles_of_0_and_1_are_the_bounds(self, density):
        prior, distribution = density
        np.testing.assert_array_equal(prior.quantile(np.array([[0.0], [1.0]]))[:, 0], distribution.support())
        np.testing.assert_array_equal(prior.bounds, [distribution.support()])

    def test_draws_follow_the_density(self, density, rng):
        # Null: the draws are from the density; a p-value below 1e-4 has that probability for each of the rows.
        prior, distribution = density
        draws = prior.sample(1000, rng)
        assert st.kstest(draws[:, 0], distribution.cdf).pvalue > 1e-4
        assert np.isfinite(prior.log_density(draws)).all()

    def test_product_of_all_kinds(self, mixed, rng):
        x = mixed.sample(50, rng)
        expected = sum(distribution.logpdf(x[:, i]) for i, (_, distribution) in enumerate(DENSITIES.values()))
        np.testing.assert_allclose(mixed.log_density(x), expected, rtol=1e-12)
        u = mixed.cumulative(x)
        np.testing.assert_allclose(mixed.quantile(u), x, rtol=1e-8)
        np.testing.assert_array_equal(mixed.bounds, [list(dist.support()) for _, dist in DENSITIES.values()])
        assert not mixed.is_box

    def test_one_coordinate_outside_is_outside(self, mixed, rng):
        x = mixed.sample(1, rng)
        for column, (low, _) in enumerate(mixed.bounds):
            if np.isfinite(low):
                moved = x.copy()
                moved[0, column] = low - 0.1
                np.testing.assert_array_equal(mixed.log_density(moved), [-np.inf])

    def test_sampling_is_reproducible(self, mixed):
        one = mixed.sample(7, np.random.default_rng(1))
        np.testing.assert_array_equal(one, mixed.sample(7, np.random.default_rng(1)))
        assert mixed.sample(0, np.random.default_rng(1)).shape == (0, mixed.d)

    def test_a_draw_of_zero_stays_finite(self):
        class Zeros:
            def random(self, shape):
                return np.zeros(shape)

        assert np.isfinite(Prior.of({"a": st.norm(), "b": st.cauchy(), "c": (0, 1)}).sample(2, Zeros())).all()

    def test_quantile_of_a_box_never_leaves_it(self):
        low, high = 0.1, 0.1 + 3e-16
        prior = Prior.of([(low, high), (-0.7, 1e9)])
        x = prior.quantile(np.nextafter(np.ones((1, 2)), 0))
        assert (x >= prior.bounds[:, 0]).all()
        assert (x <= prior.bounds[:, 1]).all()
        assert np.isfinite(prior.log_density(x)).all()

    def test_empty_batches(self, mixed):
        assert mixed.log_density(np.empty((0, mixed.d))).shape == (0,)
        assert mixed.quantile(np.empty((0, mixed.d))).shape == (0, mixed.d)

    def test_bounds_are_a_fresh_array(self):
        prior = Prior.of([(0, 1)])
        prior.bounds[0, 0] = 7
        assert prior.bounds[0, 0] == 0

    @pytest.mark.parametrize("shape", [(3,), (5, 2), (2, 3, 1), ()])
    @pytest.mark.parametrize("method", ["log_density", "quantile", "cumulative"])
    def test_wrong_shapes(self, method, shape):
        with pytest.raises(ValueError, match=rf"shape \(m, 3\), got \({', '.join(map(str, shape))}"):
            getattr(Prior.of([(0, 1)] * 3), method)(np.zeros(shape))


class TestPriorOf:
    def test_dict(self):
        prior = Prior.of({"a": (0, 1), "b": st.norm(0, 2), "c": Parameter("c", (1, 2), label=r"\gamma", periodic=True)})
        assert prior.names == ("a", "b", "c")
        assert prior.labels == ("a", "b", r"\gamma")
        assert prior.d == 3
        assert not prior.is_box
        np.testing.assert_array_equal(prior.bounds, [[0, 1], [-np.inf, np.inf], [1, 2]])
        np.testing.assert_array_equal(prior.periodic, [False, False, True])

    @pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
    def test_array_of_bounds(self, kind):
        prior = Prior.of(kind([[float(i), i + 1.0] for i in range(12)]))
        assert prior.names[:2] == ("x0", "x1")
        assert prior.labels[:2] == ("x_0", "x_1")
        assert prior.labels[11] == "x_{11}"
        assert prior.is_box
        np.testing.assert_array_equal(prior.bounds[:, 0], range(12))

    def test_parameters_and_priors(self):
        prior = Prior.of([Parameter("a", (0, 1)), Parameter("b", (0, 1))])
        assert prior.names == ("a", "b")
        assert Prior.of(prior) is prior

    def test_underscores_are_escaped_in_default_labels(self):
        assert Prior.of({"omega_m_h": (0, 1)}).labels == (r"\mathrm{omega\_m\_h}",)

    @pytest.mark.parametrize("name", ["a", "A_s", "_x", "log10.mass", "cosmology--omega", "α", "x0"])
    def test_names_that_are_allowed(self, name):
        assert Prior.of({name: (0, 1)}).names == (name,)

    @pytest.mark.parametrize("name", ["", " ", "a b", "a*", "0a", "a?", "a,b", "-a", "a\n", "a=b", "#a"])
    def test_names_that_are_not(self, name):
        with pytest.raises(ValueError, match="a parameter name must be a letter, then letters, digits"):
            Prior.of({name: (0, 1)})

    @pytest.mark.parametrize(
        ("spec", "error", "message"),
        [
            ({}, ValueError, "at least one parameter, got none"),
            ([], ValueError, "at least one parameter, got none"),
            (np.empty((0, 2)), ValueError, "at least one parameter, got none"),
            ({1: (0, 1)}, TypeError, "a parameter name must be a string, got 1"),
            ({"a": (1, 0)}, ValueError, r"bounds of 'a' must be low < high, got \(1\.0, 0\.0\)"),
            ({"a": (1, 1)}, ValueError, r"low < high, got \(1\.0, 1\.0\)"),
            ([(0, 1), (3, 2)], ValueError, r"bounds of 'x1' must be low < high, got \(3\.0, 2\.0\)"),
            ({"a": (0, np.inf)}, ValueError, r"must be finite, got \(0\.0, inf\)"),
            ({"a": (np.nan, 1)}, ValueError, r"must be finite, got \(nan, 1\.0\)"),
            ({"a": (-1e308, 1e308)}, ValueError, "must be finite"),
            ({"a": (0, 1, 2)}, ValueError, r"prior of 'a' must be bounds .* got 3 numbers"),
            ({"a": (0,)}, ValueError, "got 1 numbers"),
            ({"a": ("low", "high")}, TypeError, r"must be bounds \(low, high\) .* got \('low', 'high'\)"),
            ({"a": "norm"}, TypeError, "got str: 'norm'"),
            ({"a": None}, TypeError, "got NoneType: None"),
            ({"a": 3.0}, TypeError, "got float: 3.0"),
            ({"a": {"min": 0, "max": 1}}, TypeError, "got dict"),
            ({"a": Parameter("b", (0, 1))}, ValueError, "the prior of 'a' is a Parameter called 'b'"),
            ({"a": st.norm}, TypeError, r"prior of 'a' is not frozen: .* scipy\.stats\.norm\(loc=0, scale=1\)"),
            ({"a": st.poisson(3)}, TypeError, r"one-dimensional continuous distribution .* got poisson"),
            ({"a": st.poisson}, TypeError, r"one-dimensional continuous distribution .* got poisson"),
            ({"a": st.multivariate_normal([0, 0])}, TypeError, "one-dimensional continuous .* multivariate_normal"),
            ({"a": st.norm([0, 1], 1)}, ValueError, r"must be one distribution, got arguments with shape \(2,\)"),
            ({"a": st.norm(0, -1)}, ValueError, r"arguments outside of their domain: norm\(0, -1\)"),
            ({"a": st.norm(np.nan, 1)}, ValueError, "arguments outside of their domain"),
            ({"a": st.norm(0, np.inf)}, ValueError, r"arguments that are not finite: norm\(0, inf\)"),
            ({"a": st.uniform(0, scale=np.inf)}, ValueError, r"of their domain: uniform\(0, scale=inf\)"),
            ({"a": st.beta(-1, 2)}, ValueError, "arguments outside of their domain"),
            ("banana", TypeError, "a prior is a dict of name -> .* got str: 'banana'"),
            (None, TypeError, "a prior is a dict of name -> .* got NoneType"),
            (3.0, TypeError, "a prior is a dict .* got float"),
            ([0, 1], ValueError, r"got an array with shape \(2,\)"),
            (np.zeros((2, 3)), ValueError, r"got an array with shape \(2, 3\)"),
            ([(0, 1), (0, 1, 2)], TypeError, "a prior is a dict .* got list"),
            (
                [Parameter("a", (0, 1)), (0, 1)],
                TypeError,
                r"must consist of Parameter\(name, prior\) objects, got \(0, 1\)",
            ),
            ([Parameter("a", (0, 1))] * 2, ValueError, "names must differ, got 'a' more than once"),
        ],
        ids=spelling,
    )
    def test_misuse(self, spec, error, message):
        with pytest.raises(error, match=message):
            Prior.of(spec)

    def test_periodic_needs_bounds(self):
        assert Parameter("a", st.uniform(0, 1), periodic=True).periodic
        with pytest.raises(ValueError, match="parameter 'a' is periodic and therefore needs finite bounds"):
            Parameter("a", st.norm(), periodic=True)


class TestParameter:
    def test_is_a_value(self):
        assert Parameter("a", (0, 1)) == Parameter("a", [0.0, 1.0])
        assert hash(Parameter("a", (0, 1))) == hash(Parameter("a", [0.0, 1.0]))
        with pytest.raises(AttributeError, match="cannot assign"):
            Parameter("a", (0, 1)).name = "b"


def by_array(x):
    return -float(np.sum(np.asarray(x) ** 2))


class Callable:
    def __call__(self, theta):
        return by_array(theta)

    def method(self, theta):
        return by_array(theta)

    def named(self, a, b):
        return by_array([a, b])


def wrapped(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        return function(*args, **kwargs)

    return call


def anything(*args, **kwargs):
    (x,) = args
    return by_array(x)


# How the parameters (a, b) = (0.5, -1.0) reach the likelihood; all must give -1.25.
CONVENTIONS = {
    "array": by_array,
    "lambda": lambda x: -(x[0] ** 2) - x[1] ** 2,
    "array called like a parameter": lambda a: by_array(a),
    "array with an option": lambda x, scale=1.0: scale * by_array(x),
    "array, positional only": lambda x, /: by_array(x),
    "array and keywords": lambda x, **options: by_array(x),
    "array and more": lambda x, *rest: by_array(x),
    "array in *args": lambda *args: by_array(args[0]),
    "array in *args beside **kwargs": anything,
    "instance": Callable(),
    "method": Callable().method,
    "partial": functools.partial(lambda data, x: by_array(x), None),
    "builtin without signature": max,
    "names": lambda a, b: by_array([a, b]),
    "names in another order": lambda b, a: -(a**2) - b**2,
    "names with an option": lambda a, b, scale=1.0: scale * by_array([a, b]),
    "name with default": lambda a, b=100.0: by_array([a, b]),
    "all names with defaults": lambda a=100.0, b=100.0: by_array([a, b]),
    "keyword only": lambda *, a, b: by_array([a, b]),
    "keywords": lambda **p: by_array([p["a"], p["b"]]),
    "a name and keywords": lambda a, **p: by_array([a, p["b"]]),
    "bound method by name": Callable().named,
    "wrapped by name": wrapped(lambda a, b: by_array([a, b])),
    "partial by name": functools.partial(lambda data, a, b: by_array([a, b]), data=None),
}


class TestCallingConvention:
    @pytest.mark.parametrize("name", CONVENTIONS)
    def test_parameters_arrive(self, name):
        if name.startswith("builtin"):
            assert Posterior(max, {"a": (0, 1), "b": (-2, 2)}).evaluate([0.5, -1.0]).y == 0.5
            return
        evaluation = Posterior(CONVENTIONS[name], {"a": (0, 1), "b": (-2, 2)}).evaluate([0.5, -1.0])
        assert evaluation.reason == ""
        assert evaluation.y == -1.25

    def test_the_builtin_has_no_signature(self):
        with pytest.raises(ValueError, match="no signature"):
            inspect.signature(max)

    def test_single_parameter(self):
        seen = []
        Posterior(lambda a: seen.append(a) or 0.0, {"a": (0, 1)}).evaluate([0.25])
        Posterior(lambda x: seen.append(x) or 0.0, {"a": (0, 1)}).evaluate([0.25])
        assert seen[0] == 0.25
        assert isinstance(seen[0], float)
        np.testing.assert_array_equal(seen[1], [0.25])

    def test_names_get_floats_and_arrays_are_copies(self):
        seen = []
        Posterior(lambda a, b: seen.append((a, b)) or 0.0, {"a": (0, 1), "b": (0, 1)}).evaluate(np.float32([0, 1]))
        assert [type(value) for value in seen[0]] == [float, float]

        def vandal(x):
            x[:] = 7.0
            return 0.0

        x = np.array([0.5, 0.5])
        Posterior(vandal, [(0, 1)] * 2).evaluate(x)
        np.testing.assert_array_equal(x, 0.5)

    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (lambda a, c: 0.0, r"parameters that are not among its arguments: b; arguments .* not parameters: c"),
            (lambda a, b, c: 0.0, r"arguments without default that are not parameters: c"),
            (lambda c, d: 0.0, "not among its arguments: a, b; arguments without default .*: c, d"),
            (lambda: 0.0, "not among its arguments: a, b"),
            (lambda c=1.0: 0.0, "not among its arguments: a, b"),
            (lambda x, *, data: 0.0, "arguments without default that are not parameters: x, data"),
            (lambda a, b, /: 0.0, "arguments without default that are not parameters: a, b"),
            (lambda a, b, c, **p: 0.0, "arguments without default that are not parameters: c"),
        ],
    )
    def test_signatures_that_cannot_work(self, function, message):
        with pytest.raises(TypeError, match=message):
            Posterior(function, {"a": (0, 1), "b": (0, 1)})

    def test_the_message_names_the_function_and_what_is_expected(self):
        def loglike(a, c):
            return 0.0

        with pytest.raises(
            TypeError, match=r"'loglike' must take one array of shape \(2,\), or the parameters by name"
        ):
            Posterior(loglike, {"a": (0, 1), "b": (0, 1)})


# What a likelihood may return -> y, status, derived, noise.
ANSWERS = {
    "float": (-1.5, -1.5, "ok", {}, 0.0),
    "int": (-2, -2.0, "ok", {}, 0.0),
    "negative zero": (-0.0, -0.0, "ok", {}, 0.0),
    "float32": (np.float32(0.5), 0.5, "ok", {}, 0.0),
    "integer of numpy": (np.int16(3), 3.0, "ok", {}, 0.0),
    "0-d": (np.array(-1.5), -1.5, "ok", {}, 0.0),
    "one element": (np.array([-1.5]), -1.5, "ok", {}, 0.0),
    "0-d of objects": (np.array(-1.5, dtype=object), -1.5, "ok", {}, 0.0),
    "tensor": (torch.tensor(-1.5), -1.5, "ok", {}, 0.0),
    "tensor with gradient": (torch.tensor([-1.5], requires_grad=True), -1.5, "ok", {}, 0.0),
    "fraction": (Fraction(1, 4), 0.25, "ok", {}, 0.0),
    "decimal": (Decimal("0.25"), 0.25, "ok", {}, 0.0),
    "-inf": (-np.inf, -np.inf, "infeasible", {}, 0.0),
    "-inf of numpy": (np.float64(-np.inf), -np.inf, "infeasible", {}, 0.0),
    "derived": ((-1.0, {"s": 2, "t": np.array([0.5])}), -1.0, "ok", {"s": 2.0, "t": 0.5}, 0.0),
    "no derived": ((-1.0, {}), -1.0, "ok", {}, 0.0),
    "derived infinity": ((-1.0, {"s": np.inf}), -1.0, "ok", {"s": np.inf}, 0.0),
    "-inf with derived": ((-np.inf, {"s": 2.0}), -np.inf, "infeasible", {"s": 2.0}, 0.0),
    "noise": ((-1.0, 0.25), -1.0, "ok", {}, 0.25),
    "no noise": ((-1.0, 0), -1.0, "ok", {}, 0.0),
    "-inf with noise": ((-np.inf, np.nan), -np.inf, "infeasible", {}, 0.0),
}

# What a likelihood may return that is unusable -> what the reason says.
FAILURES = {
    "NaN": (np.nan, "the log-likelihood is NaN; only -inf may stand for an impossible point"),
    "+inf": (np.inf, "the log-likelihood is +inf; only -inf"),
    "None": (None, "the log-likelihood is None (a function without return?)"),
    "complex": (1 + 0j, "the log-likelihood is not a real number but complex: (1+0j)"),
    "complex of numpy": (np.complex128(1), "not a real number but complex"),
    "string": ("-1.0", "not a real number but str: '-1.0'"),
    "bytes": (b"1", "not a real number but bytes"),
    "bool": (True, "not a real number but bool: True"),
    "bool of numpy": (np.bool_(True), "not a real number but bool: True"),
    "vector": (np.zeros(2), "the log-likelihood is an array with shape (2,), not one number"),
    "matrix": (np.zeros((2, 3)), "an array with shape (2, 3)"),
    "empty": (np.zeros(0), "an array with shape (0,)"),
    "tensor": (torch.zeros(3), "an array with shape (3,)"),
    "list": ([-1.0], "not a real number but list: [-1.0]"),
    "dict": ({"logp": 1.0}, "not a real number but dict"),
    "function": (by_array, "not a real number but function"),
    "empty tuple": ((), "the likelihood returned a tuple ()"),
    "triple": ((1.0, {}, 0.1), "returned a tuple (float, dict, float), not a float, (float, dict of derived)"),
    "pair with None": ((1.0, None), "returned a tuple (float, NoneType)"),
    "negative noise": ((1.0, -0.5), "the noise sd must be finite and >= 0, got -0.5"),
    "infinite noise": ((1.0, np.inf), "the noise sd must be finite and >= 0, got inf"),
    "NaN noise": ((1.0, np.nan), "the noise sd must be finite and >= 0, got nan"),
    "noise as string": ((1.0, "0.5"), "the noise sd is not a real number but str: '0.5'"),
    "derived string": ((1.0, {"s": "2"}), "the derived value 's' is not a real number but str: '2'"),
    "derived None": ((1.0, {"s": None}), "the derived value 's' is None"),
    "derived vector": ((1.0, {"s": np.zeros(4)}), "the derived value 's' is an array with shape (4,)"),
    "derived number as name": ((1.0, {3: 2.0}), "the name of a derived value must be a letter"),
    "derived with a space": ((1.0, {"a b": 2.0}), "the name of a derived value must be a letter"),
    "derived like a parameter": ((1.0, {"x0": 2.0}), "the derived value 'x0' has the name of a parameter"),
    "NaN with derived": ((np.nan, {"s": 2.0}), "the log-likelihood is NaN"),
    "too large for a float": (10**400, "OverflowError: int too large to convert to float"),
}


def raising(error):
    def function(x):
        raise error

    return function


class Unprintable(Exception):
    def __str__(self):
        msg = "no words"
        raise ValueError(msg)


class TestEvaluate:
    @pytest.mark.parametrize("name", ANSWERS)
    def test_answers(self, name):
        answer, y, status, derived, noise = ANSWERS[name]
        evaluation = Posterior(lambda x: answer, [(0, 1)]).evaluate([0.5])
        assert (evaluation.y, evaluation.status, evaluation.derived, evaluation.noise, evaluation.reason) == (
            *(y, status, derived, noise),
            "",
        )
        assert type(evaluation.y) is type(evaluation.noise) is float
        assert all(type(value) is float for value in evaluation.derived.values())
        assert math.copysign(1, evaluation.y) == math.copysign(1, y)

    def test_derived_nan_is_kept(self):
        evaluation = Posterior(lambda x: (0.0, {"s": np.nan}), [(0, 1)]).evaluate([0.5])
        assert evaluation.status == "ok"
        assert math.isnan(evaluation.derived["s"])

    @pytest.mark.parametrize("name", FAILURES)
    def test_failures(self, name):
        answer, reason = FAILURES[name]
        evaluation = Posterior(lambda x: answer, [(0, 1)]).evaluate([0.5])
        assert evaluation.status == "failed"
        assert math.isnan(evaluation.y)
        assert evaluation.derived == {}
        assert evaluation.noise == 0.0
        assert reason in evaluation.reason

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ValueError("bad value"), "ValueError: bad value (in function, test_problem.py line"),
            (KeyError("a"), "KeyError: 'a' (in function"),
            (MemoryError(), "MemoryError (in function"),
            (Unprintable(), "Unprintable: <exception str() failed>"),
            (StopIteration(3), "StopIteration: 3"),
            (ArithmeticError("two\nlines\0"), "ArithmeticError: two lines (in function"),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_exceptions(self, error, reason):
        evaluation = Posterior(raising(error), [(0, 1)]).evaluate([0.5])
        assert evaluation.status == "failed"
        assert reason in evaluation.reason
        assert evaluation.reason.endswith(": raise error)")

    def test_the_innermost_line_is_shown(self):
        def inner():
            return [][0]

        evaluation = Posterior(lambda x: inner(), [(0, 1)]).evaluate([0.5])
        assert evaluation.reason.startswith("IndexError: list index out of range (in inner, test_problem.py line ")
        assert evaluation.reason.endswith(": return [][0])")

    def test_endless_recursion(self):
        def function(x):
            return function(x)

        assert "RecursionError" in Posterior(function, [(0, 1)]).evaluate([0.5]).reason

    def test_long_reasons_are_cut(self):
        reason = Posterior(raising(ValueError("x" * 10_000)), [(0, 1)]).evaluate([0.5]).reason
        assert len(reason) == 500
        assert reason.endswith("x...")

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_interrupts_go_through(self, error):
        with pytest.raises(error):
            Posterior(raising(error), [(0, 1)]).evaluate([0.5])

    def test_every_evaluation_says_where_and_how_long(self):
        for function in (by_array, raising(ValueError())):
            evaluation = Posterior(function, [(0, 1)]).evaluate([0.5])
            assert 0 < evaluation.seconds < 60
            assert evaluation.worker.rpartition(":")[2].isdigit()

    def test_noise_of_the_posterior(self):
        prior = [(0, 1)]
        assert Posterior(lambda x: 1.0, prior, noise=0.5).evaluate([0.5]).noise == 0.5
        assert Posterior(lambda x: (1.0, 0.25), prior, noise=0.5).evaluate([0.5]).noise == 0.25
        assert Posterior(lambda x: (1.0, {"s": 1.0}), prior, noise=0.5).evaluate([0.5]).noise == 0.5
        assert Posterior(lambda x: -np.inf, prior, noise=0.5).evaluate([0.5]).noise == 0.0
        assert Posterior(lambda x: (-np.inf, {}), prior, noise=0.5).evaluate([0.5]).noise == 0.0

    @pytest.mark.parametrize("shape", [(), (2,), (1, 1)])
    def test_wrong_shapes_of_points(self, shape):
        with pytest.raises(ValueError, match=r"a point must have shape \(1,\), got"):
            Posterior(by_array, [(0, 1)]).evaluate(np.zeros(shape))


class TestPosterior:
    @pytest.mark.parametrize("function", [None, 3.0, "banana"])
    def test_must_be_callable(self, function):
        with pytest.raises(TypeError, match=f"log_likelihood must be callable, got {type(function).__name__}"):
            Posterior(function, [(0, 1)])

    @pytest.mark.parametrize("noise", [-1.0, np.inf, np.nan])
    def test_noise_must_be_a_standard_deviation(self, noise):
        with pytest.raises(ValueError, match="noise must be a finite standard deviation >= 0 or None, got"):
            Posterior(by_array, [(0, 1)], noise=noise)

    def test_takes_a_specification_or_a_prior(self):
        prior = Prior.of({"a": (0, 1)})
        assert Posterior(by_array, prior).prior is prior
        assert Posterior(by_array, {"a": (0, 1)}).prior.names == ("a",)
        with pytest.raises(ValueError, match="low < high"):
            Posterior(by_array, {"a": (1, 0)})


class TestVectorized:
    x = np.array([[0.5, 0.1], [0.2, 0.2], [0.9, 0.3]])

    def posterior(self, function, **options):
        return Posterior(function, {"a": (0, 1), "b": (0, 1)}, vectorized=True, **options)

    @pytest.mark.parametrize("function", [lambda x: -(x**2).sum(axis=1), lambda a, b: -(a**2) - b**2])
    def test_is_the_same_as_one_at_a_time(self, function):
        posterior = self.posterior(function)
        single = Posterior(lambda x: by_array(x), posterior.prior)
        expected = [single.evaluate(point).y for point in self.x]
        assert [e.y for e in posterior.evaluate_many(self.x)] == pytest.approx(expected, rel=1e-14)
        assert [posterior.evaluate(point).y for point in self.x] == pytest.approx(expected, rel=1e-14)
        assert [e.y for e in single.evaluate_many(self.x)] == expected

    def test_is_one_call(self):
        shapes = []
        self.posterior(lambda x: shapes.append(x.shape) or np.zeros(len(x))).evaluate_many(self.x)
        assert shapes == [(3, 2)]

    def test_no_points_are_no_call(self):
        assert self.posterior(raising(ValueError())).evaluate_many(np.empty((0, 2))) == []

    def test_each_row_has_its_own_status(self):
        evaluations = self.posterior(lambda x: np.array([1.0, np.nan, -np.inf])).evaluate_many(self.x)
        assert [e.status for e in evaluations] == ["ok", "failed", "infeasible"]
        assert "NaN" in evaluations[1].reason

    def test_derived_and_noise(self):
        derived = self.posterior(lambda x: (x[:, 0], {"s": 2 * x[:, 0]})).evaluate_many(self.x)
        assert [e.derived for e in derived] == [{"s": 1.0}, {"s": 0.4}, {"s": 1.8}]
        noisy = self.posterior(lambda x: (x[:, 0], [0.1, 0.2, -0.3])).evaluate_many(self.x)
        assert [e.noise for e in noisy] == [0.1, 0.2, 0.0]
        assert noisy[2].status == "failed"
        assert [e.noise for e in self.posterior(lambda x: x[:, 0], noise=0.5).evaluate_many(self.x)] == [0.5] * 3

    def test_lists_and_tensors(self):
        assert [e.y for e in self.posterior(lambda x: [1.0, 2.0, 3.0]).evaluate_many(self.x)] == [1.0, 2.0, 3.0]
        assert [e.y for e in self.posterior(lambda x: torch.arange(3)).evaluate_many(self.x)] == [0.0, 1.0, 2.0]

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (
                np.zeros(2),
                "the log-likelihood of a vectorised likelihood must have shape (3,), got ndarray with shape (2,)",
            ),
            (np.zeros((3, 1)), "got ndarray with shape (3, 1)"),
            (0.0, "got float with shape ()"),
            (None, "got NoneType with shape ()"),
            ((np.zeros(3), np.zeros(2)), "the noise sd of a vectorised likelihood must have shape (3,)"),
            ((np.zeros(3), {"s": 1.0}), "the derived value 's' of a vectorised likelihood must have shape (3,)"),
            ((np.zeros(3),) * 3, "returned a tuple (ndarray, ndarray, ndarray)"),
            (np.zeros(3, dtype=complex), "not a real number but complex"),
            (np.ones(3, dtype=bool), "not a real number but bool"),
        ],
    )
    def test_what_fails_all_rows(self, answer, reason):
        evaluations = self.posterior(lambda x: answer).evaluate_many(self.x)
        assert [e.status for e in evaluations] == ["failed"] * 3
        assert all(reason in e.reason for e in evaluations)

    def test_an_exception_fails_all_rows(self):
        evaluations = self.posterior(raising(ValueError("no"))).evaluate_many(self.x)
        assert [e.status for e in evaluations] == ["failed"] * 3
        assert evaluations[2].reason.startswith("ValueError: no (in function")

    def test_time_is_shared(self):
        evaluations = self.posterior(lambda x: np.zeros(3)).evaluate_many(self.x)
        assert len({e.seconds for e in evaluations}) == 1

    def test_wrong_shapes_of_points(self):
        with pytest.raises(ValueError, match=r"shape \(m, 2\), got \(2,\)"):
            self.posterior(by_array).evaluate_many(np.zeros(2))


def test_evaluations_are_values():
    assert Evaluation(1.0, "ok") == Evaluation(1.0, "ok", derived={}, noise=0.0, reason="", seconds=0.0, worker="")
    assert Evaluation.failure("a\n b").reason == "a b"


def test_noise_of_several_points_belongs_to_the_answers():
    with pytest.raises(TypeError, match=r"one standard deviation, got an array with shape \(3,\); if it differs"):
        Posterior(lambda a: -(a**2), {"a": (0, 1)}, noise=np.ones(3))
