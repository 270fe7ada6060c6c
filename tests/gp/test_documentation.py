"""The pages on Gaussian processes run, and the packages that they show are public and light."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import surrogate.gp
import surrogate.linalg

DOCS = Path(__file__).resolve().parents[2] / "docs"


def run(name):
    """What the Python blocks of a page define."""
    text = (DOCS / name).read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, name, "exec"), names)
    return names


def test_the_page_on_mixed_inputs():
    names = run("mixed.md")
    x, y, posterior = (names[key] for key in ("x", "y", "posterior"))
    assert float(abs(posterior.mean(x) - y).max()) < 0.01
    np.testing.assert_allclose(names["additive"].mean(names["u"]), names["exact"].mean(x), atol=0.01)
    for kernel in ("Overlap", "Correlated", "Unstructured", "Rounded"):
        assert kernel in names


def test_the_page_on_processes():
    names = run("gp.md")
    aware, posterior, new = names["aware"], names["posterior"], names["x"][:20] + 0.1
    assert bool((aware.variance(new) > 0.9 * posterior.variance(new)).all())
    assert names["solve"].converged
    assert names["noise"].status == "interior"
    assert 0.0 < names["standard_error"] < 5.0
    found, start = (names["iterative"].objective(theta)[0] for theta in (names["fit"].vector, names["theta"]))
    assert found < start + 5.0  # the prior and a free constant move the maximum
    for model in ("by_gradients", "local", "regression"):
        error = names[model].mean(new) - posterior.mean(new)
        assert float(error.square().mean()) < 0.05**2  # half of the noise


def test_the_page_on_regression():
    assert run("regression.md")["model"].solver_ == "local"


@pytest.mark.parametrize("package", [surrogate.gp, surrogate.linalg])
def test_public_names(package):
    assert set(package.__all__) <= set(dir(package))
    for name in package.__all__:
        assert getattr(package, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize("package", ["surrogate.gp", "surrogate.linalg"])
def test_importing_the_package_is_light(package):
    words = f"import sys, {package}; sys.exit(int('torch' in sys.modules or 'numpy' in sys.modules))"
    subprocess.run([sys.executable, "-c", words], check=True)
