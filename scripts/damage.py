"""Random damage to the bytes of a file, for tests of what reads it."""

from __future__ import annotations

import numpy as np


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
