"""The arrows of the package point one way, each outside library is met in one place, and some things occur nowhere."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the bottom to the top. A module may import from rows below its own and from its own group, never from its
# neighbours in the row nor from above. A group is a package or a module of `surrogate`; "" is surrogate/__init__.py.
LAYERS = (
    ("_version", "arrays", "lazy", "rng"),
    ("linalg", "problem"),
    ("samplers", "storage"),
    ("gp", "networks", "executors", "svm"),
    ("estimators", "optim"),
    ("log_density",),
    ("selection", "output"),
    ("inference", "labelling"),
    ("", "testing"),
    ("cli", "interfaces"),
    ("__main__",),
)
RANK = {group: rank for rank, row in enumerate(LAYERS) for group in row}

# Outside libraries and the modules that may import them. What is not listed may be imported nowhere.
EVERYWHERE = {"numpy", "scipy", "torch"}
PLACES = {
    "mpi4py": ("executors.mpi",),
    "getdist": ("output.getdist", "output.plots"),
    "matplotlib": ("output.",),
    "arviz": ("output.arviz",),
    "pandas": ("output.arviz",),
    "emcee": ("samplers.ensemble",),
    "cobaya": ("interfaces.cobaya.",),
    "cosmosis": ("interfaces.cosmosis",),
    "yaml": ("storage.documents",),
    "pyarrow": ("labelling.table",),
    "sklearn": ("log_density.feasibility.svm", "svm.lssvc", "estimators."),
    "gpytorch": ("gp.kernels", "interfaces.gpytorch"),
    "triton": ("linalg.fused",),
    "linear_operator": ("gp.kernels", "interfaces.gpytorch"),
    "threadpoolctl": ("inference.run", "cli.", "executors."),
}

# Pure numbers in, pure numbers out: no printing there.
NUMERICAL = (
    "arrays",
    "rng",
    "linalg",
    "problem",
    "gp",
    "networks",
    "svm",
    "estimators",
    "samplers",
    "log_density",
    "selection",
)

FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "breakpoint": "is left from debugging",
    "torch.load": "unpickles",
    "torch.save": "pickles",
    "yaml.load": "builds any object: use yaml.safe_load",
    "yaml.unsafe_load": "builds any object: use yaml.safe_load",
    "yaml.full_load": "builds objects: use yaml.safe_load",
    "np.random.seed": "sets a global generator",
    "numpy.random.seed": "sets a global generator",
    "random.seed": "sets a global generator",
    "torch.manual_seed": "sets a global generator",
    "torch.seed": "sets a global generator",
    "torch.cuda.manual_seed": "sets a global generator",
    "torch.cuda.manual_seed_all": "sets a global generator",
    "torch.set_default_dtype": "changes the caller's torch",
    "torch.set_default_device": "changes the caller's torch",
    "torch.set_default_tensor_type": "changes the caller's torch",
}


def module_name(path: Path) -> str:
    """Name of a file of the package without the leading `surrogate`, "" for the package itself."""
    parts = path.relative_to(ROOT / "surrogate").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path for path in sorted((ROOT / "surrogate").rglob("*.py"))}
LIKELIHOODS = sorted((ROOT / "likelihoods").rglob("*.py"))


def group_of(module: str) -> str:
    return module.split(".")[0]


def for_types_only(node: ast.AST) -> bool:
    """Whether this is an `if TYPE_CHECKING:` block, which is never run."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes that are run, those inside functions included."""
    yield node
    for child in node.orelse if for_types_only(node) else ast.iter_child_nodes(node):
        yield from walk(child)


@cache
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """The nodes of `walk`, once for the several tests of a module."""
    return tuple(walk(tree))


