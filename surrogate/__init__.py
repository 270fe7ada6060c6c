"""Bayesian inference and active learning for functions that cost seconds to hours per call.

Names are loaded on first use, so importing the package is fast, and worker processes or ``surrogate status`` do not
import torch.
"""

import importlib
import logging
from typing import TYPE_CHECKING, Any

from surrogate._version import __version__
from surrogate.lazy import on_first_use

if TYPE_CHECKING:
    from surrogate.estimators.gp import GPRegressor as GPRegressor
    from surrogate.estimators.gradient_gp import GradientGPRegressor as GradientGPRegressor
    from surrogate.estimators.network import NetworkRegressor as NetworkRegressor
    from surrogate.estimators.network_classifier import NetworkClassifier as NetworkClassifier
    from surrogate.inference.comparison import compare as compare
    from surrogate.inference.loading import load_result as load_result
    from surrogate.inference.other_data import combine as combine
    from surrogate.inference.result import Result as Result
    from surrogate.inference.run import infer as infer
    from surrogate.inference.tension import tension as tension
    from surrogate.labelling.labelling_run import LabellingRun as LabellingRun
    from surrogate.labelling.run import label as label
    from surrogate.log_density.composite.emulator import load_observables as load_observables
    from surrogate.log_density.predictor import load_predictor as load_predictor
    from surrogate.networks.laplace_posterior import laplace as laplace
    from surrogate.problem.dataset import Dataset as Dataset
    from surrogate.problem.gaussian_data import GaussianData as GaussianData
    from surrogate.problem.observables import Observables as Observables
    from surrogate.problem.prior import Parameter as Parameter
    from surrogate.problem.prior import Prior as Prior
    from surrogate.problem.target import Posterior as Posterior
    from surrogate.selection.batch import select_batch as select_batch
    from surrogate.svm.lssvc import LSSVC as LSSVC

# The module of each public name; the block above tells type checkers the same.
_HOMES = {
    "Dataset": "surrogate.problem.dataset",
    "GPRegressor": "surrogate.estimators.gp",
    "GaussianData": "surrogate.problem.gaussian_data",
    "GradientGPRegressor": "surrogate.estimators.gradient_gp",
    "LSSVC": "surrogate.svm.lssvc",
    "LabellingRun": "surrogate.labelling.labelling_run",
    "NetworkClassifier": "surrogate.estimators.network_classifier",
    "NetworkRegressor": "surrogate.estimators.network",
    "Observables": "surrogate.problem.observables",
    "Parameter": "surrogate.problem.prior",
    "Posterior": "surrogate.problem.target",
    "Prior": "surrogate.problem.prior",
    "Result": "surrogate.inference.result",
    "compare": "surrogate.inference.comparison",
    "combine": "surrogate.inference.other_data",
    "infer": "surrogate.inference.run",
    "label": "surrogate.labelling.run",
    "laplace": "surrogate.networks.laplace_posterior",
    "load_observables": "surrogate.log_density.composite.emulator",
    "load_predictor": "surrogate.log_density.predictor",
    "load_result": "surrogate.inference.loading",
    "select_batch": "surrogate.selection.batch",
    "tension": "surrogate.inference.tension",
}

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless a program configures logging

__all__ = ["__version__", "get_cobaya_class", *_HOMES]  # noqa: PLE0604  # strings, all of them


if not TYPE_CHECKING:  # type checkers would assume that any name exists
    __getattr__, __dir__ = on_first_use(__name__, _HOMES)


def get_cobaya_class() -> Any:
    """The sampler class for ``sampler: {surrogate: ...}`` in a Cobaya file; called by Cobaya."""
    return importlib.import_module("surrogate.interfaces.cobaya").SurrogateSampler
