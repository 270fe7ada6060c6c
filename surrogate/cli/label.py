"""The ``surrogate label`` commands: init, ask, tell, predict, release, status, report."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surrogate.labelling.labelling_run import LabellingRun
    from surrogate.labelling.models import Prediction
    from surrogate.labelling.state import Batch

__all__ = ["add_label"]

_PATIENCE = 600.0  # seconds to wait for another command in the same folder
_OUTPUT = "CSV or .parquet file to write (default: standard output)"
OVER = 3  # exit status of ``ask`` when the run is over and there are no more rows

_EPILOG = f"""a run, from beginning to end:
  surrogate label init pool.csv --target y -o runs/x        labels in the table are used
  surrogate label ask runs/x -n 64 > batch.csv              fill in the column y of batch.csv
  surrogate label tell runs/x batch.csv                     some rows may be left for later
  surrogate label status runs/x
  surrogate label predict runs/x new.csv > predicted.csv

exit status: 0 done; 2 the command or a file cannot be used, and nothing was recorded; {OVER} no rows: the run is over
"""


def add_label(commands: Any, count: Callable[[str], int]) -> None:
    """Adds the commands to the parser of ``surrogate``.

    Args:
        commands: The result of ``add_subparsers``.
        count: Converts text to a whole number of at least 1.
    """
    what = "choose which rows of a table to label"
    label = commands.add_parser(
        "label",
        help=what,
        description=f"{what[0].upper()}{what[1:]}: needs a table and somebody who labels rows.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inner = label.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_init(inner, count)
    _add_ask(inner, count)
    _add_tell(inner)
    _add_predict(inner)
    release = _command(inner, "release", _release, "return pending rows that will not be labelled to the pool")
    release.add_argument("--batch", type=count, metavar="N", help="rows of this batch only (default: all)")
    _command(inner, "status", _status, "show the state of a run from its files")
    report = _command(inner, "report", _report, "write a page with the learning curve")
    report.add_argument("-o", "--output", metavar="PATH", help=".html or .png (default: report.html in the folder)")


def _command(inner: Any, name: str, command: Callable[..., int], what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = inner.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.set_defaults(command=command)
    parser.add_argument("folder", metavar="DIR", help="folder of the run")
    return parser


class _Once(argparse.Action):
    """An option that may be given only once; by default argparse silently takes the last value."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string} is given twice: {getattr(namespace, self.dest)!r} and {values!r}")
        setattr(namespace, self.dest, values)


def _add_init(inner: Any, count: Callable[[str], int]) -> None:
    what = "start a run on a table"
    init = inner.add_parser("init", help=what, description=f"{what[0].upper()}{what[1:]}.")
    init.set_defaults(command=_init)
    init.add_argument("pool", metavar="TABLE", help="CSV or Parquet file with a header")
    target = "column of the labels, empty where there is none"
    init.add_argument("--target", metavar="COLUMN", required=True, action=_Once, help=target)
    init.add_argument("-o", "--output", metavar="DIR", required=True, action=_Once, help="folder of the run")
    columns = init.add_argument_group(
        "columns", "columns of text are categorical and columns of numbers numeric, unless declared otherwise"
    )
    for name, words in (
        ("categorical", "columns of numbers that are categories"),
        ("ignore", "columns not used by any model"),
        ("id", "column that identifies rows uniquely"),
    ):
        columns.add_argument(f"--{name}", metavar="COLUMN", action="extend", nargs="+", default=[], help=words)
    ordinal = "levels of an ordinal column, from low to high, coded as 0, 1, 2, ... instead of one-hot"
    columns.add_argument("--ordinal", metavar="COLUMN=A<B<C", action="append", default=[], help=ordinal)
    columns.add_argument(
        "--mask", metavar="COLUMN", action=_Once, help="column that is 1 for rows that may be requested, otherwise 0"
    )
    _add_settings(init.add_argument_group("the run"), count)


