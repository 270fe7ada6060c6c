r"""The YAML file of a run: reading it, with every key checked, and writing it with the defaults filled in.

likelihood: model.py:log_likelihood        # or package.module:function
parameters:
  a: [0, 1]
  b: {prior: {dist: norm, loc: 0, scale: 2}, label: \beta}
  c: {min: -1, max: 1, periodic: true}
  kind: {categories: [mead, takahashi]}
  count: {integers: [0, 3], weights: [4, 2, 1, 1]}
options:
  seed: 1
  max_evaluations: 200

Instead of a likelihood a file may name a simulator whose outputs are learned, see ``surrogate.Observables``:

simulator: model.py:simulate
compare: model.py:compare                  # or {data: y.txt, covariance: cov.txt} for Gaussian data
slow: [a, b]
"""

from __future__ import annotations

import csv
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from surrogate.cli.values import check_words, flag, mapping, nearest, number, text, whole
from surrogate.problem.gaussian_data import GaussianData
from surrogate.problem.observables import Observables
from surrogate.problem.prior import Parameter, Prior
from surrogate.storage.documents import parse_document, write_document
from surrogate.storage.journal import Journal
from surrogate.storage.versions import software_versions

__all__ = ["DEFAULTS", "RunConfig", "build", "observables_of", "read_config", "write_config"]

# The options of `surrogate.infer`, in its order, except those that cannot be written as plain values in a file.
DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "executor": None,
    "mode": "auto",
    "max_evaluations": None,
    "max_walltime": None,
    "max_eval_seconds": None,
    "max_failures": None,
    "isolate": False,
    "retries": 0,
    "into": False,
    "batch_size": None,
    "initial": None,
    "reference": None,
    "vectorized": False,
    "noise": None,
    "device": None,
    "n_samples": 10_000,
    "reweight": None,
    "gradient": False,
    "feasibility": "process",
    "explore": "normal",
    "confirm": True,
}
_TEXTS = ("executor", "mode", "device", "feasibility", "explore")
_FLAGS = ("isolate", "into", "vectorized", "gradient", "confirm")
_NUMBERS = ("max_walltime", "max_eval_seconds", "noise")  # all others are whole numbers
_STRUCTURES = ("initial", "reference")
_SECTIONS = ("likelihood", "parameters", "simulator", "compare", "slow", "options", "versions")
_ENTRY = ("prior", "min", "max", "label", "periodic", "categories", "integers", "weights", "only", "above")


@dataclass(frozen=True, eq=False)
class RunConfig:
    """A run as its YAML file describes it.

    Attributes:
        log_likelihood: The function, imported; or the simulator and the comparison.
        prior: Prior of the parameters.
        options: Keyword arguments for ``surrogate.infer`` that the file sets.
        document: The content of the file, with paths made absolute.
    """

    log_likelihood: Callable[..., Any] | Observables
    prior: Prior
    options: dict[str, Any]
    document: dict[str, Any] = field(repr=False)


def read_config(path: str | os.PathLike[str]) -> RunConfig:
    """The run that a YAML file describes; imports the likelihood.

    Args:
        path: The file. Files and modules that it names are looked for in its folder first.

    Raises:
        ValueError: If any entry is invalid; the message names the file, the entry and the closest valid word.
    """
    file = Path(path).absolute()
    try:
        return _read(file, parse_document(file))
    except (ValueError, TypeError) as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error


def observables_of(path: Path) -> Observables | None:
    """The simulator and the comparison in the settings of a run, or None; raises the errors of `read_config`."""
    if not path.exists() or "simulator" not in parse_document(path):
        return None
    target = read_config(path).log_likelihood
    return target if isinstance(target, Observables) else None


def write_config(
    config: RunConfig, path: str | os.PathLike[str], *, overrides: Mapping[str, Any] | None = None
) -> None:
    """Writes the settings of a run, including defaults, and the software versions; `read_config` reads the file.

    Args:
        config: The run.
        path: The file.
        overrides: Options that replace those of the file.
    """
    options = DEFAULTS | config.document.get("options", {}) | dict(overrides or {})
    document = {**config.document, "options": options, "versions": software_versions()}
    write_document(document, path)


