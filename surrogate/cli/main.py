"""The ``surrogate`` command: run, status, sample and report; other subcommands have their own modules."""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surrogate._version import __version__
from surrogate.cli.compare import add_compare
from surrogate.cli.export import add_export
from surrogate.cli.label import add_label
from surrogate.cli.log import show_log
from surrogate.cli.svm import add_svm_commands, as_libsvm_spells
from surrogate.cli.watch import add_watch, parameter_names
from surrogate.output.outcome import read_outcome
from surrogate.output.tables import plus_minus
from surrogate.storage.arrays import load_arrays
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry

if TYPE_CHECKING:
    from surrogate.cli.config import RunConfig
    from surrogate.executors.mpi import Ranks
    from surrogate.inference.result import Result

__all__ = ["facts_of_run", "main"]

_USER_ERROR, _NOT_CONVERGED, _INTERRUPTED = 2, 3, 130

_EPILOG = f"""exit status:
  0    done; a run has converged
  {_USER_ERROR}    the command or a file cannot be used; one line on standard error says why
  {_NOT_CONVERGED}    the run ended before it converged; to continue, repeat the command with more evaluations
  {_INTERRUPTED}  interrupted by a signal or the wall-time limit; repeat the command to continue
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit status.

    Args:
        arguments: Arguments after ``surrogate``; by default those of the process.
    """
    options = _parser().parse_args(as_libsvm_spells(sys.argv[1:] if arguments is None else arguments))
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        return _say("interrupted; repeat the command to continue", _INTERRUPTED)
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if options.debug:
            raise
        return _say(f"error: {' '.join(str(error).split())}", _USER_ERROR)


