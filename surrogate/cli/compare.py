"""``surrogate compare``: Bayes factors of finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

__all__ = ["add_compare"]

_EPILOG = """The log Bayes factor of two models is the difference of their log evidences: +3 are odds of 20 to 1.
Runs must be of the same data, with the same constants in their likelihoods. A run that has not converged
is refused unless --anyway is given, and is then marked. The likelihoods are not called.
"""


def add_compare(commands: Any) -> None:
    """Adds the command to a parser."""
    parser = commands.add_parser(
        "compare",
        help="Bayes factors of runs",
        description="Bayes factors of finished runs with their errors, and how far they depend on the priors' widths.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=_compare)
    parser.add_argument("folders", metavar="DIR", nargs="+", help="folders of two or more runs")
    parser.add_argument("--names", metavar="A,B,...", help="names of the models (default: names of the folders)")
    parser.add_argument("--anyway", action="store_true", help="include runs that have not converged")
    parser.add_argument(
        "--widen", type=float, default=2.0, metavar="W", help="factor on each prior's width (default 2)"
    )
    parser.add_argument("--criteria", action="store_true", help="also AIC and DIC, and BIC with --n-data")
    parser.add_argument("--n-data", type=int, metavar="N", help="number of data, for AICc and BIC")
    parser.add_argument("--html", metavar="FILE", help="also write the tables to an HTML page")


def _compare(options: argparse.Namespace) -> int:
    from surrogate.inference.comparison import compare
    from surrogate.inference.criteria import information_criteria
    from surrogate.inference.loading import load_result
    from surrogate.output.html import page
    from surrogate.storage.files import replacing

    results = [load_result(folder) for folder in options.folders]
    names = options.names.split(",") if options.names else _short(options.folders)
    criteria = None
    if options.criteria or options.n_data:
        criteria = [information_criteria(result, n_data=options.n_data) for result in results]
    comparison = compare(*results, names=names, anyway=options.anyway, widen=options.widen, criteria=criteria)
    print(comparison)
    if options.html:
        with replacing(Path(options.html)) as file:
            file.write(page("Comparison of models", [comparison._repr_html_()]).encode())
    return 0


def _short(folders: list[str]) -> list[str]:
    """Short names of the folders: the last parts of their paths, or the whole paths if those are not unique."""
    parts = [folder.rstrip("/").rpartition("/")[2] for folder in folders]
    return parts if len(set(parts)) == len(parts) else list(folders)