def build(spec: Any, choices: Mapping[str, Callable[..., Any]], *, key: str, where: str) -> Any:
    """The component named in ``spec``, made with the other entries of ``spec`` as keyword arguments.

    Args:
        spec: A mapping such as ``{dist: norm, loc: 0, scale: 2}``.
        choices: Functions by the names that are allowed.
        key: The key whose value is the name, such as ``dist``.
        where: Place in the file, for error messages.

    Raises:
        ValueError: If the name or an argument is unknown; the message gives the closest match.

    >>> build({"dist": "complex", "real": 1}, {"complex": complex}, key="dist", where="here")
    (1+0j)
    """
    name = spec.get(key) if isinstance(spec, Mapping) else None
    if not isinstance(name, str):
        msg = f"{where} must be a mapping with the key '{key}', got {spec!r}"
        raise ValueError(msg)
    check_words([name], choices, f"{where}.{key}")
    arguments = {word: value for word, value in spec.items() if word != key}
    allowed = _keywords(choices[name])
    if allowed is not None:
        check_words(arguments, allowed, where, besides=key)
    return choices[name](**arguments)


# Sections of the file


def _read(file: Path, document: Any) -> RunConfig:
    content = mapping(document, "the file")
    if "params" in content and "parameters" not in content:
        return _cobaya(file, content)
    check_words(content, _SECTIONS, "")
    words = ("simulator", "compare", "parameters") if "simulator" in content else ("likelihood", "parameters")
    if missing := [word for word in words if not content.get(word)]:
        msg = f"{missing[0]} is missing: a run needs the entries {', '.join(words[:-1])} and {words[-1]}"
        raise ValueError(msg)
    prior = Prior(tuple(_parameter(*item) for item in mapping(content["parameters"], "parameters").items()))
    function: Callable[..., Any] | Observables
    if "simulator" in content:
        function, source = _observables(content, file.parent, prior)
    else:
        function, spelled = _likelihood(content["likelihood"], file.parent)
        source = {"likelihood": spelled}
    given = mapping(content.get("options") or {}, "options")
    check_words(given, DEFAULTS, "options")
    given = {name: _option(name, value) for name, value in given.items()}
    if given.get("initial") is not None:
        given["initial"] = str(file.parent / str(given["initial"]))
    options = {name: _value_of(name, value, prior) for name, value in given.items()}
    return RunConfig(function, prior, options, {**content, **source, "options": given})


def _cobaya(file: Path, content: dict[str, Any]) -> RunConfig:
    """The run of a Cobaya file's model, with the options of its sampler block that `surrogate.infer` shares."""
    interface = importlib.import_module(
        "surrogate.interfaces.cobaya"
    )  # an optional interface, imported only when needed
    block = mapping((content.get("sampler") or {}).get("surrogate") or {}, "sampler.surrogate")
    problem = interface.problem_of(file, block.get("integers"))
    given = {name: value for name, value in block.items() if name in DEFAULTS}
    for name in ("max_evaluations", "batch_size", "n_samples", "reweight"):
        if name in given:
            given[name] = interface.number_of(given[name], problem.prior.d, f"sampler.surrogate.{name}")
    options = {"reference": problem.reference} | given
    return RunConfig(problem.log_likelihood, problem.prior, options, {**content, "options": given})


def _option(name: str, value: Any) -> Any:
    """The value of an option; text such as 1e6, which YAML reads as a string, is converted to a number."""
    where = f"options.{name}"
    if value is None or name in _STRUCTURES:
        return value
    if name in _TEXTS:
        return text(value, where)
    if name in _FLAGS:
        return flag(value, where)
    return number(value, where) if name in _NUMBERS else whole(value, where)


def _value_of(name: str, value: Any, prior: Prior) -> Any:
    """The value of an option, converted to the form that ``surrogate.infer`` takes."""
    if value is None or name not in _STRUCTURES:
        return value
    return _initial(Path(value), prior) if name == "initial" else _reference(value, prior)


def _reference(value: Any, prior: Prior) -> Any:
    """The reference of a run: a point, or means and standard deviations."""
    where = "options.reference"
    entries = mapping(value, where)
    check_words(entries, prior.names, where)
    if missing := [name for name in prior.names if name not in entries]:
        msg = f"{where} must give every parameter a value or a pair [mean, sd]; missing: {', '.join(missing)}"
        raise ValueError(msg)
    ordered = [entries[name] for name in prior.names]
    pairs = [isinstance(entry, list) and len(entry) == 2 for entry in ordered]
    if all(pairs):
        table = np.array([[number(part, where) for part in entry] for entry in ordered])
        return table[:, 0], table[:, 1]
    if any(pairs):
        msg = (
            f"{where} must give a value for every parameter or a pair [mean, sd] for every "
            "parameter, not a mixture of both"
        )
        raise ValueError(msg)
    return np.array([number(entry, where) for entry in ordered])


