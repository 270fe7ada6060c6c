import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs" / "networks.md"


@pytest.mark.slow
def test_python_of_the_page_runs():
    names = {"__name__": "page"}
    for block in re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        exec(compile(block, DOCS.name, "exec"), names)
    assert names["mean"].shape == names["sd"].shape == names["lower"].shape == (10,)
    assert (names["lower"] < names["mean"]).all()
    assert (names["mean"] < names["upper"]).all()