def imported(tree: ast.AST, package: str = "surrogate") -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that is imported; for `from a import b` it is a.b."""
    for node in nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base]) if base else ".".join(above)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def target_group(name: str) -> str | None:
    """Group of `surrogate` that an imported name belongs to, None for an outside library."""
    head, _, rest = name.partition(".")
    if head != "surrogate":
        return None
    first = rest.split(".")[0]
    return first if first in RANK else ""


def upward_imports(module: str, tree: ast.AST) -> list[str]:
    own = group_of(module)
    package = (
        f"surrogate.{module}"
        if SOURCES.get(module, Path()).name == "__init__.py"
        else f"surrogate.{module}".rpartition(".")[0]
    )
    return [
        f"line {line}: {module or '__init__'} imports {name}"
        for line, name in imported(tree, package.rstrip("."))
        if (target := target_group(name)) is not None and target != own and RANK[target] >= RANK[own]
    ]


def allowed(module: str, library: str) -> bool:
    return any(
        module == place or (place.endswith(".") and f"{module}.".startswith(place)) for place in PLACES.get(library, ())
    )


def misplaced_libraries(module: str, tree: ast.AST) -> list[str]:
    free = EVERYWHERE | {"surrogate"} | set(sys.stdlib_module_names)
    return [
        f"line {line}: {module or '__init__'} imports {name}"
        for line, name in imported(tree)
        if (library := name.split(".")[0]) not in free and not allowed(module, library)
    ]


def called(node: ast.AST) -> str:
    return ast.unparse(node.func) if isinstance(node, ast.Call) else ""


def allows_pickle(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and any(
        word.arg == "allow_pickle" and not (isinstance(word.value, ast.Constant) and word.value.value is False)
        for word in node.keywords
    )


def swallows(node: ast.AST) -> bool:
    """Whether this is an `except:` of everything, or one of `Exception` that does nothing at all."""
    if not isinstance(node, ast.ExceptHandler):
        return False
    broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
    return node.type is None or (broad and all(isinstance(line, ast.Pass) for line in node.body))


def forbidden(tree: ast.AST, *, numerical: bool) -> list[str]:
    found = [f"line {line}: imports {name}" for line, name in imported(tree) if name.split(".")[0] in FORBIDDEN_IMPORTS]
    for node in nodes(tree):
        line, name = f"line {getattr(node, 'lineno', 0)}", called(node)
        if name in FORBIDDEN_CALLS:
            found.append(f"{line}: {name} {FORBIDDEN_CALLS[name]}")
        elif name == "print" and numerical:
            found.append(f"{line}: print in the numerical core")
        elif allows_pickle(node):
            found.append(f"{line}: allow_pickle is not False")
        elif isinstance(node, ast.Assert):
            found.append(f"{line}: assert vanishes under -O: raise ValueError or TypeError")
        elif swallows(node):
            found.append(f"{line}: an exception is swallowed")
    return found


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def test_every_module_has_a_layer() -> None:
    assert {group_of(module) for module in SOURCES} - set(RANK) == set(), "give them their places in LAYERS"


def test_imports_point_downwards() -> None:
    assert {m: found for m in SOURCES if (found := upward_imports(m, parse(SOURCES[m])))} == {}


def test_each_library_is_met_in_one_place() -> None:
    assert {m: found for m in SOURCES if (found := misplaced_libraries(m, parse(SOURCES[m])))} == {}


def test_nothing_forbidden() -> None:
    numerical = {module: group_of(module) in NUMERICAL for module in SOURCES}
    assert {m: found for m in SOURCES if (found := forbidden(parse(SOURCES[m]), numerical=numerical[m]))} == {}


@pytest.mark.parametrize("path", LIKELIHOODS, ids=lambda path: path.stem)
def test_likelihoods_are_plain(path: Path) -> None:
    assert forbidden(parse(path), numerical=True) == []
    outside = {name.split(".")[0] for _, name in imported(parse(path))}
    assert outside <= EVERYWHERE | {"surrogate", "likelihoods"} | set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("linalg.lowrank", "from surrogate.gp import kernels"),
        ("gp.means", "import surrogate.log_density.model"),
        ("gp.process", "def f():\n    from surrogate import selection"),
        ("executors.choice", "from surrogate.inference.loop import PosteriorLoop"),
        ("samplers.ensemble", "from surrogate import infer"),
        ("output.plots", "from surrogate import infer"),
        ("problem.dataset", "from surrogate.inference.state import State"),
        ("selection.gram", "from ..labelling import candidates"),
        ("inference.loop", "from ..cli import main"),
    ],
)
def test_an_upward_import_is_seen(module: str, source: str) -> None:
    assert len(upward_imports(module, ast.parse(source))) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("inference.loop", "from surrogate.gp import process\nimport surrogate.problem.dataset"),
        ("gp.process", "from surrogate.gp import optimise"),
        (
            "output.plots",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from surrogate.inference.result import Result",
        ),
    ],
)
def test_a_downward_import_is_free(module: str, source: str) -> None:
    assert upward_imports(module, ast.parse(source)) == []


@pytest.mark.parametrize(
    ("module", "source", "count"),
    [
        ("inference.loop", "import matplotlib.pyplot as plt", 1),
        ("output.plots", "import matplotlib.pyplot as plt", 0),
        ("inference.run", "def f():\n    import emcee", 1),
        ("samplers.ensemble", "import emcee", 0),
        ("gp.process", "from sklearn.svm import SVC", 1),
        ("estimators.network", "from sklearn.svm import SVC", 0),
        ("problem.prior", "import pandas", 1),
        ("problem.prior", "import numpy as np\nimport scipy.stats\nimport os", 0),
    ],
)
def test_a_misplaced_library_is_seen(module: str, source: str, count: int) -> None:
    assert len(misplaced_libraries(module, ast.parse(source))) == count


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "def f():\n    from dill import loads",
        "eval('1')",
        "torch.load(path)",
        "yaml.load(text)",
        "np.load(path, allow_pickle=True)",
        "np.random.seed(0)",
        "torch.manual_seed(0)",
        "torch.set_default_dtype(torch.float64)",
        "assert x > 0",
        "print(x)",
        "try:\n    f()\nexcept:\n    g()",
        "try:\n    f()\nexcept Exception:\n    pass",
    ],
)
def test_what_is_forbidden_is_seen(source: str) -> None:
    assert len(forbidden(ast.parse(source), numerical=True)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "yaml.safe_load(text)",
        "np.load(path, allow_pickle=False)",
        "torch.Generator().manual_seed(0)",
        "np.random.default_rng(0)",
        "model.eval()",
        "try:\n    f()\nexcept ValueError:\n    pass",
    ],
)
def test_what_is_allowed_is_let_through(source: str) -> None:
    assert forbidden(ast.parse(source), numerical=True) == []
