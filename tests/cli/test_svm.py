"""The commands svm-train and svm-predict."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.cli.main import main
from surrogate.svm.libsvm import write_libsvm
from surrogate.svm.lssvc import LSSVC


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 4))
    y = np.digitize((x**2).sum(1), [2.0, 5.0])
    write_libsvm(tmp_path / "train", x[:100], y[:100])
    write_libsvm(tmp_path / "test", x[100:], y[100:])
    return tmp_path, x, y


def test_train_and_predict(files, capsys):
    folder, x, y = files
    assert main(["svm-train", "-c", "10", "-g", "0.25", f"{folder}/train"]) == 0
    assert main(["svm-predict", f"{folder}/test", f"{folder}/train.model", f"{folder}/out"]) == 0
    predicted = np.loadtxt(folder / "out")
    expected = LSSVC(10.0, gamma=0.25).fit(x[:100], y[:100]).predict(x[100:])
    assert np.array_equal(predicted, expected)
    right = int((predicted == y[100:]).sum())
    assert f"Accuracy = {right}% ({right}/100) (classification)" in capsys.readouterr().out


def test_weights_of_labels_are_those_of_the_machine(files):
    folder, x, y = files
    words = ["-q", "-s", "0", "-w", "0", "5", "-w", "2", "0.5"]
    assert main(["svm-train", *words, f"{folder}/train"]) == 0
    assert main(["svm-predict", "-q", f"{folder}/test", f"{folder}/train.model", f"{folder}/out"]) == 0
    weighted = LSSVC(gamma="auto", class_weight={0: 5.0, 1: 1.0, 2: 0.5}).fit(x[:100], y[:100]).predict(x[100:])
    assert np.array_equal(np.loadtxt(folder / "out"), weighted)
    assert not np.array_equal(weighted, LSSVC(gamma="auto").fit(x[:100], y[:100]).predict(x[100:]))


@pytest.mark.parametrize(("label", "weight", "message"), [("7", "2", "not among those"), ("1", "0", "positive weight")])
def test_weights_that_say_nothing_are_refused(files, capsys, label, weight, message):
    assert main(["svm-train", "-w", label, weight, f"{files[0]}/train"]) == 2
    assert message in capsys.readouterr().err


def test_files_may_leave_out_features_that_are_zero(files):
    folder, _, _ = files
    (folder / "train").write_text("1 1:1 2:1\n-1 1:-1 2:1\n")
    (folder / "test").write_text("1 1:2\n-1 1:-2 5:0.1\n")
    assert main(["svm-train", "-q", f"{folder}/train", f"{folder}/model"]) == 0
    assert main(["svm-predict", "-q", f"{folder}/test", f"{folder}/model", f"{folder}/out"]) == 0
    assert (folder / "out").read_text() == "1\n-1\n"


def test_cross_validation_writes_nothing(files, capsys):
    folder, _, _ = files
    assert main(["svm-train", "-v", "3", f"{folder}/train"]) == 0
    accuracy = float(capsys.readouterr().out.removeprefix("Cross Validation Accuracy = ").rstrip("%\n"))
    assert accuracy > 50
    assert not (folder / "train.model").exists()


def test_a_malformed_line_is_one_line_on_standard_error(files, capsys):
    folder, _, _ = files
    (folder / "train").write_text("1 1:1\n0 1:x\n")
    assert main(["svm-train", f"{folder}/train"]) == 2
    error = capsys.readouterr().err
    assert "line 2: the value must be a finite number, got 'x'" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("words", [["-c", "0"], ["-g", "x"], ["-v", "1"], ["-t", "1"], ["-s", "3"], ["-w", "1", "x"]])
def test_impossible_options_are_refused(files, words):
    with pytest.raises(SystemExit):
        main(["svm-train", *words, f"{files[0]}/train"])


def test_labels_come_back_with_all_their_digits(tmp_path):
    """Dates and identity numbers are labels too."""
    days = [20240101, 1234567, -3]
    (tmp_path / "t").write_text("".join(f"{days[i % 3]} 1:{i % 3} 2:{i % 5}\n" for i in range(30)))
    assert main(["svm-train", "-q", f"{tmp_path}/t", f"{tmp_path}/m"]) == 0
    assert main(["svm-predict", "-q", f"{tmp_path}/t", f"{tmp_path}/m", f"{tmp_path}/out"]) == 0
    assert (tmp_path / "out").read_text().split() == [str(days[i % 3]) for i in range(30)]


def test_weights_as_libsvm_spells_them(files):
    folder, _, _ = files
    assert main(["svm-train", "-q", "-w", "0", "5", "-w", "2", "0.5", f"{folder}/train", f"{folder}/one"]) == 0
    assert main(["svm-train", "-q", "-h", "0", "-w0", "5", "-w2", "0.5", f"{folder}/train", f"{folder}/two"]) == 0
    assert (folder / "one").read_text() == (folder / "two").read_text()


def test_help_is_help_where_no_number_follows(capsys):
    with pytest.raises(SystemExit):
        main(["svm-train", "-h"])
    assert "TRAINING_FILE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("labels", "words"),
    [(np.arange(60) % 30, "30 different labels in 60 rows"), (np.arange(60) % 3 + 0.5, "has the label 0.5")],
)
def test_a_table_for_regression_is_refused(tmp_path, capsys, labels, words):
    write_libsvm(tmp_path / "t", np.arange(120.0).reshape(60, 2), labels)
    assert main(["svm-train", f"{tmp_path}/t"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "t.model").exists()


def test_many_classes_are_taken_from_those_who_mean_them(tmp_path):
    write_libsvm(tmp_path / "t", np.arange(120.0).reshape(60, 2), np.arange(60) % 30)
    assert main(["svm-train", "-q", "--many-classes", f"{tmp_path}/t"]) == 0


def test_a_wild_index_is_a_sentence(tmp_path, capsys):
    (tmp_path / "t").write_text("1 1:1\n-1 2147483647:1\n")
    assert main(["svm-train", f"{tmp_path}/t"]) == 2
    assert "Is the index 2147483647 a mistake?" in capsys.readouterr().err
