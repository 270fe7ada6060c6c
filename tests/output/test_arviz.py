"""Draws for ArviZ and pandas."""

import numpy as np
import pytest

from surrogate.output.arviz import _equal_rows, to_pandas
from tests.finished import result


def test_equal_rows_keep_the_weights():
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.full(500, 0.3))
    rows = _equal_rows(weights)
    counts = np.bincount(rows, minlength=500) / len(rows)
    assert np.abs(counts - weights).max() <= 1.0 / len(rows)  # a systematic sample is off by less than one row
    assert len(_equal_rows(np.full(7, 1 / 7))) == 7


def test_pandas_has_every_draw():
    pandas = pytest.importorskip("pandas", reason="pandas is optional: pip install surrogate-inference[notebook]")
    found = result().to_pandas()
    assert isinstance(found, pandas.DataFrame)
    assert list(found.columns) == ["omega", "H0", "omega h2", "weight", "log_posterior", "log_prior"]
    assert found["H0"].to_numpy() == pytest.approx(result().samples[:, 1])
    assert to_pandas(result().draws).equals(found)


@pytest.mark.filterwarnings("ignore")  # ArviZ announces its own future
def test_arviz_gets_equally_weighted_draws():
    pytest.importorskip("arviz", reason="ArviZ is optional: pip install surrogate-inference[notebook]")
    made = result()
    found = made.to_arviz()
    posterior = found["posterior"]
    assert set(posterior.data_vars) == {"omega", "H0", "omega h2"}
    draws = posterior["H0"].values
    assert draws.shape[0] == 1
    sd = made.sd[1] / np.sqrt(draws.shape[1])
    assert abs(draws.mean() - made.mean[1]) < 3 * sd
    assert posterior.attrs["log_evidence"] == made.log_evidence
    assert found["sample_stats"]["lp"].shape == draws.shape
    open_ = result(converged=False).to_arviz()["posterior"].attrs
    assert "log_evidence" not in open_
    assert open_["unconverged_log_evidence"] == made.log_evidence
