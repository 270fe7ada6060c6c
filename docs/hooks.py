"""Hooks of the site's build: pages made of other files of the repository, their links, and formulas as MathML.

Links in the pages are those that work in a checkout, such as ``../benchmarks/posterior.md``; here they become those of
the site.
"""

from __future__ import annotations

import ast
import html
import importlib
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files, InclusionLevel

import surrogate

ROOT = Path(__file__).resolve().parents[1]

PAGES = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md"}
"""Page of the site for each file outside of docs/."""

LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash"}
"""Endings of the examples that are shown, and their languages."""

INHERITING = ("surrogate.Result",)
"""Classes that are shown with the members of the classes they extend."""

API: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "inference": (
        "Posterior runs",
        "From a log-likelihood and a prior to a posterior.",
        (
            "surrogate.infer",
            "surrogate.inference.settings.Settings",
            "surrogate.load_result",
            "surrogate.Parameter",
            "surrogate.Prior",
            "surrogate.Posterior",
            "surrogate.Dataset",
            "surrogate.problem.accuracy.Thresholds",
            "surrogate.problem.evaluation.Evaluation",
            "surrogate.inference.driving.drive.UnfinishedError",
        ),
    ),
    "results": (
        "Results",
        "`result.draws`, `result.evidence`, `result.record` and the emulator. `result.check` and the other fields of "
        "the record can be read from the result itself.",
        (
            "surrogate.Result",
            "surrogate.samplers.samples.Samples",
            "surrogate.output.record.Evidence",
            "surrogate.output.record.EvidenceCheck",
            "surrogate.output.record.Record",
            "surrogate.output.record.Reweighting",
            "surrogate.inference.reliability.self_check",
            "surrogate.inference.conclusion.Emulator",
            "surrogate.load_predictor",
            "surrogate.log_density.predictor.module.Predictor",
        ),
    ),
    "labelling": (
        "Labelling and selection",
        "Which rows of a table to label, and batches for models of your own.",
        (
            "surrogate.label",
            "surrogate.LabellingRun",
            "surrogate.labelling.settings.LabelSettings",
            "surrogate.labelling.state.Batch",
            "surrogate.labelling.state.Stage",
            "surrogate.labelling.models.Prediction",
            "surrogate.select_batch",
        ),
    ),
    "estimators": (
        "Regressors and classifiers",
        "With scikit-learn's interface.",
        (
            "surrogate.GPRegressor",
            "surrogate.GradientGPRegressor",
            "surrogate.NetworkRegressor",
            "surrogate.NetworkClassifier",
            "surrogate.LSSVC",
            "surrogate.laplace",
        ),
    ),
    "gp": ("Gaussian processes", "All names of `surrogate.gp`.", ("surrogate.gp.*",)),
    "linalg": ("Linear algebra", "All names of `surrogate.linalg`.", ("surrogate.linalg.*",)),
    "networks": ("Networks", "All names of `surrogate.networks`.", ("surrogate.networks.*",)),
    "testing": ("Contracts for extensions", "Laws that a test of yours inherits.", ("surrogate.testing.*",)),
    "interfaces": (
        "Pipelines",
        "Cobaya, CosmoSIS, MontePython and gpytorch.",
        (
            "surrogate.interfaces.cobaya.sampler.SurrogateSampler",
            "surrogate.interfaces.montepython.infer_montepython",
            "surrogate.interfaces.gpytorch.fit",
            "surrogate.interfaces.gpytorch.predict",
            "surrogate.interfaces.gpytorch.NystromLikelihood",
        ),
    ),
}
"""Pages of the reference: title, a sentence, names. ``module.*`` stands for all public names of a module."""


def on_config(config: Any) -> Any:
    """Adds pages that the navigation does not name to the guides or benchmarks, so that a new page is never lost."""
    named = set(re.findall(r"[\w/]+\.md", str(config["nav"])))
    further = [path.name for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in named]
    guides = next(entry["Guides"] for entry in config["nav"] if "Guides" in entry)
    guides.extend(further)
    measured = next(entry["Benchmarks"] for entry in config["nav"] if "Benchmarks" in entry)
    pages = [f"benchmarks/{path.name}" for path in sorted((ROOT / "benchmarks").glob("*.md"))]
    measured.extend(page for page in pages if page not in named)
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made of other files."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "benchmarks").glob("*.md")):
        files.append(File.generated(config, f"benchmarks/{path.name}", content=path.read_text(encoding="utf-8")))
    examples = [p for p in sorted((ROOT / "examples").rglob("*")) if p.suffix in LANGUAGES]
    names = [path.relative_to(ROOT).as_posix() for path in examples]
    for path, name in zip(examples, names, strict=True):
        _hidden(files, config, f"{name}.md", _source_page(path, name))
    shown = "\n".join(f"- [{name.removeprefix('examples/')}](../{name})" for name in names)
    _hidden(
        files, config, "examples/index.md", f"# Examples\n\nShort programs and files; the tests run them.\n\n{shown}\n"
    )
    listed = {name for _, _, entries in API.values() for name in entries}
    public = [f"surrogate.{name}" for name in surrogate.__all__ if not name.startswith("_")]
    missing = tuple(name for name in public if name not in listed and name != "surrogate.get_cobaya_class")
    for page, (title, words, entries) in API.items():
        entries += missing if page == "inference" else ()
        files.append(File.generated(config, f"api/{page}.md", content=_api_page(title, words, entries)))
    files.append(File.generated(config, "api/cli.md", content=_commands_page()))
    return files


def _hidden(files: Files, config: Any, page: str, content: str) -> None:
    """Adds a page that other pages link to and the navigation does not show."""
    file = File.generated(config, page, content=content)
    file.inclusion = InclusionLevel.NOT_IN_NAV
    files.append(file)


