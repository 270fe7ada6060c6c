"""Readers of files that anybody may have damaged: a sentence of a ValueError, never another exception, soon."""

import json
import struct
import zipfile

import pytest

from surrogate.storage.arrays import load_arrays
from surrogate.storage.documents import read_document
from surrogate.storage.journal import Journal

LINE = {
    "step": 0, "index": 0, "x": [0.5], "y": -1.0, "status": "ok", "derived": {}, "noise": 0.0, "seconds": 1.0,
    "worker": "w", "reason": "",
}  # fmt: skip

BAD = {
    "NaN": ("y", float("nan")),
    "infinite": ("y", float("inf")),
    "huge integer": ("y", 10**400),
    "true": ("y", True),
    "text": ("y", "-1"),
    "negative noise": ("noise", -0.1),
    "NaN noise": ("noise", float("nan")),
    "infinite point": ("x", [float("inf")]),
    "no list": ("x", 3),
    "negative step": ("step", -1),
    "fraction": ("index", 0.5),
    "huge step": ("step", 2**70),
    "status": ("status", "good"),
    "list as status": ("status", []),
    "reason": ("reason", 3),
    "derived": ("derived", []),
    "gradient": ("gradient", ["a"]),
}


@pytest.mark.parametrize("name", BAD)
def test_values_of_a_journal_are_checked(tmp_path, name):
    path = tmp_path / "evaluations.jsonl"
    word, value = BAD[name]
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | {word: value}) + "\n")
    with pytest.raises(ValueError, match="line 2 of .* is damaged"):
        Journal(path).read()


@pytest.mark.parametrize("line", ["[" * 100_000, "{}", "null", "3", '{"x": 1', "\xff", "[" * 1000 + "]" * 1000])
def test_lines_that_are_none_are_damaged(tmp_path, line):
    path = tmp_path / "evaluations.jsonl"
    path.write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match="line 1 of .* is damaged"):
        Journal(path).read()


def header_of(shape):
    """A file whose header promises an array of this shape."""
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    "content",
    [
        header_of("(1000000000000,)"),
        header_of("(99999999999999999999,)"),
        header_of("(-1,)"),
        header_of("(((("),
        header_of("(1,)").replace(b"<f8", b"|O8"),
        header_of("()") + b"1",
        b"",
        b"\x93NUMPY\x09\x00",
    ],
)
def test_arrays_that_promise_more_than_they_hold_are_refused(tmp_path, content):
    with zipfile.ZipFile(tmp_path / "state.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ValueError, match="cannot be read"):
        load_arrays(tmp_path / "state.npz")


def test_a_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "state.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", header_of("(1000000,)") + bytes(8_000_000))
    with pytest.raises(ValueError, match="compressed"):
        load_arrays(tmp_path / "state.npz")


DOCUMENTS = {
    "bomb": "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)),
    "circle": "a: &a [*a]",
    "deep": "[" * 2000,
    "list as a word": "? [a]\n: b",
    "date": "a: 2020-99-99",
    "control": "a: \x07",
    "object": "a: !!python/object:os.system x",
    "tag": "a: !!int x",
    "twice": "a: 1\na: 2",
    "list": "[1]",
    "merge": "<<: 3",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_are_read_or_refused(tmp_path, name):
    path = tmp_path / "run.yaml"
    path.write_text(DOCUMENTS[name])
    with pytest.raises(ValueError, match="run.yaml: ") as caught:
        read_document(path)
    assert len(str(caught.value)) < 6000


def test_plain_aliases_are_read(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("a: &a [0, 1]\nb: *a\nc: {<<: {d: 1}, e: 2}\n")
    assert read_document(path) == {"a": [0, 1], "b": [0, 1], "c": {"d": 1, "e": 2}}
