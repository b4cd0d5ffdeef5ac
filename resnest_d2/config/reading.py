"""Config files: YAML with the bases that it names."""

import os
from collections.abc import Iterator
from typing import Any

from resnest_d2.errors import MissingFileError, UserError, printable
from resnest_d2.files import read_yaml

_MAX_FILES = 100  # that one config is based on


def read_files(path: str, below: tuple[str, ...] = ()) -> list[tuple[str, dict]]:
    """Reads a config file and its bases.

    Args:
        path: path of the file.
        below: files that have it for a base, for errors.

    Returns:
        Paths and contents in the order in which they are merged, the file itself last.

    Raises:
        MissingFileError: a base that does not exist.
        UserError: not YAML, not a mapping, or a file that is a base of itself.
    """
    if path in below:
        raise UserError(f"{path} is its own _BASE_: {' -> '.join((*below, path))}.")
    tree = _read(path, below)
    bases = tree.pop("_BASE_", [])
    found = []
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise UserError(f"{path}: _BASE_ is {base!r}; give the path of a config.")
        if "://" in base:
            raise UserError(
                f"{path}: _BASE_ is the address {base!r}; download the file, and give its path."
            )
        base = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        found += read_files(base, (*below, path))
        if len(found) > _MAX_FILES or len(below) > _MAX_FILES:  # bases that double at each level
            raise UserError(f"{path} has more than {_MAX_FILES} files below it, by _BASE_.")
    return [*found, (path, tree)]


def _read(path: str, below: tuple[str, ...]) -> dict:
    """Mapping in a YAML file."""
    if path.endswith(".py"):
        raise UserError(
            f"{path} is a Python config, as mmdetection uses; this package reads YAML. "
            "`resnest-d2 list configs` lists its configs of mmdetection's ResNeSt detectors, which "
            "load mmdetection's checkpoints unchanged (MODEL.WEIGHTS)."
        )
    try:
        tree = read_yaml(path)
    except MissingFileError as error:
        if not below:
            raise
        raise MissingFileError(f"{below[-1]}: its _BASE_ {path} does not exist.") from error
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else f"contains a {type(tree).__name__}"
        raise UserError(f"{path} {what}; a config is a mapping of keys, like MODEL: {{DEPTH: 50}}.")
    for text in _texts(tree):
        if printable(text) != text:
            raise UserError(f"{path} has control characters in {text!r}; leave them out.")
    return tree


def _texts(value: Any) -> Iterator[str]:
    """All keys and values that are texts."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from _texts(part)
