"""The posterior for GetDist, in memory and as files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from surrogate.samplers.samples import Samples
from surrogate.storage.files import replacing

if TYPE_CHECKING:
    from getdist import MCSamples

__all__ = ["reference_samples", "save_chain", "to_mcsamples"]


def to_mcsamples(samples: Samples) -> MCSamples:
    """The draws as GetDist's ``MCSamples``, with labels, hard prior ranges, and derived values marked as derived.

    Derived values that are constant or not finite for some draws are left out, because GetDist cannot handle them; the
    summary of the run lists them. Categories and integers are columns of codes. The draws are thinned and in random
    order, so the sampler is set to "uncorrelated": GetDist then neither removes a burn-in nor estimates an
    autocorrelation.
    """
    from getdist import MCSamples, chains

    samples = samples.with_derived(samples.varying)
    loud, chains.print_load_details = chains.print_load_details, False  # "Removed no burn in", on standard output
    try:
        out = _mcsamples(MCSamples, samples)
    finally:
        chains.print_load_details = loud
    for name in _derived_names(samples):
        out.paramNames.parWithName(name).isDerived = True
    return out


def _mcsamples(kind: type[MCSamples], samples: Samples) -> MCSamples:
    return kind(
        samples=np.column_stack([samples.x, samples.derived]),
        weights=samples.weights / samples.weights.max(),
        loglikes=-samples.log_posterior,
        names=[*samples.names, *_derived_names(samples)],
        labels=[*_labels(samples), *map(_label, samples.derived_names)],
        ranges=dict(zip(samples.names, _ranges(samples), strict=True)),
        sampler="uncorrelated",
        ignore_rows=0,
        settings={"ignore_rows": 0},
    )


def reference_samples(spec: Any, samples: Samples) -> Samples | None:
    """A reference posterior of the same parameters as ``MCSamples``, for plots; None if ``spec`` is None.

    Args:
        spec: Draws with shape (n, d), a pair of draws and weights, or the root of a chain in GetDist's layout.
        samples: The draws of the run, whose names, labels and bounds are kept.

    Raises:
        ValueError: If the parameters differ, or values are not finite.
        OSError: If a file cannot be read.
    """
    if spec is None:
        return None
    if isinstance(spec, (str, os.PathLike)):
        x, weights = _read_chain(spec, samples.names)
    else:
        x, weights = spec if isinstance(spec, tuple) and len(spec) == 2 else (spec, None)
    x = np.asarray(x, dtype=np.float64)
    weights = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    d = len(samples.names)
    if x.ndim != 2 or x.shape[1] != d or weights.shape != (len(x),) or len(x) < 2:
        msg = f"reference must be draws with shape (n, {d}), a pair of draws and weights, or a root of GetDist's files"
        raise ValueError(msg)
    if not (np.isfinite(x).all() and np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        msg = "reference must hold finite draws and weights of at least 0"
        raise ValueError(msg)
    return Samples(
        names=samples.names,
        labels=samples.labels,
        bounds=samples.bounds,
        x=x,
        weights=weights / weights.sum(),
        log_posterior=np.zeros(len(x)),
        log_prior=np.zeros(len(x)),
        derived=np.empty((len(x), 0)),
        derived_names=(),
        derived_error=np.empty(0),
        periodic=samples.periodic,
    )


def _read_chain(root: str | os.PathLike[str], names: tuple[str, ...]) -> tuple[Any, Any]:
    """Draws and weights of a chain on disk, columns in the order of the names."""
    from getdist import chains, loadMCSamples

    loud, chains.print_load_details = chains.print_load_details, False
    try:
        chain = loadMCSamples(os.fspath(root), settings={"ignore_rows": 0})
    finally:
        chains.print_load_details = loud
    known = chain.getParamNames().list()
    if missing := [name for name in names if name not in known]:
        msg = f"the reference chain {root} has no {', '.join(missing)}; it has {', '.join(known)}"
        raise ValueError(msg)
    return chain.samples[:, [known.index(name) for name in names]], chain.weights


_PROPERTIES = "sampler = uncorrelated\nburn_removed = True\nignore_rows = 0\n"


def save_chain(samples: Samples, root: str | os.PathLike[str], *, converged: bool | None = None) -> None:
    """Writes the chain in GetDist's layout, each file atomically.

    ``root.txt`` has the columns weight, minus log-posterior, parameters, derived values; of these only those that are
    finite for all draws, because GetDist cannot load others.

    Args:
        samples: Samples to write.
        root: Path without an extension; its folder is created if needed.
        converged: Whether the run has converged, written to ``root.properties.ini``; None to omit it.

    Raises:
        OSError: If a file cannot be written.
    """
    samples = samples.with_derived(np.asarray(np.isfinite(samples.derived).all(axis=0)))
    base = Path(root)
    base.parent.mkdir(parents=True, exist_ok=True)
    columns = [samples.weights / samples.weights.max(), -samples.log_posterior, samples.x, samples.derived]
    with replacing(_with_ending(base, ".txt")) as file:
        np.savetxt(file, np.column_stack(columns), fmt="%.15g")
    for ending, text in (
        (".paramnames", _param_names(samples)),
        (".ranges", _range_lines(samples)),
        (".properties.ini", _PROPERTIES + ("" if converged is None else f"converged = {converged}\n")),
    ):
        with replacing(_with_ending(base, ending)) as file:
            file.write(text.encode())


def _with_ending(base: Path, ending: str) -> Path:
    return base.with_name(base.name + ending)  # with_suffix would remove part of "run.v2"


def _param_names(samples: Samples) -> str:
    lines = [f"{name}\t{label}" for name, label in zip(samples.names, map(_one_line, _labels(samples)), strict=True)]
    lines += [
        f"{name}*\t{_label(raw)}" for name, raw in zip(_derived_names(samples), samples.derived_names, strict=True)
    ]
    return "\n".join(lines) + "\n"


def _range_lines(samples: Samples) -> str:
    lines = []
    for name, (low, high, periodic) in zip(samples.names, _ranges(samples), strict=True):
        ends = " ".join("N" if end is None else repr(end) for end in (low, high))
        lines.append(f"{name} {ends}{' periodic' if periodic else ''}")
    return "\n".join(lines) + "\n"


def _ranges(samples: Samples) -> list[tuple[float | None, float | None, bool]]:
    periodic = samples.periodic or (False,) * len(samples.names)
    return [
        (float(low) if np.isfinite(low) else None, float(high) if np.isfinite(high) else None, bool(turns))
        for (low, high), turns in zip(samples.bounds, periodic, strict=True)
    ]


def _derived_names(samples: Samples) -> list[str]:
    """Unique names of the derived values, without characters that are special in GetDist."""
    taken, names = set(samples.names), []
    for raw in samples.derived_names:
        name = re.sub(r"[^\w.\-+]+", "_", raw) or "_"
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def _labels(samples: Samples) -> list[str]:
    """Labels of the parameters; those of categories say what their codes mean."""
    out = list(samples.labels)
    if samples.levels is not None:
        for j, parameter in zip(samples.levels.columns, samples.levels.parameters, strict=True):
            if not parameter.is_ordered:
                words = ", ".join(f"{code:.0f}: {parameter.value(code)}" for code in parameter.codes)
                out[j] += r"\;(\mathrm{" + words.replace("_", r"\_").replace(" ", r"\ ") + "})"
    return out


def _label(name: str) -> str:
    return r"\mathrm{" + _one_line(name).replace("_", r"\_").replace(" ", r"\ ") + "}"


def _one_line(label: str) -> str:
    """The label without characters special to .paramnames files: line ends, # for comments, ! for backslashes."""
    return " ".join(re.sub(r"\\?[!#]", "", label).split())
