"""Chains and products in the layout of Cobaya, as columns of numbers; Cobaya itself is not needed to write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from surrogate.arrays import Array
from surrogate.storage.files import replacing

__all__ = ["chain_columns", "save_chain", "save_covariance", "save_log_evidence", "shared_out"]


_DIGITS = 8  # significant ones in Cobaya's chains


def shared_out(parts: Array, total: Array, error: Array) -> Array:
    """The parts, with shape (n, k), adjusted so that each row adds up to its total, with shape (n,).

    The difference is split in proportion to the variances of the parts, whose errors have shape (k,), or equally if all
    errors are zero.
    """
    share = np.nan_to_num(error) ** 2
    share = share / share.sum() if share.sum() > 0 else np.full(parts.shape[1], 1.0 / parts.shape[1])
    return parts + (total - parts.sum(1))[:, None] * share


def chain_columns(
    weights: Array,
    sampled: Mapping[str, Array],
    derived: Mapping[str, Array],
    log_priors: Mapping[str, Array],
    log_likelihoods: Mapping[str, Array],
) -> dict[str, Array]:
    """The columns of a chain in Cobaya's order; totals are sums of the rounded parts.

    Args:
        weights: Weights of the rows, with shape (n,).
        sampled: Parameters, each with shape (n,).
        derived: Derived values.
        log_priors: Log densities of the factors of the prior by name; "0" is the product of the one-dimensional priors.
        log_likelihoods: Log-likelihoods by name.
    """
    priors = {f"minuslogprior__{name}": _round(-v) for name, v in log_priors.items()}
    chi2 = {f"chi2__{name}": _round(-2.0 * v) for name, v in log_likelihoods.items()}
    minus_log_prior, total = (np.sum(list(parts.values()), axis=0) for parts in (priors, chi2))
    return (
        {"weight": weights, "minuslogpost": minus_log_prior + 0.5 * total}
        | dict(sampled)
        | dict(derived)
        | {"minuslogprior": minus_log_prior}
        | priors
        | {"chi2": total}
        | chi2
    )


def _round(values: Array) -> Array:
    """Values rounded to the digits that are written, with -0 replaced by 0."""
    return np.array([float(f"{v:.{_DIGITS}g}") for v in np.asarray(values).tolist()]) + 0.0


def save_chain(path: Path, columns: Mapping[str, Array]) -> None:
    """Writes a chain atomically: a header with the names, then rows with eight digits.

    Raises:
        OSError: If it cannot be written.
    """
    widths = [max(7 + _DIGITS, len(name)) for name in columns]
    head = " ".join(f"{name:>{width}s}" for name, width in zip(columns, widths, strict=True))
    with replacing(path) as file:
        file.write(f"#{head[1:]}\n".encode())
        np.savetxt(file, np.stack(list(columns.values()), axis=1), fmt=[f"%{w}.{_DIGITS}g" for w in widths])


def save_covariance(path: Path, names: Sequence[str], covariance: Array) -> None:
    """Writes a covariance matrix that Cobaya and MontePython read as ``covmat``."""
    with replacing(path) as file:
        np.savetxt(file, np.atleast_2d(covariance), header=" ".join(names))


def save_log_evidence(path: Path, log_evidence: float, error: float) -> None:
    """Writes the natural log of the evidence and its error."""
    with replacing(path) as file:
        file.write(f"logZ: {float(log_evidence)!r}\nlogZstd: {float(error)!r}\n".encode())
