"""Each reader of files, given damaged ones: a sentence of a ValueError, never another exception."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import surrogate

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from damage import damage, damage_arrays
from damaged_readers import readers_of_exports, readers_of_runs, readers_of_tables


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    quick = {"max_evaluations": 10, "n_samples": 50, "seed": 5, "progress": False}
    surrogate.infer(lambda x: -0.5 * float(x @ x), {"a": (-4, 4)}, output=folder / "run", **quick)
    return [*readers_of_runs(folder / "run"), *readers_of_exports(folder), *readers_of_tables(folder)]


def is_refused(reader):
    """Whether a damaged file is refused; what is still whole is read."""
    try:
        reader.read(reader.path)
    except (ValueError, OSError):
        return True
    return False


def test_every_reader_refuses_damage_with_a_sentence(readers):
    rng = np.random.default_rng(3)
    refused = 0
    for reader in readers:
        whole = reader.path.read_bytes()
        reader.read(reader.path)
        for trial in range(4):
            if reader.path.suffix == ".npz" and trial % 3:
                damage_arrays(reader.path, whole, rng)
            else:
                reader.path.write_bytes(damage(whole, rng))
            refused += is_refused(reader)
        reader.path.write_bytes(whole)
    assert refused > 2 * len(readers)
