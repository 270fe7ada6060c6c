"""Linear algebra of kernel matrices that need not be stored: operators, factors, solvers, log-determinants.

Names are loaded on first use, like those of ``surrogate``.
"""

from typing import TYPE_CHECKING

from surrogate.lazy import on_first_use

if TYPE_CHECKING:
    from surrogate.linalg.logdet import LogDeterminant as LogDeterminant
    from surrogate.linalg.logdet import log_determinant as log_determinant
    from surrogate.linalg.lowrank import LowRank as LowRank
    from surrogate.linalg.lowrank import accelerated_cholesky as accelerated_cholesky
    from surrogate.linalg.lowrank import column_nystrom as column_nystrom
    from surrogate.linalg.lowrank import nystrom_sketch as nystrom_sketch
    from surrogate.linalg.lowrank import pivoted_cholesky as pivoted_cholesky
    from surrogate.linalg.lowrank import random_cholesky as random_cholesky
    from surrogate.linalg.lowrank import randomised_svd as randomised_svd
    from surrogate.linalg.lowrank import uniform_pivots as uniform_pivots
    from surrogate.linalg.operators import DenseOperator as DenseOperator
    from surrogate.linalg.operators import FeatureOperator as FeatureOperator
    from surrogate.linalg.operators import KernelOperator as KernelOperator
    from surrogate.linalg.operators import Operator as Operator
    from surrogate.linalg.precision import PRECISIONS as PRECISIONS
    from surrogate.linalg.precision import LowPrecisionError as LowPrecisionError
    from surrogate.linalg.precision import required_floor as required_floor
    from surrogate.linalg.preconditioners import DiagonalPreconditioner as DiagonalPreconditioner
    from surrogate.linalg.preconditioners import NystromPreconditioner as NystromPreconditioner
    from surrogate.linalg.preconditioners import Preconditioner as Preconditioner
    from surrogate.linalg.solvers import Cholesky as Cholesky
    from surrogate.linalg.solvers import Solve as Solve
    from surrogate.linalg.solvers import cg as cg
    from surrogate.linalg.solvers import cg_growing as cg_growing
    from surrogate.linalg.solvers import refine as refine
    from surrogate.linalg.solvers import require_floor as require_floor
    from surrogate.linalg.solvers import residual_norms as residual_norms
    from surrogate.linalg.stationary import CORRELATIONS as CORRELATIONS
    from surrogate.linalg.stationary import Stationary as Stationary

# The module of each public name; the block above tells type checkers the same.
_HOMES = {
    "CORRELATIONS": "surrogate.linalg.stationary",
    "Cholesky": "surrogate.linalg.solvers",
    "DenseOperator": "surrogate.linalg.operators",
    "DiagonalPreconditioner": "surrogate.linalg.preconditioners",
    "FeatureOperator": "surrogate.linalg.operators",
    "KernelOperator": "surrogate.linalg.operators",
    "LogDeterminant": "surrogate.linalg.logdet",
    "LowPrecisionError": "surrogate.linalg.precision",
    "LowRank": "surrogate.linalg.lowrank",
    "NystromPreconditioner": "surrogate.linalg.preconditioners",
    "Operator": "surrogate.linalg.operators",
    "PRECISIONS": "surrogate.linalg.precision",
    "Preconditioner": "surrogate.linalg.preconditioners",
    "Solve": "surrogate.linalg.solvers",
    "Stationary": "surrogate.linalg.stationary",
    "accelerated_cholesky": "surrogate.linalg.lowrank",
    "cg": "surrogate.linalg.solvers",
    "cg_growing": "surrogate.linalg.solvers",
    "column_nystrom": "surrogate.linalg.lowrank",
    "log_determinant": "surrogate.linalg.logdet",
    "nystrom_sketch": "surrogate.linalg.lowrank",
    "pivoted_cholesky": "surrogate.linalg.lowrank",
    "random_cholesky": "surrogate.linalg.lowrank",
    "randomised_svd": "surrogate.linalg.lowrank",
    "refine": "surrogate.linalg.solvers",
    "require_floor": "surrogate.linalg.solvers",
    "required_floor": "surrogate.linalg.precision",
    "residual_norms": "surrogate.linalg.solvers",
    "uniform_pivots": "surrogate.linalg.lowrank",
}

__all__ = [*_HOMES]  # noqa: PLE0604  # strings, all of them

if not TYPE_CHECKING:  # type checkers would assume that any name exists
    __getattr__, __dir__ = on_first_use(__name__, _HOMES)
