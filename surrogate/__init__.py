"""Bayesian inference and active learning for functions that cost seconds to hours a call."""

import importlib
from typing import Any

from surrogate._version import __version__
from surrogate.data import Dataset
from surrogate.infer import infer, load_result
from surrogate.problem import Parameter, Posterior, Prior
from surrogate.result import Result

__all__ = [
    "Dataset",
    "Parameter",
    "Posterior",
    "Prior",
    "Result",
    "__version__",
    "get_cobaya_class",
    "infer",
    "load_result",
]


def get_cobaya_class() -> Any:
    """The sampler that ``sampler: {surrogate: ...}`` means in a Cobaya file; Cobaya asks for it."""
    return importlib.import_module("surrogate.interfaces.cobaya").SurrogateSampler
