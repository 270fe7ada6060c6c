"""Evaluations: results of calls of a target, and the parsing of return values."""

from __future__ import annotations

import math
import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from surrogate.problem.prior import NAME

if TYPE_CHECKING:
    from surrogate.problem.outputs import Outputs

__all__ = ["Evaluation", "UnusableError", "describe_error", "read_answer", "unstack_answers"]

_LONGEST_REASON = 500  # characters, because reasons are kept in arrays of fixed width


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one call of a log-likelihood.

    Attributes:
        y: Log-likelihood (natural log): finite if ok, -inf if infeasible, NaN if failed.
        status: "ok"; "infeasible" for a likelihood of zero, which is a legal answer; "failed" for anything else.
        derived: Further numbers that the likelihood computed, by name.
        noise: Standard deviation of y, 0 if exact.
        gradient: Derivatives of y with respect to the d parameters; empty if there are none.
        outputs: Outputs of the simulator, if these are learned and the call succeeded; otherwise None.
        reason: Why the call failed, in one line; empty if it did not.
        seconds: Wall-clock time of the call.
        worker: Host and process id that evaluated it.
    """

    y: float
    status: Literal["ok", "infeasible", "failed"]
    derived: dict[str, float] = field(default_factory=dict)
    noise: float = 0.0
    reason: str = ""
    seconds: float = 0.0
    worker: str = ""
    gradient: tuple[float, ...] = ()
    outputs: Outputs | None = None

    @classmethod
    def failure(cls, reason: str, *, seconds: float = 0.0, worker: str = "") -> Evaluation:
        """A failed evaluation, with its reason shortened to one line of at most 500 characters."""
        words = " ".join(reason.replace("\0", " ").split())
        shown = words if len(words) <= _LONGEST_REASON else words[: _LONGEST_REASON - 3] + "..."
        return cls(math.nan, "failed", reason=shown, seconds=seconds, worker=worker)


GRADIENT = "gradient"


def gradient_part(answer: Any) -> tuple[Any, Any]:
    """A return value without its gradient, and the gradient or None."""
    value, extra = _split(answer)
    if isinstance(extra, Mapping):
        rest = {name: part for name, part in extra.items() if name != GRADIENT}
        return (value, rest), extra.get(GRADIENT)
    return value, extra


def without_gradient(answer: Any, d: int) -> tuple[Any, tuple[float, ...]]:
    """A return value without its gradient, and the gradient, which is empty if not finite."""
    rest, gradient = gradient_part(answer)
    if gradient is None:
        return rest, ()
    values = gradient_block(gradient, (d,))
    return rest, tuple(values.tolist()) if np.isfinite(values).all() else ()


def gradient_block(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A gradient as an array with the given shape."""
    try:
        block = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError):
        block = np.empty(())
    if block.shape != shape:
        msg = f"the gradient must be numbers with shape {shape}, got {type(values).__name__} with {np.shape(values)}"
        raise UnusableError(msg)
    return block


class UnusableError(Exception):
    """Raised if a likelihood returns something that is not a log-likelihood."""


def read_answer(answer: Any, names: tuple[str, ...], *, noise: float) -> Evaluation:
    """The evaluation for a return value; ``noise`` is the sd of values returned without one."""
    value, extra = _split(answer)
    y = _number(value, "the log-likelihood")
    if math.isnan(y) or y == math.inf:
        msg = f"the log-likelihood is {'NaN' if math.isnan(y) else '+inf'}; only -inf may stand for an impossible point"
        raise UnusableError(msg)
    status: Literal["ok", "infeasible"] = "infeasible" if y == -math.inf else "ok"
    if isinstance(extra, Mapping):
        return Evaluation(y, status, derived=_derived(extra, names), noise=noise if status == "ok" else 0.0)
    if status == "infeasible":
        return Evaluation(y, status)
    return Evaluation(y, status, noise=noise if extra is None else _noise(extra))


def _split(answer: Any) -> tuple[Any, Any]:
    """The value of a return value and, if it is a pair, its second part, otherwise None."""
    if not isinstance(answer, tuple):
        return answer, None
    if len(answer) != 2 or answer[1] is None:
        kinds = ", ".join(type(part).__name__ for part in answer)
        msg = f"the likelihood returned a tuple ({kinds}), not a float, (float, dict of derived) or (float, noise sd)"
        raise UnusableError(msg)
    return answer


def _noise(value: Any) -> float:
    noise = _number(value, "the noise sd")
    if not 0 <= noise < math.inf:
        msg = f"the noise sd must be finite and >= 0, got {noise}"
        raise UnusableError(msg)
    return noise


def _derived(values: Mapping[Any, Any], names: tuple[str, ...]) -> dict[str, float]:
    for name in values:
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            msg = f"the name of a derived value must be a letter, then letters, digits, '_', '.' or '-', got {name!r}"
            raise UnusableError(msg)
        if name in names:
            msg = f"the derived value '{name}' has the name of a parameter"
            raise UnusableError(msg)
    return {name: _number(value, f"the derived value '{name}'") for name, value in values.items()}


def _number(value: Any, what: str) -> float:
    """A real number, 0-d array or array with one element as a float."""
    shape = tuple(getattr(value, "shape", ()))
    if math.prod(shape) != 1:
        msg = f"{what} is an array with shape {shape}, not one number"
        raise UnusableError(msg)
    item = value.item() if hasattr(value, "item") else value
    if item is None:
        msg = f"{what} is None (a function without return?)"
        raise UnusableError(msg)
    if isinstance(item, bool | str | bytes | complex) or not hasattr(item, "__float__"):
        msg = f"{what} is not a real number but {type(item).__name__}: {item!r}"
        raise UnusableError(msg)
    return float(item)


def unstack_answers(answer: Any, b: int) -> list[Any]:
    """The return value for b points as b return values of single points."""
    value, extra = _split(answer)
    y = _column(value, b, "the log-likelihood")
    if extra is None:
        return list(y)
    if not isinstance(extra, Mapping):
        return list(zip(y, _column(extra, b, "the noise sd"), strict=True))
    derived = {name: _column(values, b, f"the derived value {name!r}") for name, values in extra.items()}
    return [(y[i], {name: values[i] for name, values in derived.items()}) for i in range(b)]


def _column(values: Any, b: int, what: str) -> np.ndarray:
    if np.shape(values) != (b,):
        kind = type(values).__name__
        msg = f"{what} of a vectorised likelihood must have shape ({b},), got {kind} with shape {np.shape(values)}"
        raise UnusableError(msg)
    return np.asarray(values)


def describe_error(error: Exception) -> str:
    """Type, message and innermost line of an exception, or only the message of an `UnusableError`."""
    if isinstance(error, UnusableError):
        return str(error)
    message = "".join(traceback.format_exception_only(error))
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1]
    code = f": {last.line}" if last.line else ""
    return f"{message.strip()} (in {last.name}, {os.path.basename(last.filename)} line {last.lineno}{code})"
