"""The draws of a result for ArviZ, and as a pandas table. Both libraries are optional."""

from __future__ import annotations

from typing import Any

import numpy as np

from surrogate.arrays import Array, Indices
from surrogate.output.record import Evidence, Record
from surrogate.samplers.samples import Samples

__all__ = ["to_arviz", "to_pandas"]


def to_arviz(samples: Samples, evidence: Evidence, record: Record) -> Any:
    """ArviZ's InferenceData (a DataTree from its version 1.0 on), with one chain of equally weighted draws.

    Groups: ``posterior`` with the parameters and derived values, ``sample_stats`` with ``lp``, the log-posterior, and
    ``observed_data`` with the evaluated points' log-likelihoods. Draws with unequal weights are resampled. The log
    evidence, its error and the verdict are attributes of the posterior.

    Raises:
        ImportError: If ArviZ is not installed.
    """
    try:
        import arviz
    except ImportError as error:
        msg = "to_arviz needs ArviZ: pip install 'surrogate-inference[notebook]'"
        raise ImportError(msg) from error
    rows = _equal_rows(samples.weights)
    columns = dict(zip((*samples.names, *samples.derived_names), _table(samples)[rows].T, strict=True))
    groups = {
        "posterior": {name: column[None] for name, column in columns.items()},
        "sample_stats": {"lp": samples.log_posterior[rows][None]},
        "observed_data": {"log_likelihood": record.data.y[record.data.finite]},
    }
    attributes = {
        "converged": int(record.converged),
        "status": record.status,
        "n_evaluations": record.n_evaluations,
        ("" if record.converged else "unconverged_") + "log_evidence": evidence.log_evidence,
        "log_evidence_error": evidence.error,
        "inference_library": "surrogate",
    }
    if int(arviz.__version__.split(".")[0]) >= 1:
        found = arviz.from_dict(groups)
        found["posterior"].attrs.update(attributes)
    else:
        found = arviz.from_dict(**groups)
        found.posterior.attrs.update(attributes)
    return found


def to_pandas(samples: Samples) -> Any:
    """A DataFrame with a row per draw: parameters, derived values, ``weight``, ``log_posterior`` and ``log_prior``.

    Raises:
        ImportError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        msg = "to_pandas needs pandas: pip install 'surrogate-inference[notebook]'"
        raise ImportError(msg) from error
    frame = pandas.DataFrame(_table(samples), columns=[*samples.names, *samples.derived_names])
    extra = {"weight": samples.weights, "log_posterior": samples.log_posterior, "log_prior": samples.log_prior}
    return frame.assign(**extra)


def _table(samples: Samples) -> Array:
    """Parameters and derived values, with shape (n, d + k)."""
    return np.column_stack([samples.x, samples.derived])


def _equal_rows(weights: Array) -> Indices:
    """Row numbers of equally weighted draws: all rows, or a deterministic systematic resample if weights differ."""
    if np.ptp(weights) <= 1e-9 * weights.max():
        return np.arange(len(weights))
    n = max(int(1.0 / float((weights**2).sum())), 1)
    return np.minimum(np.searchsorted(np.cumsum(weights), (np.arange(n) + 0.5) / n), len(weights) - 1)
