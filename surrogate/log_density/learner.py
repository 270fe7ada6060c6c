"""The learner of scalar surrogates: hyperparameters, structure and noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.log_density.coordinates.symmetry import Symmetry
from surrogate.log_density.fit import fit_structure
from surrogate.log_density.model import ScalarLogDensity, build
from surrogate.log_density.parameters import Structure, SurrogateParameters, relevant_depth
from surrogate.log_density.protocol import Parameters
from surrogate.log_density.search.noise import choose_noise
from surrogate.log_density.search.peaks import with_peaks_of
from surrogate.log_density.search.structure import StructureSearch, choose_structure
from surrogate.log_density.training import MOST_FITTED, FitProblem
from surrogate.problem.dataset import Dataset
from surrogate.problem.exchanges import proven

__all__ = ["ScalarLearner"]


_EXPANDED = 100.0  # depth, in units of the scale of an expanding output warp, above which the warp is dropped
_FEW_EVALUATIONS = 25  # evaluations of the marginal likelihood for an open-minded surrogate, which only proposes points


@dataclass(frozen=True, eq=False)
class ScalarLearner:
    """Learner of one Gaussian process of the log-likelihood.

    Attributes:
        plain: Initial structure, without warps.
        search: Kinds of structures to search.
        moves: Exchanges of parameters under which the log-likelihood may be symmetric, with shape (k, d).
    """

    plain: Structure
    search: StructureSearch = field(default_factory=StructureSearch)
    moves: Indices = field(default_factory=lambda: np.empty((0, 0), dtype=np.int64))

    def fit(
        self,
        problem: FitProblem,
        before: Parameters | None,
        *,
        cold_start: bool,
        search: bool,
        noise: bool,
    ) -> SurrogateParameters:
        """Parameters that fit the data, see ``surrogate.log_density.protocol.Learner``.

        Once an exchange of parameters proves to leave the log-likelihood unchanged, the fit starts anew.
        """
        last = None if before is None else _scalar(before)
        problem = replace(problem, most=MOST_FITTED)
        symmetry = self.symmetry(problem)
        if last is not None and _order(symmetry) != _order(last.structure.warp.symmetry):
            last, search = None, True
        structure = self.plain if last is None else _bounded(last.structure, problem)
        structure = with_peaks_of(problem, _symmetric(structure, symmetry))
        given_up = last is not None and structure.peaks is None and last.structure.peaks is not None
        fitted = fit_structure(
            problem,
            structure,
            starts=() if last is None or given_up else (last.hyper,),
            cold_start=cold_start,
            log_noise=None if last is None else last.hyper.log_noise,
        )
        if search and self.search.structures:
            fitted = choose_structure(problem, fitted, search=self.search)
        return choose_noise(problem, fitted) if noise and self.search.noise else fitted

    def open_minded(self, problem: FitProblem) -> SurrogateParameters:
        """Parameters with a constant trend and no warps; unlike a quadratic it excludes nothing far from the data."""
        structure = _symmetric(replace(self.plain, trend="constant"), self.symmetry(problem))
        problem = replace(problem, draws=None, most=MOST_FITTED)
        return fit_structure(problem, structure, max_evaluations=_FEW_EVALUATIONS)

    def symmetry(self, problem: FitProblem) -> Symmetry | None:
        """The symmetry that the data prove; None without one, and for noisy values and derivatives."""
        orders = proven(problem.data, problem.t, self.moves, relevant_depth(problem.d))
        if len(orders) == 1:
            return None
        best = np.where(problem.data.finite, problem.data.y, -np.inf).argmax()
        return Symmetry.about(orders, problem.t[best], problem.draws)

    def build(self, data: Dataset, t: Array, parameters: Parameters, *, device: str = "cpu") -> ScalarLogDensity:
        """The surrogate with these parameters, given the data to which they were fitted; see ``model.build``."""
        return build(data, t, _scalar(parameters), device=device)


def _order(symmetry: Symmetry | None) -> int:
    """Number of images of a point."""
    return 1 if symmetry is None else len(symmetry.orders)


def _bounded(structure: Structure, problem: FitProblem) -> Structure:
    """The structure, without an expanding output warp if this would overflow, as after a temperature was lowered."""
    too_deep = structure.output < 0.0 and -float(problem.y.min()) > _EXPANDED * -structure.output
    return replace(structure, output=0.0) if too_deep else structure


def _symmetric(structure: Structure, symmetry: Symmetry | None) -> Structure:
    return replace(structure, warp=replace(structure.warp, symmetry=symmetry))


def _scalar(parameters: Parameters) -> SurrogateParameters:
    """The parameters, after checking their type.

    Raises:
        TypeError: If they are not.
    """
    if not isinstance(parameters, SurrogateParameters):
        msg = f"a scalar surrogate needs SurrogateParameters, got {type(parameters).__name__} from another kind of run"
        raise TypeError(msg)
    return parameters
