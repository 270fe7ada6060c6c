"""The commands ``surrogate svm-train`` and ``surrogate svm-predict``, compatible with LIBSVM's programs."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["add_svm_commands", "as_libsvm_spells"]

_KERNELS = {"0": "linear", "2": "rbf"}


def add_svm_commands(commands: Any) -> None:
    """Adds both commands to the subparsers of the ``surrogate`` command."""
    what = "train a least-squares support vector machine on a file in LIBSVM's format"
    train = commands.add_parser("svm-train", help=what, description=f"{what[0].upper()}{what[1:]}.")
    train.set_defaults(command=_train)
    train.add_argument("table", metavar="TRAINING_FILE", help="lines of: label index:value index:value ...")
    train.add_argument("model", metavar="MODEL_FILE", nargs="?", help="file to write (default: TRAINING_FILE.model)")
    train.add_argument("-s", choices=["0"], default="0", help="type of machine; only 0, classification")
    train.add_argument("-t", dest="kernel", choices=sorted(_KERNELS), default="2", help="kernel: 0 linear, 2 radial")
    train.add_argument("-c", dest="C", type=_positive, default=1.0, metavar="C", help="penalty of errors (default 1)")
    train.add_argument(
        "-g", dest="gamma", type=_positive, metavar="G", help="gamma of the kernel (default 1 / features)"
    )
    train.add_argument(
        "-w",
        dest="weights",
        nargs=2,
        action="append",
        default=[],
        type=_number,
        metavar=("LABEL", "W"),
        help="multiply C of a label by W; may be repeated; also as -wLABEL W",
    )
    train.add_argument("-e", dest="tol", type=_positive, default=1e-5, metavar="E", help="tolerance (default 1e-5)")
    train.add_argument(
        "-v",
        dest="folds",
        type=_folds,
        metavar="N",
        help="print the accuracy of N-fold cross-validation and write nothing",
    )
    train.add_argument("--many-classes", action="store_true", help="accept many different numeric labels as classes")
    train.add_argument("-m", dest="cache", type=_positive, metavar="MB", help="ignored; size of LIBSVM's cache")
    train.add_argument("--device", metavar="NAME", help="device for the linear algebra, such as cuda")
    train.add_argument("-q", "--quiet", action="store_true", help="print only errors")
    what = "predict the labels of a file in LIBSVM's format"
    predict = commands.add_parser("svm-predict", help=what, description=f"{what[0].upper()}{what[1:]}.")
    predict.set_defaults(command=_predict)
    predict.add_argument("table", metavar="TEST_FILE", help="file; its labels are only used for the accuracy")
    predict.add_argument("model", metavar="MODEL_FILE", help="model written by svm-train, or by LIBSVM for two classes")
    predict.add_argument("output", metavar="OUTPUT_FILE", help="file to write, one label per line")
    predict.add_argument("--device", metavar="NAME", help="device for the linear algebra, such as cuda")
    predict.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def as_libsvm_spells(words: Sequence[str]) -> list[str]:
    """Arguments of a command line, with LIBSVM's spellings replaced by those of this parser.

    ``-wLABEL W`` becomes ``-w LABEL W``. LIBSVM's ``-h 0`` and ``-h 1``, which control its shrinking heuristic, are
    dropped; ``-h`` alone prints the help.
    """
    if not words or words[0] != "svm-train":
        return list(words)
    found: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "-h" and left and left[0] in ("0", "1"):
            left.pop(0)
        elif (match := _WEIGHT.fullmatch(word)) is not None:
            found += ["-w", match[1]]
        else:
            found.append(word)
    return found


_WEIGHT = re.compile(r"-w([-+]?\d.*)")


def _train(options: argparse.Namespace) -> int:
    from surrogate.svm.libsvm import read_libsvm, write_machine
    from surrogate.svm.lssvc import LSSVC

    x, y = read_libsvm(options.table)
    if not options.many_classes:
        _check_classes(options.table, y)
    gamma = "auto" if options.gamma is None else options.gamma
    kernel = _KERNELS[options.kernel]
    weights = _weights(options.weights, y)
    machine = LSSVC(options.C, kernel=kernel, gamma=gamma, tol=options.tol, class_weight=weights, device=options.device)
    if options.folds is not None:
        print(f"Cross Validation Accuracy = {100 * machine.cross_validated(x, y, options.folds):g}%")
        return 0
    machine.fit(x, y)
    path = Path(options.model) if options.model else Path(f"{options.table}.model")
    write_machine(path, machine.to_file())
    if not options.quiet:
        words = f"{machine.n_iter_} products with the kernel matrix, relative residual {machine.residual_:.1e}"
        print(f"surrogate: {len(x)} points, {len(machine.classes_)} classes, {words}; model in {path}", file=sys.stderr)
    return 0


_MANY = 20  # number of classes above which small classes are suspicious
_FEW = 5  # rows below which a class is small


def _check_classes(table: str, y: NDArray[np.float64]) -> None:
    """Raises ValueError if the labels look like regression targets rather than classes."""
    labels = np.unique(y)
    odd = labels[labels != np.floor(labels)]
    if not len(odd) and (len(labels) <= _MANY or len(y) >= _FEW * len(labels)):
        return
    what = f"the label {odd[0]:g}" if len(odd) else f"{len(labels)} different labels in {len(y)} rows"
    msg = (
        f"{table} has {what}, as in a table for regression; svm-train fits classifiers only. Use surrogate.GPRegressor "
        "for numbers, or --many-classes if these are classes"
    )
    raise ValueError(msg)


def _weights(pairs: list[tuple[float, float]], y: NDArray[np.float64]) -> dict[float, float] | None:
    """Factors on C, by label."""
    from surrogate.svm.libsvm import spelled_label

    labels = np.unique(y).tolist()
    for label, weight in pairs:
        if label not in labels:
            known = ", ".join(map(spelled_label, labels))
            msg = (
                f"-w gives a weight to the label {spelled_label(label)}, which is not among those of the table: {known}"
            )
            raise ValueError(msg)
        if not weight > 0.0:
            msg = f"-w must give a positive weight, got {weight:g} for the label {spelled_label(label)}"
            raise ValueError(msg)
    return dict(pairs) or None


def _predict(options: argparse.Namespace) -> int:
    from surrogate.svm.libsvm import read_libsvm, read_machine, spelled_label
    from surrogate.svm.lssvc import LSSVC

    numbers, (x, y) = read_machine(options.model), read_libsvm(options.table)
    # A file omits features that are zero in all of its lines, so the widths may differ.
    d = max(numbers.support.shape[1], x.shape[1])
    machine = LSSVC.of_file(replace(numbers, support=_pad(numbers.support, d)), device=options.device)
    labels = machine.predict(_pad(x, d))
    Path(options.output).write_text("".join(f"{spelled_label(label)}\n" for label in labels), encoding="utf-8")
    if not options.quiet:
        right = int((labels == y).sum())
        print(f"Accuracy = {100 * right / len(y):g}% ({right}/{len(y)}) (classification)")
    return 0


def _pad(x: NDArray[np.float64], d: int) -> NDArray[np.float64]:
    return np.pad(x, ((0, 0), (0, d - x.shape[1])))


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"must be finite numbers, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _positive(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        msg = f"must be a positive number, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def _folds(word: str) -> int:
    if not (word.isascii() and word.isdigit() and int(word) >= 2):
        msg = f"must be a whole number of at least 2, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(word)
