"""Bayesian inference and active learning for functions that cost seconds to hours a call."""

from surrogate._version import __version__
from surrogate.data import Dataset
from surrogate.infer import infer, load_result
from surrogate.problem import Parameter, Posterior, Prior
from surrogate.result import Result

__all__ = ["Dataset", "Parameter", "Posterior", "Prior", "Result", "__version__", "infer", "load_result"]
