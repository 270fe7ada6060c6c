"""Independent random streams, each a pure function of a seed and a purpose."""

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
    """A NumPy generator that depends only on the seed and the purpose.

    Streams of different purposes are independent. No generator needs to be passed on, saved or synchronised, because
    any process can make the stream of a step again.

    Args:
        seed: Any integer.
        purpose: Integers and strings, such as a step number and a word. Order matters, and 1 differs from "1".

    Raises:
        TypeError: If ``seed`` is not an integer, or a purpose is neither an integer nor a string.

    >>> generator(1, 7, "candidates").random() == generator(1, 7, "candidates").random()
    True
    """
    return np.random.default_rng(np.random.SeedSequence(int.from_bytes(_digest(seed, purpose), "little")))


def torch_generator(seed: int, *purpose: int | str, device: str | torch.device = "cpu") -> torch.Generator:
    """A torch generator on ``device`` that depends only on the seed and the purpose.

    The numbers drawn differ between devices, and from those of `generator`. On the CPU torch uses only 32 bits of the
    seed.

    Raises:
        TypeError: As in `generator`.
    """
    import torch

    stream = torch.Generator(device=device)
    stream.manual_seed(
        int.from_bytes(_digest(seed, purpose)[:8], "little") >> 1
    )  # 63 bits, because torch takes an int64
    return stream


def _digest(seed: int, purpose: tuple[int | str, ...]) -> bytes:
    """32 bytes of SHA-256 of an unambiguous encoding; ``hash`` would differ between processes."""
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
