"""LIBSVM's tables and models: there and back, against scikit-learn's reader, and malformed ones refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import dump_svmlight_file, load_svmlight_file

from surrogate.svm.libsvm import read_libsvm, read_machine, write_libsvm, write_machine
from surrogate.svm.lssvc import LSSVC


def table(n=40, labels=2):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 3)) * rng.integers(0, 2, (n, 3))
    return x, np.array([-1.0, 1.0, 3.0, 7.0])[rng.permutation(np.arange(n) % labels)]


def test_round_trip_is_exact(tmp_path):
    x, y = table()
    write_libsvm(tmp_path / "a", x, y)
    read_x, read_y = read_libsvm(tmp_path / "a", n_features=3)
    assert np.array_equal(read_x, x)
    assert np.array_equal(read_y, y)


def test_reads_and_writes_as_scikit_learn_does(tmp_path):
    x, y = table()
    dump_svmlight_file(x, y, str(tmp_path / "theirs"), zero_based=False, comment="two lines\nof comment")
    assert np.allclose(read_libsvm(tmp_path / "theirs", n_features=3)[0], x)
    write_libsvm(tmp_path / "ours", x, y)
    theirs, labels = load_svmlight_file(str(tmp_path / "ours"), n_features=3)
    assert np.array_equal(theirs.toarray(), x)
    assert np.array_equal(labels, y)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("one 1:2", "the label must be a finite number, got 'one'"),
        ("nan 1:2", "the label must be a finite number"),
        ("1 1:inf", "the value must be a finite number"),
        ("1 1:", "the value must be a finite number, got ''"),
        ("1 12", "expected index:value, got '12'"),
        ("1 qid:3 1:2", "expected index:value, got 'qid:3'"),
        ("1 0:2", "indices must start at 1 and ascend, got 0"),
        ("1 2:1 2:1", "indices must start at 1 and ascend, got 2 after 2"),
        ("1 4:1", "index 4 exceeds the number of features, 3"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number(tmp_path, line, message):
    (tmp_path / "a").write_text(f"1 1:2.5 # fine\n\n{line}\n")
    with pytest.raises(ValueError, match=f"line 3: {message}"):
        read_libsvm(tmp_path / "a", n_features=3)


@pytest.mark.parametrize(
    ("text", "message"), [("# nothing\n", "no points"), ("1 900000000:1\n" * 3, "index 900000000 a mistake")]
)
def test_unusable_tables_are_refused(tmp_path, text, message):
    (tmp_path / "a").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_libsvm(tmp_path / "a")


def test_unusable_arrays_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected x with shape"):
        write_libsvm(tmp_path / "a", np.zeros((2, 2)), np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        write_libsvm(tmp_path / "a", np.full((1, 1), np.nan), np.zeros(1))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("labels", [2, 4])
def test_a_machine_survives_its_file(tmp_path, labels, kernel):
    x, y = table(labels=labels)
    machine = LSSVC(kernel=kernel).fit(x, y)
    write_machine(tmp_path / "m", machine.to_file())
    again = LSSVC.of_file(read_machine(tmp_path / "m"))
    np.testing.assert_allclose(again.decision_function(x), machine.decision_function(x), atol=1e-12)
    assert np.array_equal(again.predict(x), machine.predict(x))


def test_a_machine_of_libsvm_for_several_classes_is_refused_with_what_is_read(tmp_path):
    write_machine(tmp_path / "m", LSSVC().fit(*table(labels=4)).to_file())
    (tmp_path / "m").write_text((tmp_path / "m").read_text().replace("ls_svc_one_vs_rest", "c_svc"))
    with pytest.raises(
        ValueError, match="c_svc of 4 classes .* expected a linear or rbf kernel, and a two-class c_svc"
    ):
        read_machine(tmp_path / "m")


def test_a_machine_of_two_classes_follows_the_conventions_of_libsvm(tmp_path):
    """The decision is the sum minus rho and positive for the first label, whose nr_sv vectors come first."""
    x, y = table()
    machine = LSSVC().fit(x, y)
    write_machine(tmp_path / "m", machine.to_file())
    head, _, body = (tmp_path / "m").read_text().partition("SV\n")
    words = {line.split()[0]: line.split()[1:] for line in head.splitlines()}
    rows = [line.split() for line in body.splitlines()]
    coefficients = np.array([float(row[0]) for row in rows])
    assert words["svm_type"] == ["c_svc"]
    assert int(words["nr_sv"][0]) == (coefficients > 0).sum() == np.flatnonzero(coefficients > 0).max() + 1
    support = np.zeros((len(rows), 3))
    for i, row in enumerate(rows):
        for word in row[1:]:
            index, value = word.split(":")
            support[i, int(index) - 1] = float(value)
    k = np.exp(-float(words["gamma"][0]) * ((x[:, None] - support) ** 2).sum(-1))
    decision = k @ coefficients - float(words["rho"][0])
    expected = np.where(decision > 0, *map(float, words["label"]))
    assert np.array_equal(machine.predict(x), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("SV\n", "", 1).replace("total_sv", "total_sv"), "expected a keyword|no line 'SV'"),
        (lambda text: text.replace("c_svc", "nu_svc"), "holds a nu_svc of 2 classes"),
        (lambda text: text.replace("kernel_type rbf", "kernel_type sigmoid"), "with a sigmoid kernel"),
        (lambda text: text.replace("rho", "row"), "incomplete or invalid: 'rho'"),
        (lambda text: text.replace("gamma 0", "gamma x0"), "incomplete or invalid: the gamma"),
        (lambda text: text + "1 1:1\n", "must have 40 support vectors"),
        (lambda text: text.replace("\n0", "\nx0").replace("\n-", "\nx-"), r"line \d+: the coefficient"),
    ],
)
def test_a_spoilt_machine_is_refused(tmp_path, change, message):
    write_machine(tmp_path / "m", LSSVC().fit(*table()).to_file())
    (tmp_path / "m").write_text(change((tmp_path / "m").read_text()))
    with pytest.raises(ValueError, match=message):
        read_machine(tmp_path / "m")
