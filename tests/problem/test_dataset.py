"""The table of evaluated points: appending, round trips bit for bit, immutability."""

import numpy as np
import pytest

from surrogate.problem.dataset import FAILED, INFEASIBLE, OK, Dataset
from surrogate.problem.evaluation import Evaluation
from surrogate.storage.arrays import load_arrays, save_arrays

ROWS = [
    ([0.1, 1 / 3], Evaluation(-1.5, "ok", {"s": 0.1}, noise=0.25, seconds=2.0), 0),
    ([0.2, 5e-324], Evaluation(-np.inf, "infeasible", seconds=0.5), 0),
    ([-0.0, 1e308], Evaluation.failure("ValueError: naïve “quotes” \U0001f600", seconds=0.1), 1),
    ([0.4, np.pi], Evaluation(-0.0, "ok", {"t": np.nan, "s": -np.inf}), 3),
    ([0.5, np.e], Evaluation(np.nextafter(1, 2), "ok", {"u": 1e-310}), 3),
]


def table(rows=ROWS):
    data = Dataset.empty(2)
    for x, evaluation, step in rows:
        data = data.append(np.array([x]), [evaluation], step)
    return data


def assert_identical(one: Dataset, other: Dataset):
    first, second = one.to_arrays(), other.to_arrays()
    assert list(first) == list(second)
    for name, array in first.items():
        assert array.dtype == second[name].dtype, name
        assert array.shape == second[name].shape, name
        assert array.tobytes() == second[name].tobytes(), name
    assert one.derived_names == other.derived_names
    assert one.reasons == other.reasons


TABLES = {
    "empty": Dataset.empty(3),
    "no derived": table(ROWS[1:3]),
    "one row": table(ROWS[:1]),
    "all kinds": table(),
    "all at once": Dataset.empty(2).append([x for x, _, _ in ROWS], [e for _, e, _ in ROWS], 2),
    "head": table().head(2),
    "no parameters": Dataset.empty(0).append(np.empty((1, 0)), [Evaluation(1.0, "ok")], 0),
}


@pytest.fixture(params=TABLES)
def data(request):
    return TABLES[request.param]


def test_arrays_round_trip(data):
    assert_identical(Dataset.from_arrays(data.to_arrays()), data)


def test_files_round_trip(data, tmp_path):
    save_arrays(tmp_path / "data.npz", data.to_arrays())
    assert_identical(Dataset.from_arrays(load_arrays(tmp_path / "data.npz")), data)


def test_arrays_have_no_objects(data):
    assert {array.dtype.kind for array in data.to_arrays().values()} <= set("fiuU")


def test_appending_rows_one_by_one_or_together_is_the_same():
    together = Dataset.empty(2).append([x for x, _, _ in ROWS], [e for _, e, _ in ROWS], 0)
    assert_identical(together, table([(x, e, 0) for x, e, _ in ROWS]))


def test_appending_nothing_changes_nothing(data):
    assert_identical(data.append(np.empty((0, data.d)), [], 7), data)


def test_heads_are_the_tables_of_before():
    full, expected = table(), Dataset.empty(2)
    for n, (x, evaluation, step) in enumerate(ROWS):
        head = full.head(n)
        assert len(head) == n
        for name in ("x", "y", "noise", "status", "seconds", "step"):
            np.testing.assert_array_equal(getattr(head, name), getattr(expected, name))
        expected = expected.append([x], [evaluation], step)
    assert_identical(full.head(100), full)


def test_columns():
    data = table()
    assert len(data) == 5
    assert data.d == 2
    np.testing.assert_array_equal(data.x, [x for x, _, _ in ROWS])
    np.testing.assert_array_equal(data.y, [-1.5, -np.inf, np.nan, -0.0, np.nextafter(1, 2)])
    np.testing.assert_array_equal(data.status, [OK, INFEASIBLE, FAILED, OK, OK])
    np.testing.assert_array_equal(data.finite, [True, False, False, True, True])
    np.testing.assert_array_equal(data.noise, [0.25, 0, 0, 0, 0])
    np.testing.assert_array_equal(data.seconds, [2.0, 0.5, 0.1, 0, 0])
    np.testing.assert_array_equal(data.step, [0, 0, 1, 3, 3])
    assert data.reasons[2].endswith("\U0001f600")
    assert data.reasons[0] == ""
    assert data.y_max == np.nextafter(1, 2)
    dtypes = {name: str(getattr(data, name).dtype) for name in ("x", "y", "noise", "status", "derived", "step")}
    assert dtypes == dict.fromkeys(["x", "y", "noise", "derived"], "float64") | {"status": "uint8", "step": "int64"}


def test_derived_columns_are_in_order_of_appearance():
    data = table()
    assert data.derived_names == ("s", "t", "u")
    n = np.nan
    np.testing.assert_array_equal(data.derived, [[0.1, n, n], [n, n, n], [n, n, n], [-np.inf, n, n], [n, n, 1e-310]])


def test_without_finite_rows():
    assert Dataset.empty(2).y_max == -np.inf
    assert table(ROWS[1:3]).y_max == -np.inf
    assert not table(ROWS[1:3]).finite.any()


def test_is_immutable():
    x = np.array([[0.0, 1.0]])
    data = Dataset.empty(2).append(x, [Evaluation(1.0, "ok")], 0)
    x[:] = 7.0
    np.testing.assert_array_equal(data.x, [[0.0, 1.0]])
    with pytest.raises(ValueError, match="read-only"):
        data.y[0] = 0.0
    with pytest.raises(AttributeError, match="cannot assign"):
        data.y = np.zeros(1)
    longer = data.append(x, [Evaluation(2.0, "ok")], 1)
    assert (len(data), len(longer)) == (1, 2)


@pytest.mark.parametrize("x", [np.zeros((1, 3)), np.zeros((2, 2)), np.zeros(2)])
def test_wrong_shapes(x):
    with pytest.raises(ValueError, match=r"x must have shape \(1, 2\) for 1 evaluations, got"):
        Dataset.empty(2).append(x, [Evaluation(1.0, "ok")], 0)


def test_missing_arrays():
    arrays = table().to_arrays()
    del arrays["y"], arrays["step"]
    with pytest.raises(ValueError, match=r"a dataset needs the arrays x, y, .*; missing: y, step"):
        Dataset.from_arrays(arrays)


def test_arrays_that_do_not_fit():
    arrays = table().to_arrays() | {"y": np.zeros(4), "derived": np.zeros((5, 1))}
    with pytest.raises(ValueError, match=r"5 rows do not fit together: y with shape \(4,\) instead of \(5,\), derived"):
        Dataset.from_arrays(arrays)


def test_further_arrays_are_left_alone():
    assert_identical(Dataset.from_arrays(table().to_arrays() | {"seed": np.array(3)}), table())
