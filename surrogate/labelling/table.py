"""Tables from files or memory, with columns of numbers or text and row numbers for error messages.

CSV files (comma, semicolon or tab, found from the header; UTF-8) and Parquet files (with pyarrow). Rows are counted
from 1 without the header and without blank lines.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from surrogate.arrays import Array

__all__ = [
    "MISSING",
    "Cell",
    "Table",
    "comma_hint",
    "digest",
    "has_comma",
    "is_parquet",
    "original_rows",
    "parquet_bytes",
    "read_table",
]


MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>"})  # lower case
_CHUNK = 20_000  # rows converted at a time, because text takes ten times the memory of numbers


@dataclass(frozen=True)
class Cell:
    """A cell that could not be read as a number: its row, counted from 1, and its text."""

    row: int
    text: str


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length.

    Attributes:
        source: Name of the table in error messages.
        columns: Columns by name: numbers with shape (n,), NaN where missing; or a list of n strings.
        strays: First cell of text in each column of numbers that has one.
    """

    source: str
    columns: dict[str, Array | list[str]]
    strays: dict[str, Cell] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    @classmethod
    def of(cls, data: Any, *, names: Sequence[str] | None = None) -> Table:
        """A table made of data in memory.

        Args:
            data: A mapping of names to sequences, a pandas DataFrame, or numbers with shape (n, d).
            names: Names of the columns of an array; by default x0, x1, ...

        Raises:
            ValueError: If columns differ in length, or an array is not two-dimensional.
            TypeError: If the data have an unsupported type.
        """
        if isinstance(data, Table):
            return data
        if hasattr(data, "columns") and hasattr(data, "to_dict"):
            data = {str(name): list(data[name]) for name in data.columns}
        if isinstance(data, Mapping):
            return _of_mapping(data)
        array = np.asarray(data)
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
            msg = (
                "the pool must be the path of a table, a mapping of names to columns, a DataFrame or "
                "numbers with shape "
                f"(n, d); got {type(data).__name__} with shape {np.shape(data)}"
            )
            raise TypeError(msg)
        words = [f"x{j}" for j in range(array.shape[1])] if names is None else list(names)
        return _of_mapping(dict(zip(words, array.T, strict=True)))

    def texts(self, name: str) -> list[str]:
        """A column as text; whole numbers are written without a decimal point."""
        column = self.columns[name]
        return column if isinstance(column, list) else [_spelling(value) for value in column.tolist()]

    def numbers(self, name: str) -> Array:
        """A column as numbers with shape (n,), NaN where missing.

        Raises:
            ValueError: If a cell is text; the message gives its row.
        """
        column = self.columns[name]
        if not isinstance(column, list):
            if name in self.strays:
                raise ValueError(self._stray(name, self.strays[name]))
            return column
        values, strays = _parse(column)
        if strays:
            raise ValueError(self._stray(name, Cell(strays[0].row, strays[0].text)))
        return values

    def _stray(self, name: str, cell: Cell) -> str:
        return f"{self.source}, row {cell.row}, column {name!r}: {cell.text!r} is not a number{comma_hint(cell.text)}"


_COMMA = re.compile(r"\s*[-+]?\d+(,\d+)+(\.\d+)?\s*")


def has_comma(text: str) -> bool:
    """Whether a cell looks like a number written with a comma, such as "1,5" or "1,000"."""
    return _COMMA.fullmatch(text) is not None


def comma_hint(text: str) -> str:
    """A hint on commas for the message about a cell that is not a number; empty if there is no comma."""
    if not has_comma(text):
        return ""
    return (
        ": write the decimal point as '.' and leave out separators of thousands (pandas: decimal=',' or thousands=',')"
    )


def _spelling(value: float) -> str:
    """The number as text, without a decimal point if whole; empty if missing."""
    if math.isnan(value):
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _of_mapping(data: Mapping[Any, Any]) -> Table:
    lengths = {str(name): len(column) for name, column in data.items()}
    if len(set(lengths.values())) > 1:
        msg = f"columns must have the same length, got {lengths}"
        raise ValueError(msg)
    columns: dict[str, Array | list[str]] = {}
    strays: dict[str, Cell] = {}
    for name, column in data.items():
        array = np.asarray(column)
        if np.issubdtype(array.dtype, np.number) or array.dtype == bool:
            columns[str(name)] = array.astype(np.float64)
            continue
        collector = _Collector(str(name), keep_text=False)
        collector.add(["" if cell is None else str(cell) for cell in column])
        columns[str(name)], stray = collector.column()
        if stray is not None:
            strays[str(name)] = stray
    return Table("the table", columns, strays)


