"""The evidence of a run that has not converged is marked wherever somebody may read it."""

import pytest

from surrogate.output.cosmosis import save_chain
from surrogate.output.outcome import read_outcome, save_outcome
from tests.finished import parts, result


def test_the_table_marks_the_evidence():
    assert "log evidence  -6.123 +- 0.071\n" in result().summary()
    assert "log evidence  -6.123 +- 0.071  (NOT CONVERGED: not to be used)" in result(converged=False).summary()


def test_a_script_does_not_find_it_by_its_name(tmp_path):
    for converged, name in ((True, "#log_z="), (False, "#unconverged_log_z=")):
        save_chain(*parts(result(n=20, converged=converged)), tmp_path / "chain.txt")
        lines = (tmp_path / "chain.txt").read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if "log_z=" in line] == [f"{name}-6.1234"]


def test_the_chain_says_whether_the_run_has_converged(tmp_path):
    for converged in (True, False):
        result(n=20, converged=converged).save(tmp_path / "chain")
        assert f"converged = {converged}\n" in (tmp_path / "chain.properties.ini").read_text(encoding="utf-8")


def test_the_outcome_has_an_evidence_by_its_name_only_if_converged(tmp_path):
    for converged, name in ((True, "log_evidence"), (False, "unconverged_log_evidence")):
        run = result(n=20, converged=converged)
        save_outcome(run.evidence, run.record, tmp_path / "result.json")
        found = read_outcome(tmp_path / "result.json")
        assert found["converged"] is converged
        assert {key for key in found if key.endswith("log_evidence")} == {name}
        assert found[name] == run.log_evidence
        assert found[f"{name}_error"] == run.log_evidence_error


def test_an_outcome_that_is_missing_or_damaged(tmp_path):
    assert read_outcome(tmp_path / "result.json") == {}
    for text in ("{", "[1]"):
        (tmp_path / "result.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match="damaged"):
            read_outcome(tmp_path / "result.json")