def _add_settings(group: Any, count: Callable[[str], int]) -> None:
    number, whole = float, int
    for name, kind, metavar, words in (
        ("seed", whole, "N", "the same table, labels and seed give the same batches (default 0)"),
        (
            "budget",
            count,
            "N",
            "maximum number of labels to request, not counting those in the table (default: no limit)",
        ),
        ("target-error", number, "E", "stop when the held-out RMSE plus one standard error is below this"),
        (
            "flat",
            number,
            "SHARE",
            "stop when doubling the labels would lower the error by less than this fraction, for example 0.03",
        ),
        ("audit", number, "SHARE", "share of random rows in a batch, which give an unbiased error (default 0.1)"),
        ("level", number, "P", "coverage of the intervals (default 0.9)"),
        (
            "model",
            str,
            "NAME",
            "gp, network, ridge, or auto: gp up to 500 labels, then network, or ridge where that is better",
        ),
        ("uncertainty", str, "NAME", "uncertainty of networks: kfac (default), last-layer or swag"),
        ("device", str, "NAME", "device on which models are fitted: cpu (default), cuda or auto"),
    ):
        group.add_argument(f"--{name}", type=kind, metavar=metavar, help=words)
    group.add_argument("--method", metavar="NAME", help="selection rule (default lcmd-tp); random for comparison")
    chosen = "the labelled rows of the table are not a random sample, so no error is estimated on them"
    group.add_argument("--table-not-random", action="store_true", help=chosen)


def _add_ask(inner: Any, count: Callable[[str], int]) -> None:
    ask = _command(inner, "ask", _ask, "choose rows to label and write them as CSV")
    ask.add_argument("-n", type=count, default=64, metavar="N", help="number of rows (default 64)")
    ask.add_argument("-o", "--output", metavar="PATH", help=_OUTPUT)
    ask.add_argument(
        "--anyway", action="store_true", help="continue although the target error is reached or the curve is flat"
    )
    ask.add_argument("--again", type=count, metavar="N", help="write batch N again, without rows that have a label")
    ask.add_argument("--unfinished", action="store_true", help="write pending rows before choosing new ones")


def _add_tell(inner: Any) -> None:
    tell = _command(inner, "tell", _tell, "record labels")
    tell.add_argument(
        "labels", metavar="FILE", help="a batch with the target filled in; 'failed' marks rows that cannot be labelled"
    )
    tell.add_argument("--correct", action="store_true", help="allow replacing known labels")


def _add_predict(inner: Any) -> None:
    predict = _command(inner, "predict", _predict, "predict labels with their uncertainty and write them as CSV")
    predict.add_argument(
        "table", metavar="TABLE", nargs="?", help="table with the columns of the pool (default: the pool itself)"
    )
    predict.add_argument(
        "-o", "--output", metavar="PATH", help="CSV or .parquet file to write (default: standard output)"
    )


def _say(words: str, status: int = 0) -> int:
    print(f"surrogate: {words}", file=sys.stderr)
    return status


# Commands


def _init(options: argparse.Namespace) -> int:
    from surrogate.labelling.folder import LabelFolder
    from surrogate.labelling.run import label

    if LabelFolder.at(options.output).holds_run:
        msg = f"{options.output} holds a run already: continue it with ask and tell, or choose another folder"
        raise ValueError(msg)
    names = ("seed", "budget", "target_error", "flat", "audit", "level", "device", "uncertainty", "model", "method")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    run = label(
        options.pool,
        options.target,
        output=options.output,
        columns=_columns(options),
        table_is_random=not options.table_not_random,
        **given,
    )
    with run:
        for line in _introduction(run):
            _say(line)
    return 0


