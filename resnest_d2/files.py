"""Atomic writing of files, so a full disk keeps the previous version."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import IO


class WriteError(OSError):
    """A file could not be written; what stood there before is unharmed."""


@contextlib.contextmanager
def whole_file(path: str, mode: str = "wb") -> Iterator[IO]:
    """A file that takes its place only when it is complete and on the disk.

    Raises:
        WriteError: naming the disk's free space; no part of the new file is left.
    """
    partial = path + ".partial"
    try:
        with open(partial, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(partial)
        # torch.save makes a RuntimeError of its own out of a failing write.
        if not isinstance(error, OSError | RuntimeError):
            raise
        folder = os.path.dirname(path) or "."
        free = shutil.disk_usage(folder).free / 2**20 if os.path.isdir(folder) else 0
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise WriteError(
            f"{path} cannot be written ({reason}); its disk has {free:.1f} MB free. Free some, or "
            "write to another disk (OUTPUT_DIR, --output). Earlier checkpoints are unharmed; "
            "--resume continues from the last one."
        ) from error
