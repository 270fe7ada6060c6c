"""Settings of a labelling run: how it chooses rows, and when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from surrogate.labelling.models import model_name
from surrogate.problem.words import did_you_mean

__all__ = ["LabelSettings", "settings_of"]


_POSTERIORS = ("last-layer", "kfac", "swag")  # those possible with one network per fold


@dataclass(frozen=True)
class LabelSettings:
    """How a run chooses rows, and when it ends.

    Attributes:
        seed: The same table, labels and seed give the same batches.
        model: "gp", "network", "ridge", or "auto": a Gaussian process up to 500 labels, networks beyond, and a ridge
            regression where its errors are clearly lower.
        method: Selection method, named as in `surrogate.selection.batch.select_batch`; "random" for comparison. Rules
            in mode P, which otherwise ignore the labelled rows, use the posterior kernel given the labels.
        audit: Share of random rows in each batch; only their errors represent the rest of the table.
        budget: Largest number of rows to request, not counting labels in the table; None for no limit.
        target_error: The run ends when the held-out RMSE plus one standard error is below this; None for no target.
        flat: The run ends when doubling the labels would lower the error by less than this share, including one
            standard error; None to disable. Each model is then compared with one fitted to the first half of its
            labels.
        level: Probability of the intervals.
        table_is_random: Whether the labelled rows of the table are a random sample.
        folds: Number of cross-validation folds.
        device: Device on which models are fitted: "cpu", "cuda", "auto".
        uncertainty: Posterior of the networks, on which their intervals depend: "kfac"; "last-layer", which predicts
            three times faster but shows less well where errors are large; or "swag".

    Raises:
        ValueError: If a setting is out of its range.
    """

    seed: int = 0
    model: str = "auto"
    method: str = "lcmd-tp"
    audit: float = 0.1
    budget: int | None = None
    target_error: float | None = None
    flat: float | None = None
    level: float = 0.9
    table_is_random: bool = True
    folds: int = 5
    device: str | None = None
    uncertainty: str = "kfac"

    def __post_init__(self) -> None:
        model_name(self.model, 0)
        for name, good, words in (
            ("audit", 0.0 <= self.audit <= 1.0, "a share between 0 and 1"),
            ("seed", isinstance(self.seed, int | np.integer), "a whole number"),
            ("budget", self.budget is None or _count(self.budget, 1), "a whole number of at least 1"),
            ("target_error", self.target_error is None or self.target_error > 0.0, "positive"),
            ("flat", self.flat is None or 0.0 < self.flat < 1.0, "a share between 0 and 1"),
            ("level", 0.0 < self.level < 1.0, "a probability between 0 and 1"),
            ("uncertainty", self.uncertainty in _POSTERIORS, f"one of {', '.join(_POSTERIORS)}"),
            ("folds", _count(self.folds, 2), "a whole number of at least 2"),
            ("table_is_random", isinstance(self.table_is_random, bool), "true or false"),
        ):
            if not good:
                msg = f"{name} must be {words}, got {getattr(self, name)!r}"
                raise ValueError(msg)

    def to_document(self) -> dict[str, Any]:
        """The settings as plain values, for `of_document`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> LabelSettings:
        """The inverse of `to_document`.

        Raises:
            ValueError: If a setting is unknown or out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := [name for name in document if name not in known]:
            msg = f"unknown settings {', '.join(map(repr, unknown))}; known: {', '.join(sorted(known))}"
            raise ValueError(msg)
        return cls(**document)


def _count(value: Any, least: int) -> bool:
    return isinstance(value, int | np.integer) and bool(value >= least)


def settings_of(given: Mapping[str, Any]) -> LabelSettings:
    """Settings with these values; the others keep their defaults.

    Raises:
        TypeError: If a setting is unknown; the message gives the most similar name.
        ValueError: If a value is out of its range, or the method does not work with the model.
    """
    known = [field.name for field in fields(LabelSettings)]
    for name in given:
        if name not in known:
            hint = did_you_mean(name, known, otherwise=f"; known: {', '.join(known)}")
            msg = f"unknown setting {name!r}{hint}"
            raise TypeError(msg)
    settings = LabelSettings(**given)
    if "method" in given:  # otherwise a wrong method would fail only at the first fit, after labels have been paid for
        _check_method(settings)
    return settings


def _check_method(settings: LabelSettings) -> None:
    from surrogate.selection.batch import NEED_FEATURES, method_and_mode

    if method_and_mode(settings.method)[0] in NEED_FEATURES and settings.model in ("auto", "gp"):
        msg = (
            f"method {settings.method!r} needs features, and a Gaussian process, the model of up to 500 labels, has "
            "none: choose model 'network' with it, or a method such as maxdet-p"
        )
        raise ValueError(msg)
