"""The log-likelihood that a run has learned, for other programs: one function of plain numbers in several forms.

``numbers`` holds the numbers and their files; ``single`` is a numpy closure for one point, a few times faster than any
call that goes through batches, for samplers that walk point by point; ``batch`` is one for many points; ``module`` is a
torch module, on any device and with derivatives, which ``torch.export`` turns into a program that does not need this
package.
"""

from surrogate.log_density.predictor.numbers import Predictor, load_predictor

__all__ = ["Predictor", "load_predictor"]
