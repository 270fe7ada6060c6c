"""Bayesian inference and active learning for functions that cost seconds to hours a call.

Names are loaded when they are first used, so that importing the package costs nothing: worker processes, ``surrogate
status`` and programs that only pass a name on do without torch.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from surrogate._version import __version__

if TYPE_CHECKING:
    from surrogate.acquisition.batch import select_batch as select_batch
    from surrogate.conclusion import load_result as load_result
    from surrogate.data import Dataset as Dataset
    from surrogate.infer import infer as infer
    from surrogate.label import LabellingRun as LabellingRun
    from surrogate.label import label as label
    from surrogate.models.gradient import GradientGPRegressor as GradientGPRegressor
    from surrogate.models.lssvc import LSSVC as LSSVC
    from surrogate.models.networks.regressor import NetworkRegressor as NetworkRegressor
    from surrogate.models.regressor import GPRegressor as GPRegressor
    from surrogate.networks.laplace_posterior import laplace as laplace
    from surrogate.predictor import load_predictor as load_predictor
    from surrogate.problem import Parameter as Parameter
    from surrogate.problem import Posterior as Posterior
    from surrogate.problem import Prior as Prior
    from surrogate.result import Result as Result

# Where each public name comes from; the block above says the same to type checkers.
_HOMES = {
    "Dataset": "surrogate.data",
    "GPRegressor": "surrogate.models.regressor",
    "GradientGPRegressor": "surrogate.models.gradient",
    "LSSVC": "surrogate.models.lssvc",
    "LabellingRun": "surrogate.label",
    "NetworkRegressor": "surrogate.models.networks.regressor",
    "Parameter": "surrogate.problem",
    "Posterior": "surrogate.problem",
    "Prior": "surrogate.problem",
    "Result": "surrogate.result",
    "infer": "surrogate.infer",
    "label": "surrogate.label",
    "laplace": "surrogate.networks.laplace_posterior",
    "load_predictor": "surrogate.predictor",
    "load_result": "surrogate.conclusion",
    "select_batch": "surrogate.acquisition.batch",
}

__all__ = ["__version__", "get_cobaya_class", *_HOMES]  # noqa: PLE0604  # strings, all of them


if not TYPE_CHECKING:  # to whom any name would seem to exist

    def __getattr__(name: str) -> Any:
        """A public name, loaded on its first use."""
        if name not in _HOMES:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """All names, those included that have not been used yet."""
    return sorted({*globals(), *__all__})


def get_cobaya_class() -> Any:
    """The sampler that ``sampler: {surrogate: ...}`` means in a Cobaya file; Cobaya asks for it."""
    return importlib.import_module("surrogate.interfaces.cobaya").SurrogateSampler


class _Package(ModuleType):
    """This package: where a module and a public name are spelt alike, the name wins, as in ``surrogate.infer``."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Importing a module of the package ends here."""
        if name in _HOMES and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
