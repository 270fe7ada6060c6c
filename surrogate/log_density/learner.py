"""The learner of scalar surrogates: hyperparameters, structure and noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from surrogate.arrays import Array
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import ScalarLogDensity, build
from surrogate.log_density.parameters import Structure, SurrogateParameters
from surrogate.log_density.protocol import Parameters
from surrogate.log_density.search.noise import choose_noise
from surrogate.log_density.search.structure import StructureSearch, choose_structure
from surrogate.log_density.training import MOST_FITTED, FitProblem
from surrogate.problem.dataset import Dataset

__all__ = ["ScalarLearner"]


_FEW_EVALUATIONS = 25  # evaluations of the marginal likelihood for an open-minded surrogate, which only proposes points


@dataclass(frozen=True, eq=False)
class ScalarLearner:
    """Learner of one Gaussian process of the log-likelihood.

    Attributes:
        plain: Initial structure, without warps.
        search: Kinds of structures to search.
    """

    plain: Structure
    search: StructureSearch = field(default_factory=StructureSearch)

    def fit(
        self,
        problem: FitProblem,
        before: Parameters | None,
        *,
        cold_start: bool,
        search: bool,
        noise: bool,
    ) -> SurrogateParameters:
        """Parameters that fit the data, see ``surrogate.log_density.protocol.Learner``."""
        last = None if before is None else _scalar(before)
        problem = replace(problem, most=MOST_FITTED)
        fitted = fit_structure(
            problem,
            self.plain if last is None else last.structure,
            starts=() if last is None else (last.hyper,),
            cold_start=cold_start,
            log_noise=None if last is None else last.hyper.log_noise,
        )
        if search and self.search.structures:
            fitted = choose_structure(problem, fitted, search=self.search)
        return choose_noise(problem, fitted) if noise and self.search.noise else fitted

    def open_minded(self, problem: FitProblem) -> SurrogateParameters:
        """Parameters with a constant trend and no warps; unlike a quadratic it excludes nothing far from the data."""
        structure = replace(self.plain, trend="constant")
        problem = replace(problem, draws=None, most=MOST_FITTED)
        return fit_structure(problem, structure, max_evaluations=_FEW_EVALUATIONS)

    def build(self, data: Dataset, t: Array, parameters: Parameters, *, device: str = "cpu") -> ScalarLogDensity:
        """The surrogate with these parameters, given the data to which they were fitted; see ``model.build``."""
        return build(data, t, _scalar(parameters), device=device)


def _scalar(parameters: Parameters) -> SurrogateParameters:
    """The parameters, after checking their type.

    Raises:
        TypeError: If they are not.
    """
    if not isinstance(parameters, SurrogateParameters):
        msg = f"a scalar surrogate needs SurrogateParameters, got {type(parameters).__name__} from another kind of run"
        raise TypeError(msg)
    return parameters
