"""Tables, the meaning of their columns, and labels that come back: what is read, and what is refused with its place."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.labelling import table as tables
from surrogate.labelling.answers import events_of, read_answers
from surrogate.labelling.pool import Pool
from surrogate.labelling.schema import Declared, Schema
from surrogate.labelling.state import FREE, LABELLED, LabelState
from surrogate.labelling.table import Table, digest, original_rows, read_table

HOUSES = """id,size,kind,grade,note,price
a,50,flat,low,old,100
b,70,house,high,,
c,60.5,flat,mid,"a, b",120
d,1e2,tower,mid,new,
"""
DECLARED = Declared("price", ordinal={"grade": ("low", "mid", "high")}, ids=("id",), ignored=("note",))


@pytest.fixture
def write(tmp_path):
    def file(text, name="pool.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return file


@pytest.fixture
def houses(write):
    path = write(HOUSES)
    return Pool.of(read_table(path, text=DECLARED.text), DECLARED, digest=digest(path))


def pool_of(path, declared):
    return Pool.of(read_table(path, text=declared.text), declared)


# Reading


def test_columns_are_numbers_or_text(write):
    table = read_table(write(HOUSES))
    assert table.numbers("size").tolist() == [50, 70, 60.5, 100]
    assert table.columns["kind"] == ["flat", "house", "flat", "tower"]
    np.testing.assert_array_equal(table.numbers("price"), [100, np.nan, 120, np.nan])
    assert len(table) == 4


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_separators(write, mark):
    table = read_table(write(mark.join("abc") + "\n" + mark.join("123") + "\n\n" + mark.join("456") + "\n"))
    assert [table.numbers(name).tolist() for name in "abc"] == [[1, 4], [2, 5], [3, 6]]


def test_a_comma_in_a_name_is_no_separator(write):
    assert list(read_table(write('"size, m2";price;"kind"\n1;2;3\n')).columns) == ["size, m2", "price", "kind"]


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_chunks_are_not_seen(write, monkeypatch, chunk):
    whole = read_table(write(HOUSES))
    monkeypatch.setattr(tables, "_CHUNK", chunk)
    parts = read_table(write(HOUSES))
    for name, column in whole.columns.items():
        np.testing.assert_array_equal(column, parts.columns[name])


def test_text_after_many_numbers_keeps_their_spelling(write, monkeypatch):
    monkeypatch.setattr(tables, "_CHUNK", 2)
    assert read_table(write("code\n01\n02\nx\ny\nz\n")).columns["code"] == ["01", "02", "x", "y", "z"]


def test_declared_text_keeps_its_spelling(write):
    assert read_table(write("id\n007\n008\n"), text=["id"]).columns["id"] == ["007", "008"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a,,b\n1,2,3\n", "column 2 has no name"),
        ("a,b,a\n1,2,3\n", "two columns are called 'a'"),
        ("a,b\n1,2\n1\n", "row 2: 1 cells, but the header has 2"),
    ],
)
def test_broken_files(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_table(write(text))


def test_other_encodings_are_named(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_bytes("name\nMüller\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not UTF-8 text"):
        read_table(path)


def test_parquet_is_the_same_table(write, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    csv_table = read_table(write(HOUSES))
    columns = {
        name: [None if cell == "" or cell != cell else cell for cell in list(column)]
        for name, column in csv_table.columns.items()
    }
    path = tmp_path / "pool.parquet"
    parquet.write_table(arrow.table(columns), path)
    for name, column in read_table(path).columns.items():
        np.testing.assert_array_equal(column, csv_table.columns[name])
    assert original_rows(path, [2])[1][2][0] == "c"


def test_parquet_columns_of_other_types_are_text(tmp_path):
    """Dates name rows, or are ignored."""
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    day = __import__("datetime").date
    columns = {"day": [day(2026, 1, 2), None], "size": [1.0, 2.0]}
    parquet.write_table(arrow.table(columns), tmp_path / "pool.parquet")
    assert read_table(tmp_path / "pool.parquet").columns["day"] == ["2026-01-02", ""]


def test_missing_words_of_pandas_are_missing():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"kind": pandas.array(["flat", pandas.NA], dtype="string"), "size": [1.0, 2.0]})
    with pytest.raises(ValueError, match="row 2, column 'kind': the value is missing"):
        Pool.of(Table.of(frame), Declared("price"))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match="need pyarrow"):
        read_table(tmp_path / "pool.parquet")


def test_tables_in_memory():
    assert list(Table.of(np.zeros((3, 2))).columns) == ["x0", "x1"]
    assert Table.of({"a": [1, 2], "b": ["u", "v"]}).columns["b"] == ["u", "v"]
    with pytest.raises(ValueError, match="same length"):
        Table.of({"a": [1], "b": [1, 2]})
    with pytest.raises(TypeError, match="numbers with shape"):
        Table.of(np.zeros(3))


def test_original_rows_are_spelled_as_in_the_file(write):
    names, cells = original_rows(write(HOUSES), [3, 0])
    assert names == ["id", "size", "kind", "grade", "note", "price"]
    assert cells == {0: ["a", "50", "flat", "low", "old", "100"], 3: ["d", "1e2", "tower", "mid", "new", ""]}


# Meaning


def test_what_a_model_sees(houses):
    """Numbers first; each word of a category has a column, an ordinal scale one."""
    expected = [[50, 1, 0, 0, 0], [70, 0, 1, 0, 2], [60.5, 1, 0, 0, 1], [100, 0, 0, 1, 1]]
    np.testing.assert_array_equal(houses.x(), expected)
    np.testing.assert_array_equal(houses.x(np.array([2, 0])), [expected[2], expected[0]])
    assert houses.d == houses.schema.d == 5


def test_documents_and_arrays_come_back(houses):
    assert Schema.of_document(houses.schema.to_document()) == houses.schema
    again = Pool.from_arrays(houses.to_arrays())
    assert again.schema == houses.schema
    assert again.digest == houses.digest
    for name in ("numbers", "codes", "y", "allowed", "names"):
        np.testing.assert_array_equal(getattr(again, name), getattr(houses, name))


@pytest.mark.parametrize(
    ("text", "declared", "message"),
    [
        ("a,y\n1,\nx,\n3,\n", Declared("y"), "row 2, column 'a': 'x' is not a number; correct it, or declare"),
        ("a,y\n1,\n,\n3,\n", Declared("y"), "row 2, column 'a': the value is missing"),
        ("a,y\n1,\n,\nNA,\n4,\n", Declared("y"), r"row 2, column 'a': .*and 1 more"),
        ("a,y\n1,\ninf,\n", Declared("y"), "row 2, column 'a': the value is infinite"),
        ("a,y\nu,\n,\n", Declared("y"), "row 2, column 'a': the value is missing"),
        ("a,y\n1,2\n3,u\n5,6\n", Declared("y"), "row 2, column 'y': 'u' is not a number; a label is a number"),
        ("a,y\n1,inf\n", Declared("y"), "row 1, column 'y': the label is infinite"),
        ("a,y\n1,2\n", Declared("y", categorical=("b",)), "no column 'b'"),
        ("a,y\n1,2\n", Declared("y", categorical=("a",), ignored=("a",)), "'a' is declared twice"),
        ("a,y\n1,2\n", Declared("y", ignored=("a",)), "no column besides the target"),
        ("price,y\n1,2\n", Declared("prize"), "no column 'prize'; did you mean 'price'"),
        ("i,a,y\nu,1,2\nu,1,2\n", Declared("y", ids=("i",)), "row 2: the id 'u' stands in row 1 too"),
        ("m,a,y\n1,1,2\n2,1,2\n", Declared("y", mask="m"), "row 2, column 'm': a mask is 0 or 1, got 2"),
        ("a,y\nu,1\nv,1\n", Declared("y", ordinal={"a": ("u", "w")}), "row 2, column 'a': 'v' is not a known category"),
        ("a,y\n", Declared("y"), "has no rows"),
        ("a;y\n0,5;\n1,5;\n", Declared("y"), "row 1, column 'a': '0,5' is text: write the decimal point as '.'"),
        ("a;y\n1;2\n2;2,5\n", Declared("y"), "row 2, column 'y': '2,5' is not a number: write the decimal point"),
        ('a,y\n"1,000",\n"2,500",\n', Declared("y"), "column 'a': '1,000' is text: .* separators of thousands"),
        ("a,y\nNone,\nBrick,\n", Declared("y"), "or as categorical if 'None' is one of its words"),
        ("a,y\n1,\n,\n", Declared("z"), "row 2, column 'a'.*The target 'z' is not a column"),
    ],
)
def test_what_is_refused(write, text, declared, message):
    with pytest.raises(ValueError, match=message):
        pool_of(write(text), declared)


def test_too_many_words_are_an_id(write):
    text = "name,a,y\n" + "".join(f"n{i},1,\n" for i in range(51))
    with pytest.raises(ValueError, match="51 different words .* declare it as an id"):
        pool_of(write(text), Declared("y"))
    assert pool_of(write(text), Declared("y", ids=("name",))).position("n7") == 7


def test_words_for_missing_values_are_words_where_they_are_declared(write):
    """A house without veneer has the veneer "None"; an empty cell is missing all the same."""
    pool = pool_of(write("a,y\nNone,\nBrick,\nNA,\n"), Declared("y", categorical=("a",)))
    assert pool.schema.columns[0].categories == ("Brick", "NA", "None")
    with pytest.raises(ValueError, match="row 2, column 'a': the value is missing"):
        pool_of(write("a,y\nNone,\n,\n"), Declared("y", categorical=("a",)))


def test_words_with_commas_may_be_categories(write):
    pool = pool_of(write("a;y\n0,5;\n1,5;\n"), Declared("y", categorical=("a",)))
    assert pool.schema.columns[0].categories == ("0,5", "1,5")
    places = pool_of(write('a,y\n"Berlin, Mitte",\n"1,5 km",\n'), Declared("y"))
    assert places.schema.columns[0].categories == ("1,5 km", "Berlin, Mitte")


def test_a_row_that_cannot_be_taken_apart_is_named(write):
    with pytest.raises(ValueError, match="row 2: field larger than field limit"):
        tables.read_table(write("a,y\n1,2\n" + "x" * 200_000 + ",3\n"))


def test_far_cells_are_clipped_in_other_tables_too():
    numbers = np.linspace(0.0, 1.0, 200)
    pool = Pool.of(Table.of({"a": np.r_[numbers, 1e9], "b": np.r_[numbers, 0.5]}), Declared("y"))
    assert pool.far_cells() == [
        "column 'a': 1000000000 in row 201 is very far from the rest: a code for a missing value? Models see -89.95 to "
        "90.95; correct the cell, or leave out the row"
    ]
    seen = pool.encode(np.array([[-1e12, 7.0]]), np.empty((1, 0), dtype=np.int32))
    np.testing.assert_allclose(seen, [[-89.95, 7.0]], rtol=1e-3)


def test_numbers_may_be_categories(write):
    pool = pool_of(write("a,y\n1,\n2,\n10,\n"), Declared("y", categorical=("a",)))
    assert pool.schema.columns[0].categories == ("1", "10", "2")
    np.testing.assert_array_equal(pool.x(), np.eye(3)[[0, 2, 1]])


def test_a_table_without_the_target_has_no_labels(write):
    assert np.isnan(pool_of(write("a\n1\n2\n"), Declared("y")).y).all()


def test_unknown_words_in_other_tables(houses, write):
    other = read_table(write("size,kind,grade\n1,flat,low\n2,hous,low\n"))
    with pytest.raises(ValueError, match="row 2, column 'kind': 'hous' is not a known category; did you mean 'house'"):
        houses.schema.read(other)
    with pytest.raises(ValueError, match="lacks the columns 'grade'"):
        houses.schema.read(read_table(write("size,kind\n1,flat\n")))


# Labels that come back


def answer(pool, write, text):
    return read_answers(write(text, "labels.csv"), pool)


def test_labels_late_partly_and_failed(houses, write):
    answers = answer(houses, write, "id,size,price\nd,100,7\nb,70,\nc,60.5,failed: no key\n")
    assert answers.rows.tolist() == [3, 2]
    assert answers.y[0] == 7
    assert np.isnan(answers.y[1])
    assert answers.reasons == ("", "no key")
    assert answers.empty == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,price\nb,1\nzz,2\n", "row 2, column 'id': there is no row 'zz' in the pool"),
        ("id,price\nb,1\nb,2\n", "row 2: 'b' appears in row 1 too"),
        ("id,price\nb,1\nd,12 EUR\n", "row 2, column 'price': the label '12 EUR' is not a finite number"),
        ("id,price\nb,inf\n", "row 1, column 'price': the label 'inf' is not a finite number"),
        ("id,size,price\nb,71,1\n", "row 1, column 'size': 71.0 here, but 70.0 in the pool: are the rows mixed up"),
        ("id,kind,price\nb,flat,1\n", "row 1, column 'kind': flat here, but house in the pool"),
        ("row,price\n1,2\n", "lacks the column 'id'"),
        ("id,prise\nb,2\n", "lacks the column 'price'"),
    ],
)
def test_labels_that_are_refused(houses, write, text, message):
    with pytest.raises(ValueError, match=message):
        answer(houses, write, text)


def test_rows_without_ids_count_from_one(write):
    pool = pool_of(write("a,y\n5,\n6,\n"), Declared("y"))
    assert read_answers(write("row,y\n2,3\n", "labels.csv"), pool).rows.tolist() == [1]
    with pytest.raises(ValueError, match="no row '3' in the pool; its rows are 1 to 2"):
        read_answers(write("row,y\n3,3\n", "labels.csv"), pool)


def test_a_column_called_row_keeps_its_name(write):
    pool = pool_of(write("row,y\n5,\n6,\n"), Declared("y"))
    assert read_answers(write("pool_row,row,y\n2,6,3\n", "labels.csv"), pool).rows.tolist() == [1]


def test_events_of_answers(houses, write):
    state = LabelState.initial(houses.y, random=True)
    assert state.status.tolist() == [LABELLED, FREE, LABELLED, FREE]
    same = answer(houses, write, "id,price\na,100\nb,5\n")
    assert events_of(same, state, correct=False) == [{"event": "told", "rows": [1], "y": [5.0]}]
    other = answer(houses, write, "id,price\na,101\nd,failed\n")
    with pytest.raises(ValueError, match="row 1, column 'price': this row already has the label 100, got 101"):
        events_of(other, state, correct=False)
    assert events_of(other, state, correct=True) == [
        {"event": "corrected", "rows": [0], "y": [101.0], "before": [100.0]},
        {"event": "failed", "rows": [3], "reasons": ["failed"]},
    ]
