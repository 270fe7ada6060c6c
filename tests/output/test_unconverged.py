"""The evidence of a run that has not converged is marked wherever somebody may read it."""

from surrogate.output.cosmosis import save_chain
from tests.finished import parts, result


def test_the_table_marks_the_evidence():
    assert "log evidence  -6.123 +- 0.071\n" in result().summary()
    assert "log evidence  -6.123 +- 0.071  (NOT CONVERGED: not to be used)" in result(converged=False).summary()


def test_a_script_does_not_find_it_by_its_name(tmp_path):
    for converged, name in ((True, "#log_z="), (False, "#unconverged_log_z=")):
        save_chain(*parts(result(n=20, converged=converged)), tmp_path / "chain.txt")
        lines = (tmp_path / "chain.txt").read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if "log_z=" in line] == [f"{name}-6.1234"]
