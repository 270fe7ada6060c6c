"""Cobaya: a sampler that replaces `mcmc`, and Cobaya models for `surrogate.infer`.

Only this package imports Cobaya.
"""

from surrogate.interfaces.cobaya.emulation import likelihoods_of
from surrogate.interfaces.cobaya.model import CobayaLikelihood, Problem, prior_of, problem_of, reference_of
from surrogate.interfaces.cobaya.options import number_of
from surrogate.interfaces.cobaya.sampler import SurrogateSampler

__all__ = [
    "CobayaLikelihood",
    "Problem",
    "SurrogateSampler",
    "likelihoods_of",
    "number_of",
    "prior_of",
    "problem_of",
    "reference_of",
]