def _columns(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds = (("categorical", options.categorical), ("ignored", options.ignore), ("id", options.id))
    masks = [] if options.mask is None else [options.mask]
    for kind, names in (*kinds, ("mask", masks)):
        for name in names:
            _declare(found, name, kind)
    for spec in options.ordinal:
        name, _, scale = spec.partition("=")
        _declare(found, name, [word.strip() for word in scale.split("<")])
    return found


def _declare(found: dict[str, Any], name: str, kind: Any) -> None:
    if name in found:
        msg = f"column {name!r} is declared twice: declare it once"
        raise ValueError(msg)
    found[name] = kind


def _introduction(run: LabellingRun) -> list[str]:
    """Lines that the user should check before requesting rows."""
    schema, state = run.pool.schema, run.state
    words = [column.name if not column.categories else _of_categories(column) for column in schema.columns]
    lines = [
        f"{len(run.pool)} rows, {state.n_labels} with a label; models see {run.pool.d} numbers of {', '.join(words)}",
    ]
    if not state.n_labels:
        lines.append(f"no row has a label yet in the column {schema.target!r}")
    if state.n_labels and run.settings.table_is_random:
        lines.append("the labelled rows of the table are assumed to be a random sample; if not, use --table-not-random")
    return lines


def _of_categories(column: Any) -> str:
    return f"{column.name} ({len(column.categories)} {'steps' if column.ordered else 'categories'})"


def _open_run(folder: str) -> LabellingRun:
    """The run in a folder; waits until commands of other processes have ended."""
    from surrogate.labelling.opening import open_run

    try:
        return open_run(folder)
    except RuntimeError as error:
        _say(f"{str(error).partition('. ')[0]}: waiting for it")
    return open_run(folder, wait=_PATIENCE)


def _ask(options: argparse.Namespace) -> int:
    with _open_run(options.folder) as run:
        if options.again:
            return _repeat(run, [options.again], options.output)
        if options.unfinished and (numbers := run.state.unfinished):
            return _repeat(run, numbers, options.output)
        waiting = run.undelivered
        batch = run.ask(options.n, anyway=options.anyway)
        if not len(batch):
            return _say(f"no rows: {run.ending().reason}", OVER)
        if waiting is not None and waiting.number == batch.number:
            _say(f"batch {batch.number} again, because the first output may have been lost")
        _write(_spelling(run, run.state.out_in(batch.number)), options.output)
        run.delivered(batch)
        for line in _of_batch(run, batch):
            _say(line)
    return 0


def _repeat(run: LabellingRun, numbers: Sequence[int], output: str | None) -> int:
    """Writes the pending rows of some batches again."""
    parts = [run.state.out_in(number) for number in numbers]
    _write(_spelling(run, [row for rows in parts for row in rows]), output)
    for number, rows in zip(numbers, parts, strict=True):
        batch = run.state.batch(number)
        run.delivered(batch)
        _say(f"batch {number} again: {len(rows)} of its {len(batch)} rows are still pending")
    return 0


def _spelling(run: LabellingRun, chosen: Iterable[int]) -> list[Sequence[str]]:
    """Header and rows spelled as in the table, with an empty target."""
    from surrogate.labelling.answers import row_column

    rows = [int(row) for row in chosen]
    names, cells = run.original(rows)
    target = run.pool.schema.target
    if target not in names:
        names, cells = [*names, target], {row: [*line, ""] for row, line in cells.items()}
    at = names.index(target)
    lines = [[*cells[row][:at], "", *cells[row][at + 1 :]] for row in rows]
    if run.pool.schema.ids:
        return [names, *lines]
    numbered = [[str(run.pool.names[row]), *line] for row, line in zip(rows, lines, strict=True)]
    return [[row_column(run.pool), *names], *numbered]


def _of_batch(run: LabellingRun, batch: Batch) -> list[str]:
    from surrogate.labelling.progress import compared, prospect
    from surrogate.labelling.state import LABELLED
    from surrogate.output.tables import plus_minus

    drawn = int(batch.random.sum())
    left = "" if run.settings.budget is None else f", {run.settings.budget - run.state.n_spent} left in the budget"
    lines = [f"batch {batch.number}: {len(batch)} rows, {drawn} of them drawn at random{left}"]
    if batch.note:
        lines.append(batch.note)
    if batch.stage is None:
        return [*lines, "no model yet: the first rows are random"]
    stage = batch.stage
    over = f"{stage.n_held_out} {'random rows' if stage.is_random else 'labelled rows, NOT a random sample'}"
    error = plus_minus(stage.rmse, stage.rmse_error)
    lines.append(f"{stage.model}, {stage.n_labels} labels: held-out RMSE {error} over {over}")
    if beside := compared(stage):
        lines.append(beside)
    n_values = len(set(run.state.y[run.state.rows(LABELLED)].tolist()))
    return lines if len(run.stages) > 1 else [*lines, prospect(stage, n_values=n_values)]


def _tell(options: argparse.Namespace) -> int:
    import numpy as np

    from surrogate.labelling.state import FREE, OUT

    with _open_run(options.folder) as run:
        before = run.state
        new, answers = run.tell_table(options.labels, correct=options.correct)
        open_before = int(np.isin(before.status[answers.rows], (FREE, OUT)).sum())
        parts = [f"{open_before} recorded"]
        for count, words in (
            (new - open_before, "corrected"),
            (len(answers.rows) - new, "known already"),
            (int(np.isnan(answers.y).sum()), "of these failed"),
            (answers.empty, "without a label, still pending"),
        ):
            parts += [f"{count} {words}"] if count else []
        out = len(run.state.rows(OUT))
        _say(f"{', '.join(parts)}; {run.state.n_labels} labels in all{f', {out} rows are pending' if out else ''}")
    return 0


def _release(options: argparse.Namespace) -> int:
    with _open_run(options.folder) as run:
        rows = None if options.batch is None else run.state.out_in(options.batch)
        _say(f"{run.release(rows)} rows are back in the pool")
    return 0


def _predict(options: argparse.Namespace) -> int:
    from surrogate.labelling.opening import open_run

    with open_run(options.folder, writing=False) as run:
        found = run.predict(options.table)
        _write(_predicted_rows(run, options.table, found), options.output)
        _say(f"{len(found.mean)} rows; low and high hold the label with probability {found.level:g}")
        if options.table is not None and (words := _check(run, options.table, found)):
            _say(words)
    return 0


def _predicted_rows(run: LabellingRun, path: str | None, found: Prediction) -> Iterable[Sequence[str]]:
    """Predictions with the ids of the rows, or with row numbers counted from 1."""
    from surrogate.labelling.answers import row_column
    from surrogate.labelling.table import read_table

    ids = run.pool.schema.ids
    keys: dict[str, Sequence[str]] = {row_column(run.pool): [str(row + 1) for row in range(len(found.mean))]}
    if path is None and ids:
        keys = {" / ".join(ids): run.pool.names.tolist()}
    elif path is not None and ids:
        table = read_table(path, text=ids)
        keys = {name: table.texts(name) for name in ids if name in table.columns} or keys
    yield [*keys, "mean", "sd", "low", "high"]
    numbers = ([f"{value:.8g}" for value in row] for row in found.table().tolist())
    for names, row in zip(zip(*keys.values(), strict=True), numbers, strict=True):
        yield [*names, *row]


def _check(run: LabellingRun, path: str, found: Prediction) -> str:
    """The errors of predictions if the table has labels; otherwise empty."""
    import numpy as np

    from surrogate.labelling.progress import Coverage
    from surrogate.labelling.table import read_table

    target = run.pool.schema.target
    table = read_table(path)
    if target not in table.columns or not np.isfinite(y := table.numbers(target)).any():
        return ""
    known = np.isfinite(y)
    error = (y - found.mean)[known]
    inside = int(((y >= found.low) & (y <= found.high))[known].sum())
    rmse, mae = float(np.sqrt(np.mean(error**2))), float(np.mean(np.abs(error)))
    held = Coverage(int(known.sum()), inside, found.level)
    return f"the table has labels: RMSE {rmse:.4g}, MAE {mae:.4g}; {held}"


def _status(options: argparse.Namespace) -> int:
    from surrogate.labelling.opening import open_run

    run = open_run(options.folder, writing=False)
    for name, words in [("run in", options.folder), *run.facts(), ("verdict", run.ending().reason)]:
        print(f"{name:14}{words}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from surrogate.labelling.opening import open_run

    run = open_run(options.folder, writing=False)
    path = Path(options.output) if options.output else Path(options.folder) / "report.html"
    run.report(path)
    return _say(f"report in {path}")


def _write(rows: Iterable[Sequence[str]], path: str | None) -> None:
    """Writes a file atomically, as Parquet or CSV by its extension, or CSV to standard output."""
    from surrogate.labelling.table import is_parquet, parquet_bytes
    from surrogate.storage.files import replacing

    if path is not None and is_parquet(path):
        names, *cells = rows
        content = parquet_bytes(names, cells)
    else:
        stream = io.StringIO(newline="")
        csv.writer(stream, lineterminator="\n").writerows(rows)
        if path is None:
            sys.stdout.write(stream.getvalue())
            sys.stdout.flush()
            return
        content = stream.getvalue().encode()
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(Path(path)) as file:
        file.write(content)