def _say(message: str, status: int = 0) -> int:
    """Prints a line on standard error, once for all ranks of a job, and returns the status."""
    ranks = (os.environ.get(name, "0") for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"))
    if all(rank == "0" for rank in ranks):
        print(f"surrogate: {message}", file=sys.stderr)
    return status


# Commands


def _run(options: argparse.Namespace) -> int:
    from surrogate.cli.config import read_config
    from surrogate.executors.mpi import ranks
    from surrogate.inference.driving.drive import UnfinishedError
    from surrogate.inference.run import infer

    show_log(options.verbose)
    config = read_config(options.file)
    given = {"seed": options.seed, "max_evaluations": options.max_evaluations}
    overrides = {name: value for name, value in given.items() if value is not None}
    folder = RunFolder(Path(options.output).absolute())
    world = ranks(config.options.get("executor"))
    _by_the_first(world, lambda: _prepare(folder, options, config, overrides))
    arguments = {
        "output": folder.path,
        "resume": "trust" if options.trust else "auto",
        "progress": not options.quiet and not options.verbose,
        **config.options,
        **overrides,
    }
    try:
        result = infer(config.log_likelihood, config.prior, **arguments)
    except UnfinishedError as error:
        return _say(f"{error}; repeat the command to continue", _INTERRUPTED)
    if world is None or world.rank == 0:
        _conclude(folder, options, config, overrides, result)
    return _INTERRUPTED if result.interrupted else 0 if result.converged else _NOT_CONVERGED


def _by_the_first(world: Ranks | None, action: Callable[[], None]) -> None:
    """Runs an action on rank 0; if it fails, raises on all ranks, so that none waits forever."""
    if world is None:
        action()
        return
    problem = ""
    if world.rank == 0:
        try:
            action()
        except (ValueError, RuntimeError, OSError) as error:
            problem = str(error)
    if problem := world.broadcast(problem):
        raise ValueError(problem)


def _prepare(folder: RunFolder, options: argparse.Namespace, config: RunConfig, overrides: dict[str, Any]) -> None:
    """Clears the folder if requested, and prints whether a run starts or continues."""
    continues = folder.holds_run and not options.force
    folder.claim(into=options.into or config.options.get("into", False))
    with folder.create(force=options.force):
        if not continues:
            _record(folder, config, overrides)
    if not options.quiet:
        done = f"continues the run in {folder.path}, {len(folder.journal.read())} evaluations so far"
        _say(done if continues else f"starts a run in {folder.path}")


def _conclude(
    folder: RunFolder, options: argparse.Namespace, config: RunConfig, overrides: dict[str, Any], result: Result
) -> None:
    _record(folder, config, overrides)
    result.report(folder.report_path)
    if not options.quiet:
        print(result.summary())
        _say(f"report in {folder.report_path}, chain in {folder.chain_root}.txt")


def _record(folder: RunFolder, config: RunConfig, overrides: dict[str, Any]) -> None:
    from surrogate.cli.config import write_config

    write_config(config, folder.config_path, overrides=overrides)


def _status(options: argparse.Namespace) -> int:
    folder = _existing(options.folder)
    for name, words in facts_of_run(folder):
        print(f"{name:14}{words}")
    return 0


def _sample(options: argparse.Namespace) -> int:
    result, folder = _load(options)
    root = Path(options.output) if options.output else folder.samples_root
    result.save(root)
    _say(f"{len(result.weights)} rows in {root}.txt" + ("" if result.converged else "; the run has NOT converged"))
    return 0


def _report(options: argparse.Namespace) -> int:
    if options.live:
        from surrogate.cli.live import serve

        return serve(RunFolder(options.folder), port=options.port, interval=options.interval, n_samples=options.n)
    result, folder = _load(options)
    path = Path(options.output) if options.output else folder.report_path
    result.report(path, reference=options.reference)
    _say(f"report in {path}")
    return 0


def _load(options: argparse.Namespace) -> tuple[Result, RunFolder]:
    from surrogate.cli.config import observables_of
    from surrogate.inference.loading import load_result

    folder = _existing(options.folder)
    return load_result(folder.path, n_samples=options.n, target=observables_of(folder.config_path)), folder


def _existing(path: str) -> RunFolder:
    folder = RunFolder(path)
    if not folder.holds_run:
        msg = f"{path} holds no run: it has neither evaluations.jsonl nor state.npz"
        raise ValueError(msg)
    return folder


# What the files of a run say


def facts_of_run(folder: RunFolder) -> list[tuple[str, str]]:
    """Names and values that ``status`` prints, read from the files of a run."""
    records = folder.journal.read()
    state = load_arrays(folder.state_path) if folder.state_path.exists() else {}
    row = _last_row(folder)
    signals = {name: row[name] for name in ("spread", "batch_error", "moved") if name in row}
    facts = [("run in", str(folder.path)), ("evaluations", _counted(records) + _age(folder))]
    facts += _best(records, parameter_names(state))
    if records:
        facts.append(("time", f"{_hours(sum(record.evaluation.seconds for record in records))} in the likelihood"))
    if row:
        facts.append(("iteration", f"{row.get('step', math.nan):.0f}"))
    facts += _evidence(read_outcome(folder.outcome_path), row)
    if any(map(math.isfinite, signals.values())):
        facts.append(("signals", ", ".join(f"{name} {value:.2g}" for name, value in signals.items())))
    return [*facts, ("verdict", str(state.get("verdict/reason", "initial design in progress")))]


def _evidence(outcome: dict[str, Any], row: dict[str, float]) -> list[tuple[str, str]]:
    """The evidence of the result as in its summary, or that of the last iteration, marked, while there is no result."""
    value, error, doubt = math.nan, math.nan, "  (of the last iteration, NOT CONVERGED: not to be used)"
    if outcome and outcome.get("iteration") == row.get("step"):
        mark = "" if outcome.get("converged") else "unconverged_"
        value, error = (_number(outcome.get(f"{mark}log_evidence{end}")) for end in ("", "_error"))
        doubt = "" if outcome.get("converged") else "  (NOT CONVERGED: not to be used)"
    elif row:
        value, error = row.get("log_evidence", math.nan), row.get("log_evidence_error", math.nan)
    return [("log evidence", plus_minus(value, error) + doubt)] if math.isfinite(value) else []


def _number(value: Any) -> float:
    """A number read from a file; NaN for anything else."""
    return float(value) if isinstance(value, int | float) else math.nan


def _counted(records: list[Entry]) -> str:
    statuses = [record.evaluation.status for record in records]
    words = [f"{statuses.count('infeasible')} at -inf", f"{statuses.count('failed')} failed"]
    uncounted = ", ".join(word for word in words if not word.startswith("0 "))
    return f"{len(records)}" + (f" ({uncounted})" if uncounted else "")


def _age(folder: RunFolder) -> str:
    if not folder.journal.path.exists():
        return ""
    return f", the last {_hours(max(time.time() - folder.journal.path.stat().st_mtime, 0.0))} ago"


def _best(records: list[Entry], names: list[str]) -> list[tuple[str, str]]:
    finite = [record for record in records if record.evaluation.status == "ok"]
    if not finite:
        return []
    best = max(finite, key=lambda record: record.evaluation.y)
    known = names or [f"x{j}" for j in range(len(best.x))]
    point = ", ".join(f"{name} = {value:.6g}" for name, value in zip(known, best.x, strict=True))
    return [("best", f"log-likelihood {best.evaluation.y:.6g} at {point}")]


def _last_row(folder: RunFolder) -> dict[str, float]:
    if not folder.trace_path.exists():
        return {}
    with folder.trace_path.open(newline="", encoding="utf-8") as file:
        try:
            rows = list(csv.DictReader(file))
            return {name: float(value) for name, value in rows[-1].items() if value} if rows else {}
        except (csv.Error, ValueError, TypeError, AttributeError) as error:
            msg = f"{folder.trace_path} is damaged ({error}); the next iteration of the run rewrites it"
            raise ValueError(msg) from error


def _hours(seconds: float) -> str:
    """A duration in seconds as text.

    >>> _hours(0.25), _hours(75.0), _hours(9000.0), _hours(400000.0)
    ('0.25 s', '75 s', '2.5 h', '4.6 days')
    """
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


# The command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="surrogate",
        description="Bayesian inference for likelihoods that cost seconds to hours a call.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"surrogate {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    status = commands.add_parser(
        "status", help="show the progress of a run", description="Shows the progress of a run from its files."
    )
    status.set_defaults(command=_status)
    status.add_argument("folder", metavar="DIR", help="folder of the run")
    for name, command, number, what in (
        ("sample", _sample, 20_000, "draw new samples from the surrogate of a run; the likelihood is not called"),
        ("report", _report, 10_000, "write the report of a run again; the likelihood is not called"),
    ):
        again = commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        again.set_defaults(command=command)
        again.add_argument("folder", metavar="DIR", help="folder of the run")
        again.add_argument("-n", type=_count, default=number, metavar="N", help=f"effective draws (default {number})")
        place = "root of the file names of the chain" if name == "sample" else "file to write"
        usual = "DIR/samples; the chain of the run is not changed" if name == "sample" else "DIR/report.html"
        again.add_argument("-o", "--output", metavar="PATH", help=f"{place} (default: {usual})")
        if name == "report":
            again.add_argument(
                "--reference", metavar="ROOT", help="chain in GetDist's layout, drawn over the posterior of the run"
            )
            again.add_argument(
                "--live", action="store_true", help="serve the page to this machine only, and keep it up to date"
            )
            again.add_argument(
                "--port", type=int, default=0, metavar="N", help="port for --live (default: any free port)"
            )
            again.add_argument(
                "--interval", type=float, default=30.0, metavar="S", help="seconds between updates with --live"
            )
    add_label(commands, _count)
    add_svm_commands(commands)
    add_export(commands)
    add_compare(commands)
    add_watch(commands)
    return parser


def _add_run(commands: Any) -> None:
    what = "start or continue a run"
    run = commands.add_parser(
        "run",
        help=what,
        description="Starts the run of a YAML file, or resumes it if the folder holds one.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.set_defaults(command=_run)
    run.add_argument("file", metavar="FILE", help="YAML file with likelihood, parameters and options")
    run.add_argument("-o", "--output", metavar="DIR", required=True, help="folder of the run")
    run.add_argument(
        "--force", action="store_true", help="start again; the old evaluations are kept under another name"
    )
    run.add_argument("--into", action="store_true", help="use a folder that also holds other files")
    run.add_argument(
        "--trust", action="store_true", help="continue with evaluations of another version of the likelihood"
    )
    how_much = run.add_mutually_exclusive_group()
    how_much.add_argument("-q", "--quiet", action="store_true", help="print only errors")
    how_much.add_argument("-v", "--verbose", action="count", default=0, help="log steps; -vv also logs each call")
    run.add_argument("--seed", type=int, metavar="N", help="overrides the seed of the file")
    run.add_argument("--max-evaluations", type=_count, metavar="N", help="overrides the limit of the file")


def _count(word: str) -> int:
    number = int(word) if word.isascii() and word.isdigit() else 0
    if number < 1:
        msg = f"must be a whole number of at least 1, got {word!r}"
        raise argparse.ArgumentTypeError(msg)
    return number