def _initial(path: Path, prior: Prior) -> tuple[NDArray, NDArray]:
    """Earlier evaluations, read from a table with a header or from the journal of another run."""
    if not path.is_file():
        msg = f"options.initial: there is no file {path}"
        raise ValueError(msg)
    if path.suffix == ".jsonl":
        records = [record for record in Journal(path).read() if record.evaluation.status != "failed"]
        x = np.array([record.x for record in records]).reshape(len(records), -1)
        return x, np.array([record.evaluation.y for record in records])
    if path.suffix == ".csv":
        return _from_table(path, prior.names)
    msg = f"options.initial must be a .csv table or the evaluations.jsonl of a run, got {path.name}"
    raise ValueError(msg)


def _from_table(path: Path, names: tuple[str, ...]) -> tuple[NDArray, NDArray]:
    columns = (*names, "log_likelihood")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        if missing := [name for name in columns if name not in (reader.fieldnames or [])]:
            msg = f"options.initial: {path.name} needs the columns {', '.join(columns)}; missing: {', '.join(missing)}"
            raise ValueError(msg)
        try:
            rows = [
                [number(row[name], f"options.initial: {path.name}, row {i}, {name}") for name in columns]
                for i, row in enumerate(reader, start=1)
            ]
        except csv.Error as error:
            msg = f"options.initial: {path.name}, line {reader.line_num}: {error}"
            raise ValueError(msg) from error
    table = np.array(rows).reshape(-1, len(columns))
    return table[:, :-1], table[:, -1]


def _parameter(name: Any, spec: Any) -> Parameter:
    if not isinstance(name, str):
        msg = f"names of parameters must be text, got {name!r}: put it in quotes"
        raise ValueError(msg)
    where = f"parameters.{name}"
    if isinstance(spec, list):
        return Parameter(name, _bounds(spec, where))
    entry = mapping(spec, where, instead="[low, high]")
    check_words(entry, _ENTRY, where)
    label = None if entry.get("label") is None else text(entry["label"], f"{where}.label")
    periodic = flag(entry.get("periodic", False), f"{where}.periodic")
    discrete = {word: entry[word] for word in ("categories", "integers", "weights") if word in entry}
    if discrete:
        ends = [word for word in ("prior", "min", "max", "only", "above") if word in entry]
        if ends:
            msg = f"{where} must have either categories or integers, or a prior, got {', '.join((*discrete, *ends))}"
            raise ValueError(msg)
        return Parameter(name, label=label, periodic=periodic, **discrete)
    only = mapping(entry["only"], f"{where}.only") if "only" in entry else None
    if only is not None and not all(isinstance(values, list) and values for values in only.values()):
        msg = f"{where}.only must have a list of values for each parameter, got {dict(only)}"
        raise ValueError(msg)
    above = text(entry["above"], f"{where}.above") if "above" in entry else None
    return Parameter(name, _prior(entry, where), label=label, periodic=periodic, only=only, above=above)


def _prior(entry: Mapping[str, Any], where: str) -> Any:
    has_ends, has_prior = "min" in entry or "max" in entry, "prior" in entry
    if has_ends == has_prior:
        msg = f"{where} must have either min and max, or prior, got {', '.join(entry) or 'neither'}"
        raise ValueError(msg)
    if has_ends:
        return _bounds([entry.get("min"), entry.get("max")], where)
    spec = entry["prior"]
    if isinstance(spec, list):
        return _bounds(spec, f"{where}.prior")
    numbers_given = {
        word: value if word == "dist" else number(value, f"{where}.prior.{word}")
        for word, value in mapping(spec, f"{where}.prior", instead="[low, high]").items()
    }
    return build(numbers_given, _distributions(), key="dist", where=f"{where}.prior")


def _bounds(ends: list[Any], where: str) -> tuple[float, float]:
    if len(ends) != 2 or None in ends:
        msg = f"{where} must be two numbers [low, high], got {ends}"
        raise ValueError(msg)
    return number(ends[0], where), number(ends[1], where)


def _distributions() -> dict[str, Callable[..., Any]]:
    return {name: family for name, family in vars(stats).items() if isinstance(family, stats.rv_continuous)}


