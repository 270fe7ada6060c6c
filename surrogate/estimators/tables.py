"""Encoding of tables with columns of text: pandas DataFrames, structured arrays, and arrays of objects."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from surrogate.arrays import Array

__all__ = ["MOST_CATEGORIES", "Columns", "as_columns", "is_mixed", "robust_scale"]

MOST_CATEGORIES = 300
"""Largest number of categories of a column; text with more identifies rows instead of grouping them."""


def is_mixed(X: Any, categorical: Collection[str | int] | str) -> bool:  # noqa: N803  # scikit-learn's name
    """Whether a table has columns of categories: declared ones, or columns of text."""
    if not isinstance(categorical, str):
        return len(categorical) > 0
    _declared(categorical, ())
    return any(_is_text(column) for column in as_columns(X)[1]) if _has_columns(X) else _has_text(X)


def _has_columns(X: Any) -> bool:  # noqa: N803
    return (hasattr(X, "columns") and hasattr(X, "dtypes")) or getattr(
        getattr(X, "dtype", None), "names", None
    ) is not None


def _has_text(X: Any) -> bool:  # noqa: N803
    array = X if isinstance(X, np.ndarray) else np.asarray(X, dtype=object) if isinstance(X, (list, tuple)) else None
    if array is None or array.ndim != 2 or array.dtype.kind not in "OU":
        return False
    return array.dtype.kind == "U" and not _are_numbers(array) or any(_is_text(column) for column in array.T)


def _are_numbers(array: Any) -> bool:
    try:
        np.asarray(array, dtype=np.float64)
    except (ValueError, TypeError):
        return False
    return True


def _is_text(column: Any) -> bool:
    kind = getattr(column.dtype, "kind", "O")
    if kind in "OUT" or str(column.dtype) in ("category", "str", "string"):
        values = np.asarray(column, dtype=object)
        return any(isinstance(value, str) for value in values) and not _are_numbers(values)
    return False


def as_columns(X: Any) -> tuple[list[str] | None, list[Any]]:  # noqa: N803
    """Names (or None) and columns of a DataFrame, a structured array, or an array with shape (n, d).

    Raises:
        ValueError: If X is none of these.
    """
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        return [str(name) for name in X.columns], [X[name] for name in X.columns]
    names = getattr(getattr(X, "dtype", None), "names", None)
    if names is not None:
        return list(names), [X[name] for name in names]
    array = np.asarray(X, dtype=object) if isinstance(X, (list, tuple)) else np.asarray(X)
    if array.ndim != 2:
        msg = f"X must be a table with shape (n, d), a DataFrame or a structured array, got shape {array.shape}"
        raise ValueError(msg)
    return None, list(array.T)


@dataclass(frozen=True, eq=False)
class Columns:
    """The encoding of a table's columns, which hold numbers or categories.

    Attributes:
        names: Names of the columns.
        words: Ordered categories of each column; None for numbers.
        centre: Medians of the columns of numbers, with shape (d,).
        spread: Robust standard deviations of the columns of numbers, with shape (d,).
    """

    names: tuple[str, ...]
    words: tuple[tuple[Any, ...] | None, ...]
    centre: Array
    spread: Array

    @classmethod
    def of(cls, X: Any, categorical: Collection[str | int] | str) -> Columns:  # noqa: N803
        """The encoding derived from a table.

        Args:
            X: A DataFrame, a structured array, or an array with shape (n, d).
            categorical: Names or positions of columns of categories; "auto" for columns of text.

        Raises:
            ValueError: If a declared column does not exist, a column has too many categories, or a number is not
                finite.
        """
        given, columns = as_columns(X)
        names = given or [f"x{j}" for j in range(len(columns))]
        declared = _declared(categorical, names)
        words = [
            _words(name, column, j in declared) for j, (name, column) in enumerate(zip(names, columns, strict=True))
        ]
        scales = [
            (0.0, 1.0) if found is not None else robust_scale(_numbers(name, column))
            for name, column, found in zip(names, columns, words, strict=True)
        ]
        centre, spread = np.array(scales).T
        return cls(tuple(names), tuple(words), centre, spread)

    @property
    def counts(self) -> dict[int, int]:
        """Number of categories of each column, at least two because a covariance matrix needs two."""
        return {j: max(2, len(words)) for j, words in enumerate(self.words) if words is not None}

    def encode(self, X: Any) -> Array:  # noqa: N803
        """Numbers and codes, with shape (n, d); unknown categories get -1, with a warning.

        Numbers become asinh((x - median) / width), which is linear in the middle and compresses tails.

        Raises:
            ValueError: If the number of columns differs, or a number is not finite.
        """
        given, columns = as_columns(X)
        if given is not None and set(self.names) <= set(given):
            columns = [columns[given.index(name)] for name in self.names]
        if len(columns) != len(self.names):
            msg = f"X has {len(columns)} features, but GPRegressor is expecting {len(self.names)} features as input"
            raise ValueError(msg)
        out = []
        for j, (name, words, column) in enumerate(zip(self.names, self.words, columns, strict=True)):
            if words is None:
                out.append(np.arcsinh((_numbers(name, column) - self.centre[j]) / self.spread[j]))
            else:
                out.append(_codes(name, column, words))
        return np.column_stack(out)


def _declared(categorical: Collection[str | int] | str, names: Sequence[str]) -> set[int]:
    if isinstance(categorical, str):
        if categorical != "auto":
            msg = f"categorical must be 'auto' or a list of columns, got {categorical!r}"
            raise ValueError(msg)
        return set()
    out = set()
    for column in categorical:
        if isinstance(column, str) and column in names:
            out.add(names.index(column))
        elif not isinstance(column, str) and 0 <= int(column) < len(names):
            out.add(int(column))
        else:
            known = ", ".join(names)
            msg = f"categorical must name columns of X or give their positions, got {column!r}; X has {known}"
            raise ValueError(msg)
    return out


def _words(name: str, column: Any, declared: bool) -> tuple[Any, ...] | None:
    if not declared and not _is_text(column):
        return None
    words = tuple(sorted({_word(value) for value in np.asarray(column, dtype=object)}))
    if len(words) > MOST_CATEGORIES:
        msg = (
            f"column {name!r} holds {len(words)} different words, but at most {MOST_CATEGORIES} are possible: leave "
            "the column out if it names rows, or group its words"
        )
        raise ValueError(msg)
    return words


def _word(value: Any) -> str:
    """A value as text; missing values are a separate category, and 1 and 1.0 are the same."""
    if value is None or value != value:
        return ""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _codes(name: str, column: Any, words: Sequence[str]) -> NDArray[np.float64]:
    position = {word: float(code) for code, word in enumerate(words)}
    found = [_word(value) for value in np.asarray(column, dtype=object)]
    codes = np.array([position.get(word, -1.0) for word in found])
    if len(bad := np.flatnonzero(codes < 0.0)):
        unseen = sorted({found[i] for i in bad})
        msg = (
            f"column {name!r} holds {len(unseen)} categories that the fit did not see, such as {unseen[0]!r}, in "
            f"{len(bad)} rows: their effects are unknown and have their prior variance"
        )
        warnings.warn(msg, UserWarning, stacklevel=4)
    return codes


def _numbers(name: str, column: Any) -> Array:
    try:
        values = np.asarray(column, dtype=np.float64)
    except (ValueError, TypeError) as error:
        msg = f"column {name!r} holds text among numbers: correct it, or declare it with categorical=[{name!r}]"
        raise ValueError(msg) from error
    if not np.isfinite(values).all():
        msg = f"Input X contains NaN or infinity in column {name!r}: fill the gaps, or leave out these rows"
        raise ValueError(msg)
    return values


def robust_scale(values: Array) -> tuple[float, float]:
    """Median, and interquartile range scaled to the sd of a normal; the sd if that range is zero."""
    middle = float(np.median(values))
    low, high = np.quantile(values, [0.25, 0.75])
    for width in ((high - low) / 1.349, float(values.std())):
        if width > 1e-12 * max(1.0, abs(middle)):
            return middle, float(width)
    return middle, 1.0