def _source_page(path: Path, name: str) -> str:
    return f"# {name}\n\n```{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8').rstrip()}\n```\n"


# The reference


def names_of(entry: str) -> list[str]:
    """The names that an entry of `API` stands for."""
    if not entry.endswith(".*"):
        return [entry]
    module = importlib.import_module(entry.removesuffix(".*"))
    return [f"{module.__name__}.{name}" for name in sorted(module.__all__, key=str.lower)]


def _api_page(title: str, words: str, entries: tuple[str, ...]) -> str:
    blocks = [f"# {title}\n\n{words}\n"]
    for name in (name for entry in entries for name in names_of(entry)):
        options = f"heading: {name}\n      toc_label: {name.rpartition('.')[2]}\n"
        if name in INHERITING:
            options += "      inherited_members: true\n"
        blocks.append(f"::: {_home(name)}\n    options:\n      {options}")
    return "\n".join(blocks)


def _home(name: str) -> str:
    """Where a public name is defined."""
    module, _, short = name.rpartition(".")
    homes = getattr(importlib.import_module(module), "_HOMES", {})
    return f"{homes[short]}.{short}" if short in homes else name


def _commands_page() -> str:
    """The help of the command and of its subcommands, as it is printed in 100 columns."""
    import argparse
    import os

    from surrogate.cli.main import _parser

    os.environ["COLUMNS"] = "100"
    blocks = ["# Command line\n\nWhat `surrogate --help` and `surrogate COMMAND --help` print.\n"]

    def add(parser: argparse.ArgumentParser, level: int) -> None:
        blocks.append(f"{'#' * level} {parser.prog}\n\n```text\n{parser.format_help().rstrip()}\n```\n")
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for child in dict.fromkeys(action.choices.values()):
                    add(child, min(level + 1, 3))

    add(_parser(), 2)
    return "\n".join(blocks)


# Links


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page with links of the site."""
    origin = _origin(page.file.src_uri)
    if MESSAGES in markdown:
        markdown = markdown.replace(MESSAGES, _message_list())

    def moved(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        link = posixpath.relpath(_site_path(path), posixpath.dirname(page.file.src_uri) or ".")
        return f"{match[1]}({link}{'#' if anchor else ''}{anchor})"

    return _outside_code(lambda text: re.sub(r"(\])\(([^)\s]+)\)", moved, text), markdown)


def _outside_code(change: Any, markdown: str) -> str:
    """Applies a change to the text that is not in fenced blocks."""
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def _origin(page: str) -> str:
    """The file of the repository that a page is made of."""
    origins = {site: source for source, site in PAGES.items()}
    if page in origins:
        return origins[page]
    if page.startswith("examples/"):
        return page
    return page if (ROOT / page).is_file() and page.startswith("benchmarks/") else f"docs/{page}"


def _site_path(path: str) -> str:
    """The page of the site for a file of the repository."""
    if path in PAGES:
        return PAGES[path]
    if path == "README.md":
        return "index.md"
    if path == "examples":
        return "examples/index.md"
    if path.startswith("examples/"):
        return f"{path}.md"
    return path.removeprefix("docs/") if path.startswith("docs/") else path


# Messages

MESSAGES = "<!-- every message -->"
"""Where the list of all messages goes."""


def messages() -> Iterator[tuple[str, str]]:
    """Folder of the package and text of each message that it raises or warns with, values as an ellipsis."""
    for path in sorted((ROOT / "surrogate").rglob("*.py")):
        folder = path.relative_to(ROOT / "surrogate").parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for text in _raised(node):
                yield folder, text


def _raised(node: ast.AST) -> Iterator[str]:
    """The text that a statement raises, warns with, or binds to ``msg`` in order to raise it."""
    values: list[ast.expr] = []
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "msg":
        values = [node.value]
    elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        values = node.exc.args[:1]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
        values = node.args[:1]
    yield from (text for value in values if len((text := as_text(value)).strip("… ")) > 8)


def as_text(value: ast.expr) -> str:
    """A string as it is written, with an ellipsis for what is filled in; empty if it is no string."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    if isinstance(value, ast.JoinedStr):
        return "".join(as_text(part) if isinstance(part, ast.Constant) else "…" for part in value.values)
    return ""


def _message_list() -> str:
    folders: dict[str, list[str]] = {}
    for folder, text in messages():
        folders.setdefault(folder, []).append(" ".join(text.split()))
    return "\n\n".join(
        f'??? note "{folder}: {len(set(texts))}"\n\n' + "\n".join(f"    - `` {text} ``" for text in sorted(set(texts)))
        for folder, texts in sorted(folders.items())
    )


# Formulas


def on_page_content(content: str, **_: Any) -> str:
    """The page with its formulas as MathML, which browsers draw without a script or a font from elsewhere."""
    inline = r'<span class="arithmatex">\\\((.*?)\\\)</span>'
    block = r'<div class="arithmatex">\\\[(.*?)\\\]</div>'
    content = re.sub(inline, lambda match: convert(html.unescape(match[1])), content, flags=re.DOTALL)
    return re.sub(block, lambda match: _display(html.unescape(match[1])), content, flags=re.DOTALL)


def _display(formula: str) -> str:
    return f'<div class="formula">{convert(formula.strip(), display="block")}</div>'


# Nothing from elsewhere

_SHIM = "https://unpkg.com/iframe-worker/shim"


def on_post_build(config: Any, **_: Any) -> None:
    """Replaces the one script of the theme that lies elsewhere by our own."""
    root = Path(config["site_dir"])
    for path in root.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        if _SHIM in text:
            up = "../" * (len(path.relative_to(root).parts) - 1)
            path.write_text(text.replace(_SHIM, f"{up}assets/worker.js"), encoding="utf-8")
