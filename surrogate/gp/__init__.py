"""Gaussian processes: kernels, means and noises that compose, and solvers for any number of points.

Names are loaded on first use, like those of ``surrogate``.
"""

from typing import TYPE_CHECKING

from surrogate.lazy import on_first_use

if TYPE_CHECKING:
    from surrogate.gp.additive import Component as Component
    from surrogate.gp.additive_basis import AdditiveBasis as AdditiveBasis
    from surrogate.gp.additive_basis import AdditivePosterior as AdditivePosterior
    from surrogate.gp.additive_basis import fit_additive as fit_additive
    from surrogate.gp.additive_sampling import WeightDraws as WeightDraws
    from surrogate.gp.additive_sampling import sample_weights as sample_weights
    from surrogate.gp.bases import Basis as Basis
    from surrogate.gp.bases import FourierBasis as FourierBasis
    from surrogate.gp.bases import HilbertBasis as HilbertBasis
    from surrogate.gp.bases import basis_of as basis_of
    from surrogate.gp.bases import choose_basis as choose_basis
    from surrogate.gp.categories import Correlated as Correlated
    from surrogate.gp.categories import Overlap as Overlap
    from surrogate.gp.categories import Rounded as Rounded
    from surrogate.gp.categories import Unstructured as Unstructured
    from surrogate.gp.categories import ZeroSum as ZeroSum
    from surrogate.gp.choose import EVIDENCES as EVIDENCES
    from surrogate.gp.choose import choose_process as choose_process
    from surrogate.gp.choose import with_profiled_noise as with_profiled_noise
    from surrogate.gp.evidence.basis import BasisEvidence as BasisEvidence
    from surrogate.gp.evidence.exact import ExactEvidence as ExactEvidence
    from surrogate.gp.evidence.iterative import IterativeEvidence as IterativeEvidence
    from surrogate.gp.evidence.iterative import MarginalEstimate as MarginalEstimate
    from surrogate.gp.evidence.minibatch import minibatch_fit as minibatch_fit
    from surrogate.gp.evidence.neighbours import NeighbourEvidence as NeighbourEvidence
    from surrogate.gp.evidence.profile import NoiseEstimate as NoiseEstimate
    from surrogate.gp.evidence.profile import NoiseProfile as NoiseProfile
    from surrogate.gp.kernels import RBF as RBF
    from surrogate.gp.kernels import Columns as Columns
    from surrogate.gp.kernels import Kernel as Kernel
    from surrogate.gp.kernels import Linear as Linear
    from surrogate.gp.kernels import Matern12 as Matern12
    from surrogate.gp.kernels import Matern32 as Matern32
    from surrogate.gp.kernels import Matern52 as Matern52
    from surrogate.gp.kernels import Product as Product
    from surrogate.gp.kernels import Scale as Scale
    from surrogate.gp.kernels import Sum as Sum
    from surrogate.gp.means import Mean as Mean
    from surrogate.gp.means import Polynomial as Polynomial
    from surrogate.gp.means import Zero as Zero
    from surrogate.gp.noise import Common as Common
    from surrogate.gp.noise import Given as Given
    from surrogate.gp.noise import Noise as Noise
    from surrogate.gp.noise import Nugget as Nugget
    from surrogate.gp.noise import Shaped as Shaped
    from surrogate.gp.optimise import Fit as Fit
    from surrogate.gp.posterior import Posterior as Posterior
    from surrogate.gp.process import Data as Data
    from surrogate.gp.process import Process as Process
    from surrogate.gp.process import Solver as Solver
    from surrogate.gp.scales import Evidence as Evidence
    from surrogate.gp.scales import Observations as Observations
    from surrogate.gp.scales import ScaledProcess as ScaledProcess
    from surrogate.gp.scales import ScaleFit as ScaleFit
    from surrogate.gp.scales import ScalePrior as ScalePrior
    from surrogate.gp.scales import maximise as maximise
    from surrogate.gp.solvers.basis import BasisPosterior as BasisPosterior
    from surrogate.gp.solvers.basis import basis_posterior as basis_posterior
    from surrogate.gp.solvers.cholesky import Cholesky as Cholesky
    from surrogate.gp.solvers.cholesky import CholeskyPosterior as CholeskyPosterior
    from surrogate.gp.solvers.exact import ExactPosterior as ExactPosterior
    from surrogate.gp.solvers.exact import exact_posterior as exact_posterior
    from surrogate.gp.solvers.iterative import IterativePosterior as IterativePosterior
    from surrogate.gp.solvers.iterative import iterative_posterior as iterative_posterior
    from surrogate.gp.solvers.joint import JointConjugateGradients as JointConjugateGradients
    from surrogate.gp.solvers.joint import JointPosterior as JointPosterior
    from surrogate.gp.solvers.large import BasisFunctions as BasisFunctions
    from surrogate.gp.solvers.large import ConjugateGradients as ConjugateGradients
    from surrogate.gp.solvers.large import Local as Local
    from surrogate.gp.solvers.large import Projections as Projections
    from surrogate.gp.solvers.local import LocalPosterior as LocalPosterior
    from surrogate.gp.solvers.local import local_posterior as local_posterior
    from surrogate.gp.solvers.projected import POLICIES as POLICIES
    from surrogate.gp.solvers.projected import ComputationAware as ComputationAware
    from surrogate.gp.solvers.projected import actions_of as actions_of
    from surrogate.gp.solvers.projected import computation_aware as computation_aware
    from surrogate.gp.solvers.projected import evidence_bound as evidence_bound
    from surrogate.gp.solvers.projected import train_blocks as train_blocks

