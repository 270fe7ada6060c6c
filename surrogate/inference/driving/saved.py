"""The state of a run on disk, and its trace as a table."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from surrogate.inference.state import State
from surrogate.output.record import Origin
from surrogate.problem.prior import Prior
from surrogate.problem.spec import prior_from_text, prior_to_text
from surrogate.storage.arrays import load_arrays, save_arrays
from surrogate.storage.files import replacing
from surrogate.storage.folder import RunFolder

__all__ = ["load_origin", "load_prior", "load_provenance", "load_state", "save_state", "write_trace"]


_UNKNOWN = Origin()


def save_state(folder: RunFolder, state: State, prior: Prior, provenance: str = "", origin: Origin = _UNKNOWN) -> None:
    """Writes the state, the prior, the likelihood's provenance and the origin of the run, atomically."""
    words = {
        "prior": np.array(prior_to_text(prior)),
        "provenance": np.array(provenance),
        "origin": np.array(json.dumps(asdict(origin))),
    }
    save_arrays(folder.state_path, state.to_arrays() | words)


def load_origin(folder: RunFolder) -> Origin:
    """The origin of the run in a folder; fields that were not recorded are empty.

    Raises:
        ValueError: If the state is damaged.
    """
    if not folder.state_path.exists():
        return Origin()
    try:
        saved = json.loads(str(load_arrays(folder.state_path).get("origin", "{}")))
        return Origin(**{entry.name: saved[entry.name] for entry in fields(Origin) if entry.name in saved})
    except (TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise _damaged(folder, error) from error


def load_provenance(folder: RunFolder) -> str:
    """Provenance of the likelihood of the run in a folder; empty if none was recorded.

    Raises:
        ValueError: If the state is damaged.
    """
    if not folder.state_path.exists():
        return ""
    return str(load_arrays(folder.state_path).get("provenance", ""))


def load_prior(folder: RunFolder) -> Prior:
    """The prior of the run in a folder.

    Raises:
        FileNotFoundError: If there is no state.
        ValueError: If the state is damaged or the prior has distributions that are not from scipy.
    """
    arrays = load_arrays(folder.state_path)
    try:
        return prior_from_text(str(arrays["prior"]))
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise _damaged(folder, error) from error


def load_state(folder: RunFolder, prior: Prior, seed: int | None = None) -> State | None:
    """The state in a folder; None if there is none.

    Raises:
        ValueError: If the state has another prior or seed, or is damaged.
    """
    if not folder.state_path.exists():
        return None
    arrays = load_arrays(folder.state_path)
    given = json.loads(prior_to_text(prior))
    try:
        saved = json.loads(str(arrays.pop("prior")))
        differing = [new["name"] for new, old in zip(given, saved, strict=False) if _essence(new) != _essence(old)]
        names = [entry["name"] for entry in saved]
    except (KeyError, TypeError, AttributeError, RecursionError, json.JSONDecodeError) as error:
        raise _damaged(folder, error) from error
    if differing or len(saved) != len(given):
        msg = (
            f"{folder.path} holds a run with other parameters ({', '.join(names)}; differing, in "
            f"this order: {', '.join(differing) or 'their number'}). Choose another folder, or resume=False (--force) "
            "to start a new run"
        )
        raise ValueError(msg)
    try:
        state = State.from_arrays(arrays)
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError) as error:
        raise _damaged(folder, error) from error
    if seed is not None and state.seed != seed:
        msg = (
            f"{folder.path} holds a run with seed {state.seed}, got seed {seed}. Continue it with its own seed, "
            "choose another folder, or resume=False (--force) to start a new run"
        )
        raise ValueError(msg)
    return state


def _damaged(folder: RunFolder, error: Exception) -> ValueError:
    msg = (
        f"{folder.state_path} is damaged ({type(error).__name__}: {error}). Restore it from a copy, or remove it: "
        "the run then continues from its journal"
    )
    return ValueError(msg)


def _essence(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k != "label"}


def write_trace(folder: RunFolder, state: State) -> None:
    """Writes the table of iterations, one row per step that had a surrogate."""
    lines = [",".join(state.columns), *(",".join(repr(float(v)) for v in row) for row in state.trace)]
    with replacing(folder.trace_path) as file:
        file.write(("\n".join(lines) + "\n").encode())
