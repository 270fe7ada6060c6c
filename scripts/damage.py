"""Random damage to the bytes of a file, for tests of what reads it."""

from __future__ import annotations

import io

import numpy as np

from surrogate.storage.arrays import save_arrays


def damage(content, rng):
    """The bytes with some changed, cut out, repeated or put in."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at, to = np.sort(rng.integers(0, len(data) + 1, 2))
        kind = rng.integers(4)
        if kind == 0 and at < len(data):
            data[at] = rng.integers(256)
        elif kind == 1:
            del data[at:to]
        elif kind == 2:
            data[at:at] = data[at:to][:100_000]
        else:
            data[at:at] = rng.bytes(3)
    return bytes(data)


def damage_arrays(path, content, rng):
    """Writes the arrays of an ``.npz`` file with one or two of them changed; its checksums are right."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "format"}
    for _ in range(rng.integers(1, 3)):
        name = str(rng.choice(sorted(arrays)))
        arrays[name] = _changed(arrays[name], rng)
        if rng.random() < 0.1:
            del arrays[name]
    save_arrays(path, arrays)


def _changed(array, rng):
    """An array with other values, another shape or another type."""
    kind = rng.integers(6)
    if array.dtype.kind == "U":
        text = damage(str(array.ravel()[0]).encode() if array.size else b"", rng).decode("utf-8", "replace")
        return np.array(text) if kind < 4 else np.full(array.shape, 1.0)
    if kind == 0 and array.size:
        array = array.copy()
        array.ravel()[rng.integers(array.size)] = rng.choice([-1, 0, 1, 1_000_000_000])
    elif kind == 1:
        array = np.full(array.shape, rng.choice([np.nan, np.inf, -np.inf, 1e300, 0.0]))
    elif kind == 2:
        array = array[..., :-1] if array.ndim else np.zeros(3)
    elif kind == 3:
        array = array[None]
    elif kind == 4:
        array = np.full(array.shape, "word")
    else:
        array = array[:0] if array.ndim else np.array(-7)
    return array
