"""The text layout of CosmoSIS."""

from __future__ import annotations

import numpy as np

from surrogate.output.cosmosis import save_chain
from tests import finished


def test_head_rows_and_end(tmp_path):
    result = finished.result(n=50)
    path = tmp_path / "chain.txt"
    save_chain(
        *finished.parts(result),
        path,
        names=["cosmological_parameters--omega_m", "cosmological_parameters--h0"],
        metadata={"seed": 1},
    )
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("#cosmological_parameters--omega_m\tcosmological_parameters--h0\t")
    assert lines[0].endswith("log_weight\tprior\tpost")
    assert "#seed=1" in lines
    assert f"#log_z={result.log_evidence}" in lines
    table = np.loadtxt(path)
    assert table.shape == (len(result.weights), 2 + 1 + 3)
    np.testing.assert_allclose(table[:, -1], result.log_posterior)
