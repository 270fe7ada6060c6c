"""YAML documents that hold only plain values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from surrogate.storage.files import replacing

__all__ = ["parse_document", "read_document", "write_document"]


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The content of a YAML file as a mapping, without interpreting it.

    Raises:
        ValueError: If the file cannot be read, or is not a mapping.
    """
    try:
        content = parse_document(Path(path))
        if not isinstance(content, dict):
            msg = f"the file must be a mapping of keys to values, got {content!r}"
            raise ValueError(msg)
        return content
    except ValueError as error:
        msg = f"{path}: {error}"
        raise ValueError(msg) from error


def write_document(document: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes plain values as YAML, atomically; `read_document` reads them."""
    with replacing(Path(path)) as file:
        file.write(
            yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, default_flow_style=None).encode()
        )


_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """A YAML loader for plain values only; a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        words = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
        if repeated := [word for i, word in enumerate(words) if word in words[:i]]:
            msg = f"line {node.start_mark.line + 1}: {repeated[0]!r} appears twice"
            raise ValueError(msg)
        return super().construct_mapping(node, deep=deep)


def parse_document(file: Path) -> Any:
    """The content of a YAML file of plain values.

    Raises:
        ValueError: If the file cannot be read; the message gives the line.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        msg = f"cannot be read: {error.strerror}"
        raise ValueError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"is not UTF-8 text: {error.reason} at byte {error.start}"
        raise ValueError(msg) from error
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:  # also raised for characters that YAML does not allow
        raise ValueError(" ".join(str(error).split())) from error
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _expanded_size(node, {})
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        place = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        msg = f"{place}{error.problem or error}"
        raise ValueError(msg) from error
    except (yaml.YAMLError, ArithmeticError, AttributeError, KeyError, TypeError) as error:
        msg = f"a value cannot be read ({type(error).__name__}: {error})"
        raise ValueError(msg) from error
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise ValueError(msg) from error
    finally:
        loader.dispose()


_LARGEST = 1_000_000  # values; nested aliases can expand exponentially, and no real file has this many


def _expanded_size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Number of values under a node once its aliases are written out.

    Raises:
        ValueError: If there are too many values, or an alias refers to a node that contains it.
    """
    if id(node) in sizes:
        size = sizes[id(node)]
    else:
        sizes[id(node)] = 0  # marks a node in progress; meeting it again means that it contains itself
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        children = [part for pair in pairs for part in pair] if pairs else []
        children = list(node.value) if isinstance(node, yaml.SequenceNode) else children
        size = sizes[id(node)] = 1 + sum(_expanded_size(child, sizes) for child in children)
    if not 0 < size <= _LARGEST:
        words = (
            "an alias refers to something that contains it" if size == 0 else "its aliases expand to too many values"
        )
        msg = f"line {node.start_mark.line + 1}: {words}"
        raise ValueError(msg)
    return size
