"""Files that are not complete yet, beside the ones whose place they will take."""

import contextlib
import io
import logging
import os
import re
import secrets
from typing import IO, Any

from .outputs import short_name

try:
    import fcntl
except ImportError:  # Windows: partial files of killed processes stay
    fcntl = None  # type: ignore[assignment]

_PARTIAL = re.compile(r".*\.[0-9a-f]{8}\.resnest_d2\.partial")
_cleaned: set[str] = set()  # folders


class _Unnumbered(io.BufferedWriter):
    """A file that hides its number.

    Pillow writes JPEGs to the number, and does not notice that a full disk took only a part.
    """

    def fileno(self) -> int:
        raise io.UnsupportedOperation("the file is written by write() alone")


def partial_name(path: str) -> str:
    """Path for the incomplete form of a file, in its folder; each call gives another."""
    folder, name = os.path.split(path)
    token = f"{secrets.token_hex(4)}.resnest_d2.partial"
    return os.path.join(folder, f"{short_name(name)}.{token}")


def open_partial(partial: str, mode: str) -> IO:
    """A new file that :func:`remove_partials` of no other process removes.

    Args:
        partial: its path.
        mode: "wb", or "w" for text in UTF-8.
    """
    while True:
        raw = open(partial, "xb", buffering=0)
        _lock(raw, wait=True)
        if os.path.exists(partial):
            break
        raw.close()  # it was removed between the two lines above
    file = _Unnumbered(raw)
    return file if "b" in mode else io.TextIOWrapper(file, encoding="utf-8")


def sync(file: IO) -> None:
    """Waits until a file of :func:`open_partial` is on the disk."""
    file.flush()
    buffer: Any = getattr(file, "buffer", file)
    os.fsync(buffer.raw.fileno())


def _lock(file: IO | io.RawIOBase, *, wait: bool = False) -> bool:
    """Locks an open file until it is closed or its process dies; whether no one else has it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # also of a file system without locks
        logging.getLogger(__name__).debug(f"{getattr(file, 'name', '')} cannot be locked: {error}")
        return False
    return True


def remove_partials(folder: str) -> None:
    """Removes what killed processes left in a folder, at the first file that is written to it."""
    folder = os.path.realpath(folder)
    if folder in _cleaned or not os.path.isdir(folder):
        return
    _cleaned.add(folder)
    for name in filter(_PARTIAL.fullmatch, os.listdir(folder)):
        path = os.path.join(folder, name)
        with contextlib.suppress(FileNotFoundError, PermissionError), open(path, "rb+") as file:
            if _lock(file):
                os.remove(path)
