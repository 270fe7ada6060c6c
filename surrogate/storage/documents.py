"""YAML documents: plain values only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from surrogate.storage.files import replacing

__all__ = ["parse_document", "read_document", "write_document"]


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The words and values of a YAML file, whatever they mean.

    Raises:
        ValueError: If it cannot be read, or is no mapping.
    """
    try:
        content = parse_document(Path(path))
        if not isinstance(content, dict):
            msg = f"the file must be a mapping of words to values, got {content!r}"
            raise ValueError(msg)
        return content
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error


def write_document(document: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes plain values as YAML, all of them or nothing; `read_document` reads them back."""
    with replacing(Path(path)) as file:
        file.write(
            yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, default_flow_style=None).encode()
        )


class _Loader(yaml.SafeLoader):
    """Plain values only; a word that stands twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        words = [self.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [word for i, word in enumerate(words) if word in words[:i]]:
            msg = f"line {node.start_mark.line + 1}: {repeated[0]!r} stands there twice"
            raise ValueError(msg)
        return super().construct_mapping(node, deep=deep)


def parse_document(file: Path) -> Any:
    """The content of a YAML file, plain values only.

    Raises:
        ValueError: If it cannot be read; the message names the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"cannot be read: {error.strerror}"
        raise ValueError(msg) from error
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        msg = f"{place}{error.problem or error}"
        raise ValueError(msg) from error
    finally:
        loader.dispose()