# Files


def read_table(path: str | os.PathLike[str], *, text: Collection[str] = ()) -> Table:
    """The table in a CSV or Parquet file.

    A column is numeric if at least half of its non-missing cells are numbers.

    Args:
        path: The file.
        text: Columns to read as text in any case.

    Raises:
        ValueError: If the file cannot be read, a row and the header differ in length, or names are not unique.
    """
    file = Path(path)
    try:
        if is_parquet(file):
            return _read_parquet(file, text)
        return _read_csv(file, frozenset(text))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise ValueError(msg) from error
    except UnicodeDecodeError as error:
        msg = (
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as CSV in UTF-8, or as .parquet"
        )
        raise ValueError(msg) from error


def is_parquet(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a Parquet file, judged by its name."""
    return Path(path).suffix.lower() in (".parquet", ".pq")


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal; reads about 1 GB per second."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file: Any) -> str:
    found = hashlib.sha256()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def original_rows(path: str | os.PathLike[str], rows: Collection[int]) -> tuple[list[str], dict[int, list[str]]]:
    """Names of the columns, and the cells of some rows (counted from 0) as written in the file."""
    wanted = set(rows)
    file = Path(path)
    if is_parquet(file):
        table = _parquet().read_table(file).take(sorted(wanted))
        cells = [["" if cell is None else str(cell) for cell in column.to_pylist()] for column in table.columns]
        return table.column_names, {row: [c[i] for c in cells] for i, row in enumerate(sorted(wanted))}
    with open(file, newline="", encoding="utf-8-sig") as stream:
        names, lines = _lines(stream, file.name)
        return names, {row: cells for row, cells in enumerate(lines) if row in wanted}


def _lines(stream: Any, source: str) -> tuple[list[str], Iterator[list[str]]]:
    """The header, and the rows that are not blank."""
    header = stream.readline()
    split = {mark: next(csv.reader([header], delimiter=mark), []) for mark in (",", ";", "\t")}
    delimiter = max(split, key=lambda mark: len(split[mark]))
    names = [name.strip() for name in split[delimiter]]
    if not names:
        msg = f"{source} is empty: a table needs a header and rows"
        raise ValueError(msg)
    if "" in names:
        msg = f"{source}: column {names.index('') + 1} has no name; name it or leave it out (pandas: index=False)"
        raise ValueError(msg)
    if repeated := [name for i, name in enumerate(names) if name in names[:i]]:
        msg = f"{source}: two columns are called {repeated[0]!r}; names must be unique"
        raise ValueError(msg)
    return names, _rows(csv.reader(stream, delimiter=delimiter), source)


def _rows(lines: Iterator[list[str]], source: str) -> Iterator[list[str]]:
    """The rows that are not blank.

    Raises:
        ValueError: If a row cannot be parsed; the message gives its number.
    """
    row = 1
    while True:
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            msg = f"{source}, row {row}: {error}; a quotation mark may be open there"
            raise ValueError(msg) from error
        if cells:
            yield cells
            row += 1


def _read_csv(path: Path, text: frozenset[str]) -> Table:
    with open(path, newline="", encoding="utf-8-sig") as stream:
        names, lines = _lines(stream, path.name)
        collectors = [_Collector(name, keep_text=name in text) for name in names]
        first = 1
        while chunk := list(itertools.islice(lines, _CHUNK)):
            _check_widths(chunk, len(names), first, path.name)
            for collector, cells in zip(collectors, zip(*chunk, strict=True), strict=True):
                collector.add(cells)
            first += len(chunk)
    if again := [collector.name for collector in collectors if collector.lacks_text]:
        return _read_csv(path, text | set(again))
    found = {collector.name: collector.column() for collector in collectors}
    strays = {name: stray for name, (_, stray) in found.items() if stray is not None}
    return Table(path.name, {name: column for name, (column, _) in found.items()}, strays)


def _check_widths(chunk: list[list[str]], width: int, first: int, source: str) -> None:
    for row, cells in enumerate(chunk, start=first):
        if len(cells) != width:
            msg = f"{source}, row {row}: {len(cells)} cells, but the header has {width}"
            raise ValueError(msg)


class _Collector:
    """Collects the cells of one column in chunks."""

    def __init__(self, name: str, *, keep_text: bool) -> None:
        self.name = name
        self._keep_text = keep_text
        self._numbers: list[Array] = []
        self._texts: list[Sequence[str] | None] = []
        self._n = self._n_stray = self._n_missing = 0
        self._stray: Cell | None = None

    def add(self, cells: Sequence[str]) -> None:
        """Adds the cells of the next rows."""
        if self._keep_text:
            self._texts.append(cells)
            return
        values, strays = _parse(cells)
        if strays and self._stray is None:
            self._stray = Cell(self._n + strays[0].row, strays[0].text)
        self._numbers.append(values)
        self._texts.append(cells if strays else None)
        self._n += len(cells)
        self._n_stray += len(strays)
        self._n_missing += int(np.isnan(values).sum()) - len(strays)

    @property
    def is_text(self) -> bool:
        """Whether more than half of the non-missing cells are not numbers."""
        return self._keep_text or 2 * self._n_stray > self._n - self._n_missing

    @property
    def lacks_text(self) -> bool:
        """Whether the column is text, but cells that looked like numbers were converted and lost their spelling."""
        return self.is_text and any(texts is None for texts in self._texts)

    def column(self) -> tuple[Array | list[str], Cell | None]:
        """The complete column, and the first cell of text if it is numeric."""
        if self.is_text:
            return [cell for cells in self._texts if cells is not None for cell in cells], None
        return np.concatenate([*self._numbers, np.empty(0)]), self._stray


def _parse(cells: Sequence[str]) -> tuple[Array, list[Cell]]:
    """Numbers, NaN where there are none, and the cells of text, with rows counted from 1 within these cells."""
    try:
        return np.array(cells, dtype=np.float64), []
    except ValueError:
        found = [_number(cell) for cell in cells]
    strays = [Cell(row, cells[row - 1]) for row, value in enumerate(found, start=1) if value is None]
    return np.array([math.nan if value is None else value for value in found]), strays


def _number(cell: str) -> float | None:
    """The cell as a number: NaN if missing, None if it is text."""
    try:
        return float(cell)
    except ValueError:
        return math.nan if cell.strip().lower() in MISSING else None


# Parquet


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        msg = "Parquet files need pyarrow: pip install 'surrogate-inference[parquet]', or save the table as CSV"
        raise ValueError(msg) from error
    return pyarrow.parquet


def _read_parquet(path: Path, text: Collection[str]) -> Table:
    content = _parquet().read_table(path)
    pairs = zip(content.column_names, content.columns, strict=True)
    return Table(path.name, {name: _convert(column, name in text) for name, column in pairs})


def _convert(column: Any, is_text: bool) -> Array | list[str]:
    cells: Iterable[Any] = column.to_pylist()
    kind = str(column.type)
    if kind.startswith(("int", "uint", "float", "double", "halffloat", "bool", "decimal")) and not is_text:
        return np.array([math.nan if cell is None else float(cell) for cell in cells])
    # Dates and similar types become text, to be used as ids or ignored.
    return [_spelling(cell) if isinstance(cell, float) else "" if cell is None else str(cell) for cell in cells]


def parquet_bytes(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """The content of a Parquet file; a column is numeric if all its cells are numbers or empty.

    Raises:
        ValueError: If pyarrow is not installed.
    """
    writer = _parquet()
    import pyarrow

    columns: dict[str, Any] = {}
    for name, cells in zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True):
        values, strays = _parse(cells)
        columns[name] = list(cells) if strays else pyarrow.array(values, from_pandas=True)
    sink = pyarrow.BufferOutputStream()
    writer.write_table(pyarrow.table(columns), sink)
    return bytes(sink.getvalue())
