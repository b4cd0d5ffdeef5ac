"""Annotation files, parsed once a process and shared by all that need them.

Polygons are nearly all of a large file. As packed doubles they take a third of the memory that
lists of numbers take, and they are packed while the file is parsed, so that those lists never exist
all at once.
"""

import gc
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from resnest_d2.files import read_json

_kept: dict[str, tuple[tuple[int, int], Any]] = {}


def load_annotations(json_file: str) -> Any:
    """Content of an annotation file, its polygons as arrays of doubles.

    Args:
        json_file: path of the file; parsed again only when it has changed.

    Returns:
        What all others get too: it must not be changed.

    Raises:
        MissingFileError, UserError: as :func:`resnest_d2.files.read_json`.
    """
    path, state = os.path.abspath(json_file), os.stat(json_file)
    version = (state.st_mtime_ns, state.st_size)
    if path not in _kept or _kept[path][0] != version:
        _kept.pop(path, None)  # before the new one takes as much
        with _no_collection():
            _kept[path] = (version, read_json(path, object_hook=_packed))
    return _kept[path][1]


def release_annotations(json_files: Iterable[str]) -> None:
    """Forget files that nobody will ask for soon; they are parsed again if somebody does."""
    for json_file in json_files:
        _kept.pop(os.path.abspath(json_file), None)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Without garbage collection, which would look through millions of new objects in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _packed(entry: dict) -> dict:
    mask = entry.get("segmentation")
    if isinstance(mask, list):
        entry["segmentation"] = [_doubles(part) for part in mask]
    return entry


def _doubles(part: Any) -> Any:
    """A polygon packed; as it is where it is none, which the checks will find."""
    if not isinstance(part, list):
        return part
    try:
        return array("d", part)
    except (TypeError, OverflowError):
        return part
