import getdist
import numpy as np
import pytest

from surrogate.output.getdist import save_chain, to_mcsamples
from tests.finished import result


def check(samples, run):
    values = np.column_stack([run.samples, run.derived])
    np.testing.assert_allclose(samples.samples, values, rtol=1e-12)
    np.testing.assert_allclose(samples.getMeans(), run.weights @ values, rtol=1e-10)
    np.testing.assert_allclose(samples.loglikes, -run.log_posterior, rtol=1e-12)
    np.testing.assert_allclose(samples.weights / samples.weights.sum(), run.weights, rtol=1e-10)
    assert [p.name for p in samples.paramNames.names] == ["omega", "H0", "omega_h2"]
    assert [p.label for p in samples.paramNames.names][:2] == [r"\Omega_m", "H_0"]
    assert [p.isDerived for p in samples.paramNames.names] == [False, False, True]
    assert (samples.ranges.getLower("omega"), samples.ranges.getUpper("omega")) == (0.0, 1.0)
    assert (samples.ranges.getLower("H0"), samples.ranges.getUpper("H0")) == (None, None)
    assert samples.sampler == "uncorrelated"


def test_samples_in_memory():
    run = result()
    check(to_mcsamples(run.draws), run)


@pytest.mark.parametrize("name", ["chain", "run.v2"])
def test_every_row_comes_back_from_the_files(tmp_path, name):
    run, root = result(), tmp_path / "folder" / name
    save_chain(run.draws, root)
    check(getdist.loadMCSamples(str(root), no_cache=True), run)


def test_no_burn_in_is_taken_off_even_when_asked(tmp_path):
    run = result()
    save_chain(run.draws, tmp_path / "chain")
    loaded = getdist.loadMCSamples(str(tmp_path / "chain"), no_cache=True, settings={"ignore_rows": 0.3})
    assert len(loaded.samples) == len(run.samples)


def test_only_the_four_files_are_left(tmp_path):
    save_chain(result().draws, tmp_path / "chain")
    names = {"chain.txt", "chain.paramnames", "chain.ranges", "chain.properties.ini"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_second_chain_replaces_the_first(tmp_path):
    save_chain(result().draws, tmp_path / "chain")
    save_chain(result(n=100).draws, tmp_path / "chain")
    assert len(getdist.loadMCSamples(str(tmp_path / "chain"), no_cache=True).samples) == 100


def test_periodic_parameters_stay_periodic(tmp_path):
    run = result(periodic=(True, False))
    save_chain(run.draws, tmp_path / "chain")
    loaded = getdist.loadMCSamples(str(tmp_path / "chain"), no_cache=True)
    assert loaded.ranges.periodic == to_mcsamples(run.draws).ranges.periodic == {"omega"}


def test_derived_names_that_getdist_cannot_take_are_spelled_otherwise(tmp_path):
    derived = np.random.default_rng(0).random((4000, 3))
    run = result(derived=derived, derived_names=("omega", "a b*", "?"))
    save_chain(run.draws, tmp_path / "chain")
    loaded = getdist.loadMCSamples(str(tmp_path / "chain"), no_cache=True)
    expected = ["omega", "H0", "omega_", "a_b_", "_"]
    assert [p.name for p in loaded.paramNames.names] == expected
    assert [p.name for p in to_mcsamples(run.draws).paramNames.names] == expected


def test_labels_survive_the_meanings_that_the_files_have(tmp_path):
    save_chain(result(labels=("a\\!b #1", "H_0\n")).draws, tmp_path / "chain")
    loaded = getdist.loadMCSamples(str(tmp_path / "chain"), no_cache=True)
    assert [p.label for p in loaded.paramNames.names][:2] == ["ab 1", "H_0"]


def test_derived_values_that_cannot_be_drawn_are_left_out_and_named(tmp_path, monkeypatch):
    plain = result()
    bad = np.full((len(plain.weights), 2), [3.044, np.nan])
    run = result(derived=np.column_stack([bad, plain.derived]), derived_names=("N_eff", "none", "omega h2"))
    words = "N_eff (always 3.044), none (not finite for 4000 of 4000 draws)"
    assert [p.name for p in run.to_getdist().paramNames.names] == ["omega", "H0", "omega_h2"]
    assert f"derived values left out of GetDist's plots: {words}" in run.summary()
    run.plot(tmp_path / "corner.png")
    monkeypatch.setattr("surrogate.output.plots.corner_figure", lambda *_: None)  # the same once more
    monkeypatch.setattr("surrogate.output.html.png", lambda *_, **__: b"")
    run.report(tmp_path / "report.html")
    assert words in (tmp_path / "report.html").read_text(encoding="utf-8")
    run.save(tmp_path / "chain")
    assert len(getdist.loadMCSamples(str(tmp_path / "chain"), no_cache=True).samples) == len(run.samples)


def test_a_derived_value_that_some_draws_lack_is_left_out():
    plain = result()
    some = np.where(np.arange(len(plain.weights)) % 2, plain.derived[:, 0], np.nan)[:, None]
    run = result(derived=some)
    assert [p.name for p in run.to_getdist().paramNames.names] == ["omega", "H0"]
    assert "omega h2 (not finite for 2000 of 4000 draws)" in run.summary()
