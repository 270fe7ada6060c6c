import re
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from surrogate.networks import Recipe, export_network, load_network
from surrogate.rng import generator

DOCS = Path(__file__).resolve().parents[2] / "docs" / "lean_networks.md"


@pytest.mark.slow
def test_python_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = generator(0, "page")
    x, new = rng.standard_normal((80, 4)), rng.standard_normal((10, 4))
    y = np.sin(x[:, 0]) + 0.1 * rng.standard_normal(80)
    hidden = nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 128)
    names = {"__name__": "page", "x": x, "y": y, "new": new}
    names["network"] = nn.Sequential(nn.Linear(4, 128), *hidden, nn.Linear(128, 1))
    for block in re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        block = (
            block.replace("NetworkRegressor()", "NetworkRegressor(epochs=8)")
            .replace("width=512", "width=64")
            .replace("n_draws=250", "n_draws=20, n_warmup=20")
        )
        exec(compile(block, DOCS.name, "exec"), names)
        if "save_network" in block:
            for suffix in ("npz", "pt2"):
                export_network(load_network("model.npz"), f"lean.{suffix}", x, y, Recipe(), tolerance=1.0)
        if "def predict" in block:
            assert names["predict"](new).shape == (10,)
    assert names["mean"].shape == names["variance"].shape == (10,)
