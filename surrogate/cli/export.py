"""The command ``surrogate export``: a smaller file of a trained network, for programs without this package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surrogate.arrays import Array

__all__ = ["add_export"]

_DESCRIPTION = """\
Compresses a trained network and writes one file that loads without this package: .npz, which needs only numpy, or .pt2,
which torch.export.load reads. Prints size, error and time before and after. If the error rises by more than the
tolerance, nothing is written.
"""


def add_export(commands: Any) -> None:
    """Adds the command to the subparsers of the ``surrogate`` command."""
    export = commands.add_parser(
        "export", help="compress a trained network for use in other programs", description=_DESCRIPTION
    )
    export.set_defaults(command=_export)
    export.add_argument("model", metavar="MODEL", help=".npz file of save_network")
    export.add_argument("-o", "--output", metavar="FILE", required=True, help=".npz or .pt2 file to write")
    export.add_argument(
        "--data",
        metavar="TABLE",
        required=True,
        help="rows for training and evaluation, target or class in the last column: .csv, .csv.gz, or .txt with blanks",
    )
    export.add_argument(
        "--precision",
        choices=["float32", "bf16", "int8"],
        default="int8",
        help="number type of the weights (default int8)",
    )
    export.add_argument(
        "--activations",
        choices=["none", "dynamic", "static"],
        default="none",
        help="also round inputs of hidden layers to 8 bits, for .pt2; ranges are taken per row or from the table",
    )
    export.add_argument("--prune", type=_share, default=0.0, metavar="SHARE", help="remove this share of the weights")
    export.add_argument("--structured", action="store_true", help="remove whole hidden units")
    export.add_argument("--aware", action="store_true", help="continue training with rounded numbers (int8)")
    export.add_argument(
        "--steps", type=_steps, default=1500, metavar="N", help="training steps after compression (default 1500)"
    )
    export.add_argument(
        "--tolerance",
        type=_tolerance,
        metavar="SHARE",
        help="allowed relative rise of the error (default 0.02; 0.05 if pruned)",
    )
    export.add_argument("--seed", type=int, default=0, metavar="N", help="seed of random numbers")
    export.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def _export(options: argparse.Namespace) -> int:
    from surrogate.networks.export import export_network, load_network
    from surrogate.networks.recipes import Recipe

    recipe = Recipe(
        precision=options.precision,
        activations=options.activations,
        prune=options.prune,
        structured=options.structured,
        aware=options.aware,
        steps=options.steps,
        seed=options.seed,
    )
    tolerance = options.tolerance if options.tolerance is not None else 0.05 if options.prune else 0.02
    model = load_network(options.model)
    columns, target = _rows(Path(options.data), model.classes)
    report = export_network(model, options.output, columns, target, recipe, tolerance=tolerance)
    if not options.quiet:
        print(report)
        print(f"surrogate: wrote {report.path}", file=sys.stderr)
    return 0


def _rows(path: Path, classes: NDArray | None) -> tuple[Array, NDArray]:
    """The columns of a file, and the targets or classes in the last column; a header line is skipped."""
    separator = None if path.suffix == ".txt" else ","
    words = np.loadtxt(path, delimiter=separator, ndmin=2, dtype=str)
    try:
        columns = words[:, :-1].astype(float)
    except ValueError:
        words = words[1:]
        columns = words[:, :-1].astype(float)
    last = words[:, -1] if columns.shape[1] else words[:, 0]
    if classes is None or classes.dtype.kind in "iuf":
        return columns, last.astype(float)
    return columns, np.char.strip(last) == "True" if classes.dtype.kind == "b" else np.char.strip(last)


def _share(word: str) -> float:
    return _between(word, 1.0, "a share in [0, 1)")


def _tolerance(word: str) -> float:
    return _between(word, float("inf"), "a number of at least 0")


def _between(word: str, end: float, expected: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < end:
        msg = f"must be {expected}, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _steps(word: str) -> int:
    if not (word.isascii() and word.isdigit()):
        msg = f"must be a whole number of at least 0, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(word)
