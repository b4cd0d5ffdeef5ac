"""Annotation files, parsed once per process and shared.

Polygons are nearly all of a large file. As packed doubles they take a third of the memory of lists,
and they are packed during parsing, so that the lists never exist all at once.
"""

import gc
import logging
import os
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from resnest_d2.files import read_json

from .normalise import Reading, normalise

_kept: dict[str, tuple[tuple[int, int], Any]] = {}
_logged: dict[str, tuple[int, int]] = {}  # version of a file whose readings were logged


def load_annotations(json_file: str) -> Any:
    """Loads an annotation file, normalised, with polygons as arrays of doubles.

    Args:
        json_file: path of the file; parsed again only if it has changed.

    Returns:
        Contents of the file, shared with other callers; do not change them.

    Raises:
        MissingFileError, UserError: see :func:`resnest_d2.files.read_json`.
    """
    path, state = os.path.abspath(json_file), os.stat(json_file)
    version = (state.st_mtime_ns, state.st_size)
    if path not in _kept or _kept[path][0] != version:
        _kept.pop(path, None)  # before the new contents use as much memory
        with no_collection():
            content = read_json(path, object_hook=_packed)
        _log(path, version, normalise(content))
        _kept[path] = (version, content)
    return _kept[path][1]


def release_annotations(json_files: Iterable[str]) -> None:
    """Frees files that are not needed soon; they are parsed again if needed."""
    for json_file in json_files:
        _kept.pop(os.path.abspath(json_file), None)


def _log(path: str, version: tuple[int, int], readings: list[Reading]) -> None:
    """Logs what was read in another form, once for each version of a file."""
    if _logged.get(path) != version:
        _logged[path] = version
        for r in readings:
            logging.getLogger(__name__).info(
                f"{r.number} {r.section} of {os.path.basename(path)}: {r}."
            )


@contextmanager
def no_collection() -> Iterator[None]:
    """Disables garbage collection, which would scan millions of new objects in vain."""
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
    """Packs a polygon; returns anything else unchanged, for the checks to report."""
    if not isinstance(part, list):
        return part
    try:
        return array("d", part)
    except (TypeError, OverflowError):
        return part
