"""Predictors: the learned log-likelihood as a fast function of plain arrays, in several forms.

``numbers`` has the arrays and their files. ``single`` is a numpy closure for one point, for samplers that move point by
point, a few times faster than batched calls; ``batch`` is one for many points. ``module`` is a differentiable torch
module for any device, which ``torch.export`` turns into a program that does not need this package.
"""

from surrogate.log_density.predictor.numbers import Predictor, load_predictor

__all__ = ["Predictor", "load_predictor"]
