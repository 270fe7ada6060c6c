"""Outputs of a simulator on disk: bit for bit, small ones in the journal, large ones beside it."""

from __future__ import annotations

import numpy as np
import pytest

from surrogate.problem.evaluation import Evaluation
from surrogate.problem.outputs import Outputs
from surrogate.storage.blocks import blocks_path
from surrogate.storage.journal import Entry, Journal


def entry(index: int, outputs: object) -> Entry:
    return Entry(0, index, np.zeros(2), Evaluation(-1.0, "ok", outputs=Outputs.of(outputs)))


def test_outputs_come_back_bit_for_bit(tmp_path) -> None:
    journal = Journal(tmp_path / "evaluations.jsonl")
    rng = np.random.default_rng(0)
    written = [
        entry(0, rng.standard_normal(10)),
        entry(1, {"a": rng.standard_normal((100, 30)), "b": 1e-300}),
        entry(2, {"a": rng.standard_normal((100, 30)), "b": -0.0}),
    ]
    for each in written:
        journal.append(each)
    read = journal.read()
    assert [each.evaluation.outputs for each in read] == [each.evaluation.outputs for each in written]
    assert blocks_path(journal.path).stat().st_size == 2 * 3001 * 8


def test_damaged_outputs_are_noticed(tmp_path) -> None:
    journal = Journal(tmp_path / "evaluations.jsonl")
    journal.append(entry(0, np.ones(3000)))
    path = blocks_path(journal.path)
    block = bytearray(path.read_bytes())
    block[100] ^= 1
    path.write_bytes(bytes(block))
    with pytest.raises(ValueError, match="checksum differs"):
        journal.read()
    path.unlink()
    with pytest.raises(ValueError, match="is missing"):
        journal.read()
