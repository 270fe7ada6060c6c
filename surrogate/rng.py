"""Independent random streams, each a pure function of a seed and of what it is for."""

from __future__ import annotations

import hashlib
import json
import operator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

__all__ = ["generator", "torch_generator"]


def generator(seed: int, *purpose: int | str) -> np.random.Generator:
    """A NumPy generator that depends on the seed and the purpose alone.

    Streams of different purposes are independent, so that nothing has to be passed along, saved or synchronised:
    any process can ask for the stream of a step again.

    Args:
        seed: Any integer.
        purpose: Purpose of the stream, such as a step number and a word. Order matters, and 1 is not "1".

    Raises:
        TypeError: If ``seed`` is not an integer, or a purpose is neither an integer nor a string.

    >>> generator(1, 7, "candidates").random() == generator(1, 7, "candidates").random()
    True
    """
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(_digest(seed, purpose), "little")))


def torch_generator(seed: int, *purpose: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device`` that depends on the seed and the purpose alone.

    The numbers drawn differ between devices, and from those of `generator`. On the CPU torch keeps 32 bits of the seed.

    Raises:
        TypeError: As `generator`.
    """
    import torch

    stream = torch.Generator(device=device)
    stream.manual_seed(int.from_bytes(_digest(seed, purpose)[:8], "little") >> 1)  # 63 bits: torch takes an int64
    return stream


def _digest(seed: int, purpose: tuple[int | str, ...]) -> bytes:
    """32 bytes from SHA-256 (never ``hash``, which differs between processes) of an unambiguous spelling."""
    words = [
        _integer(seed, "seed"),
        *(word if isinstance(word, str) else _integer(word, "purpose") for word in purpose),
    ]
    return hashlib.sha256(json.dumps(words).encode()).digest()


def _integer(value: int, what: str) -> int:
    try:
        return operator.index(value)
    except TypeError:
        expected = "an integer" if what == "seed" else "an integer or a string"
        msg = f"{what} must be {expected}, got {value!r}"
        raise TypeError(msg) from None