def _observables(content: Mapping[str, Any], folder: Path, prior: Prior) -> tuple[Observables, dict[str, Any]]:
    """The target of a file with a simulator, and its entries with absolute paths."""
    if "likelihood" in content:
        msg = "a run has a likelihood, or a simulator and compare, not both"
        raise ValueError(msg)
    slow = content.get("slow")
    if slow is not None and not (isinstance(slow, list) and all(isinstance(name, str) for name in slow)):
        msg = f"slow must be a list of names of parameters, got {slow!r}"
        raise ValueError(msg)
    check_words(slow or (), prior.names, "slow")
    simulator, spelled = _likelihood(content["simulator"], folder)
    source = {"simulator": spelled}
    if isinstance(content["compare"], Mapping) and "data" in content["compare"]:
        data, files = _gaussian_data(content["compare"], folder)
        return Observables(simulator, data, slow), {**source, "compare": files}
    compare, spelled = _likelihood(content["compare"], folder)
    return Observables(simulator, compare, slow), {**source, "compare": spelled}


def _gaussian_data(entry: Mapping[str, Any], folder: Path) -> tuple[GaussianData, dict[str, str]]:
    """Gaussian data from files of numbers."""
    check_words(entry, ("data", "covariance"), "compare")
    files = {}
    for word in ("data", "covariance"):
        if not isinstance(entry.get(word), str):
            msg = f"compare needs the file compare.{word}, a table of numbers as .txt or .npy, got {entry.get(word)!r}"
            raise ValueError(msg)
        files[word] = str(folder / entry[word])
    return GaussianData(*(_numbers_in(Path(files[word]), word) for word in ("data", "covariance"))), files


def _numbers_in(path: Path, word: str) -> NDArray:
    if not path.is_file():
        msg = f"compare.{word}: there is no file {path}"
        raise ValueError(msg)
    try:
        return np.asarray(np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path))
    except (ValueError, OSError) as error:
        msg = f"compare.{word}: {path.name} cannot be read as numbers ({error})"
        raise ValueError(msg) from error


# The likelihood


def _likelihood(spec: Any, folder: Path) -> tuple[Callable[..., Any], Any]:
    """The likelihood function, and its specification with absolute paths."""
    module_name, function_name = _source_of(spec)
    is_file = module_name.endswith(".py")
    module = _module_from_file(folder / module_name) if is_file else _module(module_name, folder)
    function = _attribute(module, function_name)
    file = getattr(module, "__file__", None)
    if file and Path(file).absolute().parent == folder:
        return function, {"file": str(Path(file).absolute()), "function": function_name}
    return function, f"{module_name}:{function_name}"


def _source_of(spec: Any) -> tuple[str, str]:
    """The module or file of a likelihood, and the name of the function in it."""
    parts: list[Any] = str(spec).rsplit(":", 1)
    if isinstance(spec, Mapping):
        check_words(spec, ("file", "function"), "likelihood")
        parts = [spec.get("file"), spec.get("function")]
    if len(parts) != 2 or not all(isinstance(part, str) and part.strip() for part in parts):
        msg = f"likelihood must be 'package.module:function', 'file.py:function' or {{file, function}}, got {spec!r}"
        raise ValueError(msg)
    if isinstance(spec, Mapping) and not parts[0].endswith(".py"):
        msg = f"likelihood.file must end in .py, got {parts[0]!r}"
        raise ValueError(msg)
    return parts[0].strip(), parts[1].strip()


def _module_from_file(file: Path) -> Any:
    """The module in a file, imported under the name by which other processes can import it."""
    if not file.is_file():
        msg = f"likelihood: there is no file {file}"
        raise ValueError(msg)
    module = _module(file.stem, file.parent)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file.resolve():
        msg = f"likelihood: {file.name} has the name of another module ({found or 'a built-in one'}): rename the file"
        raise ValueError(msg)
    return module


def _module(name: str, folder: Path) -> Any:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))  # not removed again: worker processes inherit this path
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except Exception as error:
        msg = f"likelihood: importing {name} failed with {type(error).__name__}: {error}"
        raise ValueError(msg) from error


def _attribute(module: Any, dotted: str) -> Callable[..., Any]:
    found = module
    for word in dotted.split("."):
        if not hasattr(found, word):
            public = [name for name in vars(found) if not name.startswith("_")]
            msg = f"likelihood: {module.__name__} has no {dotted}" + nearest(word, public)
            raise ValueError(msg)
        found = getattr(found, word)
    if not callable(found):
        msg = f"likelihood: {module.__name__}:{dotted} must be a function, got {type(found).__name__}"
        raise ValueError(msg)
    return found


def _keywords(make: Callable[..., Any]) -> list[str] | None:
    """Names of a component's keyword arguments; None if it accepts any."""
    if isinstance(make, stats.rv_continuous):
        return [*(make.shapes.split(", ") if make.shapes else []), "loc", "scale"]
    try:
        found = inspect.signature(make).parameters.values()
    except ValueError:  # some built-in types have no signature
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in found) else [p.name for p in found]