# The module of each public name; the block above tells type checkers the same.
_HOMES = {
    "AdditiveBasis": "surrogate.gp.additive_basis",
    "AdditivePosterior": "surrogate.gp.additive_basis",
    "Basis": "surrogate.gp.bases",
    "BasisEvidence": "surrogate.gp.evidence.basis",
    "BasisFunctions": "surrogate.gp.solvers.large",
    "BasisPosterior": "surrogate.gp.solvers.basis",
    "Cholesky": "surrogate.gp.solvers.cholesky",
    "CholeskyPosterior": "surrogate.gp.solvers.cholesky",
    "Columns": "surrogate.gp.kernels",
    "Common": "surrogate.gp.noise",
    "Component": "surrogate.gp.additive",
    "ComputationAware": "surrogate.gp.solvers.projected",
    "ConjugateGradients": "surrogate.gp.solvers.large",
    "Correlated": "surrogate.gp.categories",
    "Data": "surrogate.gp.process",
    "EVIDENCES": "surrogate.gp.choose",
    "Evidence": "surrogate.gp.scales",
    "ExactEvidence": "surrogate.gp.evidence.exact",
    "ExactPosterior": "surrogate.gp.solvers.exact",
    "Fit": "surrogate.gp.optimise",
    "FourierBasis": "surrogate.gp.bases",
    "Given": "surrogate.gp.noise",
    "HilbertBasis": "surrogate.gp.bases",
    "IterativeEvidence": "surrogate.gp.evidence.iterative",
    "IterativePosterior": "surrogate.gp.solvers.iterative",
    "JointConjugateGradients": "surrogate.gp.solvers.joint",
    "JointPosterior": "surrogate.gp.solvers.joint",
    "Kernel": "surrogate.gp.kernels",
    "Linear": "surrogate.gp.kernels",
    "Local": "surrogate.gp.solvers.large",
    "LocalPosterior": "surrogate.gp.solvers.local",
    "MarginalEstimate": "surrogate.gp.evidence.iterative",
    "Matern12": "surrogate.gp.kernels",
    "Matern32": "surrogate.gp.kernels",
    "Matern52": "surrogate.gp.kernels",
    "Mean": "surrogate.gp.means",
    "NeighbourEvidence": "surrogate.gp.evidence.neighbours",
    "Noise": "surrogate.gp.noise",
    "NoiseEstimate": "surrogate.gp.evidence.profile",
    "NoiseProfile": "surrogate.gp.evidence.profile",
    "Nugget": "surrogate.gp.noise",
    "Observations": "surrogate.gp.scales",
    "Overlap": "surrogate.gp.categories",
    "POLICIES": "surrogate.gp.solvers.projected",
    "Polynomial": "surrogate.gp.means",
    "Posterior": "surrogate.gp.posterior",
    "Process": "surrogate.gp.process",
    "Product": "surrogate.gp.kernels",
    "Projections": "surrogate.gp.solvers.large",
    "RBF": "surrogate.gp.kernels",
    "Rounded": "surrogate.gp.categories",
    "Scale": "surrogate.gp.kernels",
    "ScaleFit": "surrogate.gp.scales",
    "ScalePrior": "surrogate.gp.scales",
    "ScaledProcess": "surrogate.gp.scales",
    "Shaped": "surrogate.gp.noise",
    "Solver": "surrogate.gp.process",
    "Sum": "surrogate.gp.kernels",
    "Unstructured": "surrogate.gp.categories",
    "WeightDraws": "surrogate.gp.additive_sampling",
    "Zero": "surrogate.gp.means",
    "ZeroSum": "surrogate.gp.categories",
    "actions_of": "surrogate.gp.solvers.projected",
    "basis_of": "surrogate.gp.bases",
    "basis_posterior": "surrogate.gp.solvers.basis",
    "choose_basis": "surrogate.gp.bases",
    "choose_process": "surrogate.gp.choose",
    "computation_aware": "surrogate.gp.solvers.projected",
    "evidence_bound": "surrogate.gp.solvers.projected",
    "exact_posterior": "surrogate.gp.solvers.exact",
    "fit_additive": "surrogate.gp.additive_basis",
    "iterative_posterior": "surrogate.gp.solvers.iterative",
    "local_posterior": "surrogate.gp.solvers.local",
    "maximise": "surrogate.gp.scales",
    "minibatch_fit": "surrogate.gp.evidence.minibatch",
    "sample_weights": "surrogate.gp.additive_sampling",
    "train_blocks": "surrogate.gp.solvers.projected",
    "with_profiled_noise": "surrogate.gp.choose",
}

__all__ = [*_HOMES]  # noqa: PLE0604  # strings, all of them

if not TYPE_CHECKING:  # type checkers would assume that any name exists
    __getattr__, __dir__ = on_first_use(__name__, _HOMES)
