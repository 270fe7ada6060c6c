import subprocess
import sys

import pytest

import surrogate.networks


@pytest.mark.parametrize("name", surrogate.networks.__all__)
def test_public_names_exist(name):
    assert getattr(surrogate.networks, name).__name__ == name
    assert name in dir(surrogate.networks)


def test_an_unknown_name_is_told():
    with pytest.raises(AttributeError, match="has no attribute 'Transformer'"):
        surrogate.networks.Transformer  # noqa: B018


def test_importing_the_package_does_not_import_torch():
    code = "import sys, surrogate.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
