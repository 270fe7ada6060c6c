"""Starting a labelling run, and opening the run in a folder."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from surrogate.labelling.folder import LabelFolder
from surrogate.labelling.journal import replay
from surrogate.labelling.labelling_run import LabellingRun
from surrogate.labelling.pool import Pool
from surrogate.labelling.recipe import Recipe, recipe_and_pool
from surrogate.labelling.settings import LabelSettings
from surrogate.labelling.state import LabelState
from surrogate.storage.documents import read_document, write_document
from surrogate.storage.versions import software_versions

__all__ = ["new_run", "open_run"]


def open_run(path: str | os.PathLike[str], *, writing: bool = True, wait: float = 0.0) -> LabellingRun:
    """The labelling run in a folder.

    Args:
        path: The folder.
        writing: Whether events will be recorded: locks the folder and checks that the table has not changed.
        wait: Seconds to wait for another process that uses the folder.

    Raises:
        ValueError: If the folder holds no run, a file is damaged, or the table has changed.
        RuntimeError: If another process uses the folder.
    """
    folder = LabelFolder.at(path)
    if not folder.holds_run:
        msg = f"{path} holds no labelling run; 'surrogate label init' starts one"
        raise ValueError(msg)
    if writing:
        _lock(folder, wait)
    try:
        return _open(folder, check=writing)
    except BaseException:
        folder.run.close()
        raise


def _lock(folder: LabelFolder, wait: float) -> None:
    end = time.monotonic() + wait
    while True:
        try:
            folder.run.create()
        except RuntimeError:
            if time.monotonic() >= end:
                raise
            time.sleep(0.2)
        else:
            return


def _open(folder: LabelFolder, *, check: bool) -> LabellingRun:
    recipe = Recipe.of_document(read_document(folder.config_path))
    if check:
        recipe.check_source()
    pool = folder.load_pool(recipe)
    start = LabelState.initial(pool.y, random=recipe.settings.table_is_random)
    return LabellingRun((recipe, pool), replay(start, folder.journal.read()), folder)


def new_run(
    pool: Any,
    target: str,
    columns: Mapping[str, Any] | None,
    settings: LabelSettings,
    *,
    output: str | os.PathLike[str] | None = None,
) -> LabellingRun:
    """A new run, or the existing run in the output folder if it has the same table and settings."""
    if output is None:
        made = recipe_and_pool(pool, target, columns, settings)
        _warn(made[1])
        return LabellingRun(made)
    folder = LabelFolder.at(output)
    folder.run.create()
    try:
        recipe, rows = recipe_and_pool(pool, target, columns, settings)
        if folder.holds_run:
            run = _open(folder, check=True)
            _check_same(run.recipe, recipe, folder.path)
            return _with_limits(run, settings)
        _warn(rows)
        folder.save_pool(rows)
        write_document({**recipe.to_document(), "versions": software_versions()}, folder.config_path)
        return LabellingRun((recipe, rows), None, folder)
    except BaseException:
        folder.run.close()
        raise


def _warn(pool: Pool) -> None:
    for sentence in pool.far_cells():
        warnings.warn(sentence, UserWarning, stacklevel=4)


def _check_same(before: Recipe, now: Recipe, path: Path) -> None:
    """Raises ValueError if the table or a setting differs from that of the run; only limits may change."""
    if before.digest != now.digest:
        msg = f"{path} holds a run on another table: choose another folder, or pass the table of that run"
        raise ValueError(msg)
    differing = {name for name in ("target", "columns") if getattr(before.schema, name) != getattr(now.schema, name)}
    differing |= {
        f.name for f in fields(LabelSettings) if getattr(before.settings, f.name) != getattr(now.settings, f.name)
    }
    if fixed := sorted(differing - _LIMITS):
        msg = f"{path} holds a run with another {', '.join(fixed)}: choose another folder, or the same settings"
        raise ValueError(msg)


_LIMITS = {"budget", "target_error", "flat", "device"}  # may differ when a run is continued


def _with_limits(run: LabellingRun, settings: LabelSettings) -> LabellingRun:
    """The run with the limits that were given explicitly; the other settings are those of the run."""
    given = {name: getattr(settings, name) for name in _LIMITS if getattr(settings, name) is not None}
    recipe = replace(run.recipe, settings=replace(run.settings, **given))
    if run.folder is not None and recipe.settings != run.settings:
        write_document({**recipe.to_document(), "versions": software_versions()}, run.folder.config_path)
    return LabellingRun((recipe, run.pool), run.state, run.folder)
