"""What is shipped: metadata, typing, documentation, and an import that costs little."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import likelihoods
import surrogate

ROOT = Path(__file__).resolve().parents[1]
OPTIONAL = {"mpi4py", "cobaya", "cosmosis", "gpytorch", "triton"}
HEAVY = {"torch", "matplotlib", "getdist", "emcee", "sklearn", "yaml", "pandas"}


def modules(package) -> list[str]:
    return [package.__name__, *(info.name for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))]


MODULES = modules(surrogate) + modules(likelihoods)


def load(name: str):
    """The module, or None if it is the one place of a library that is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of gpytorch's own dependencies
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        return None


@pytest.fixture(scope="module")
def metadata() -> importlib.metadata.PackageMetadata:
    try:
        return importlib.metadata.metadata("surrogate-inference")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("surrogate is not installed here, only on the path")


def test_metadata(metadata):
    assert metadata["Version"] == surrogate.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert "BSD" in (metadata["License"] or metadata["License-Expression"])
    assert "surrogate.infer" in (metadata.get_payload() or metadata["Description"])  # the README


def test_command_is_installed(metadata):
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="surrogate")
    assert command.value == "surrogate.cli.main:main"


def test_types_are_shipped():
    assert (ROOT / "surrogate" / "py.typed").is_file()


def test_changelog_knows_the_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## Unreleased" in text or f"## {surrogate.__version__}" in text


def loaded_by(statements: str) -> set[str]:
    """What a fresh process has loaded after some statements, of all that is optional or heavy."""
    code = f"import sys\n{statements}\nprint('loaded', *({OPTIONAL | HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "statements",
    [
        "import surrogate",
        "from surrogate import Parameter, Posterior, Prior, Dataset",
        "from surrogate.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "import surrogate.executors.choice, surrogate.executors.calls, surrogate.executors.mpi",
    ],
)
def test_what_needs_no_surrogate_loads_nothing_optional_or_heavy(statements):
    assert loaded_by(statements) == set()


def test_names_are_loaded_when_they_are_used():
    code = "import sys, surrogate; assert 'torch' not in sys.modules; sys.modules['torch'] = None; surrogate.Result"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "import of torch halted" in done.stderr  # asked for, and not before


def test_import_says_nothing_and_warns_of_nothing():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import surrogate"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_module_is_spelt_like_a_public_name():
    # Importing such a module would hide the function: `surrogate.infer` has to be one thing.
    homes = set(surrogate._HOMES)
    assert homes.isdisjoint(module.name for module in pkgutil.iter_modules(surrogate.__path__))


def test_public_names_exist():
    assert sorted(surrogate.__all__) == sorted(set(surrogate.__all__))
    assert [name for name in surrogate.__all__ if not hasattr(surrogate, name)] == []
    assert set(surrogate.__all__) <= set(dir(surrogate))


def test_type_checkers_see_the_public_names():
    # They do not run `__getattr__`: what it loads stands once more in a block for them alone.
    tree = ast.parse((ROOT / "surrogate" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    declared = {alias.asname: line.module for line in block.body for alias in line.names}
    assert declared == surrogate._HOMES


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = surrogate.no_such_name


def test_modules_and_their_public_names_are_documented():
    silent = []
    for module in filter(None, map(load, MODULES)):
        public = [getattr(module, name) for name in getattr(module, "__all__", [])]
        own = [thing for thing in public if inspect.isclass(thing) or inspect.isroutine(thing)]
        silent += [(module.__name__, thing.__name__) for thing in own if not inspect.getdoc(thing)]
        silent += [module.__name__] * (not module.__doc__)
    assert silent == []


def has_examples(name: str) -> bool:
    file = ROOT.joinpath(*name.split("."))
    source = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return ">>>" in source.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in MODULES if has_examples(name)])
def test_examples_in_docstrings(name):
    if (module := load(name)) is None:
        pytest.skip("its library is not installed")
    outcome = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted > 0
    assert outcome.failed == 0
