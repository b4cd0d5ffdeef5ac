"""Files of the user: read with errors that name them, written atomically."""

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any

from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.signals import signals_wait

from .parsing import parse_json, parse_yaml
from .partial import open_partial, partial_name, remove_partials, sync

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class WriteError(UserError, OSError):
    """A file could not be written; what stood there before is unharmed."""


class UnreadableError(UserError, OSError):
    """A file cannot be read, or not as what it should be; the message names it."""


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """A file that takes its place only when it is complete and on the disk; text is UTF-8.

    Raises:
        WriteError: naming the reason, of a full disk its free space; no part of the new file is
            left.
        KeyboardInterrupt: stopped; no part of the new file is left either.
    """
    path = os.fspath(path)
    partial = partial_name(path)
    with writing(path, wrapped=True):
        if os.path.exists(path) and not os.path.isfile(path):
            raise OSError(errno.EEXIST, "it exists, and is no regular file")
        remove_partials(os.path.dirname(path) or ".")
        try:
            with open_partial(partial, mode) as file:
                yield file
                sync(file)
            with signals_wait():
                os.replace(partial, path)
        except BaseException:
            with signals_wait(), contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.remove(partial)
            raise


@contextlib.contextmanager
def writing(path: str | os.PathLike, *, wrapped: bool = False) -> Iterator[None]:
    """Around what writes a file or folder, nothing else.

    Args:
        path: of the file or folder.
        wrapped: whether the system's error can be behind a RuntimeError, as of torch.save.

    Raises:
        WriteError: naming the reason, of a full disk its free space, for any error of the system.
    """
    path, before = os.fspath(path), sys.exc_info()[1]
    try:
        yield
    except BaseException as error:
        causes = [*_causes(error, before)]
        if stopped := next((c for c in causes if isinstance(c, KeyboardInterrupt)), None):
            raise stopped from None  # what torch.save made of it says nothing
        reason = _failed_write(causes, wrapped=wrapped)
        if reason is None:
            raise
        raise WriteError(
            f"{path} cannot be written ({reason.strerror or reason}){_advice(path, reason)}"
        ) from error


@contextlib.contextmanager
def whole_files(paths: Iterable[str | os.PathLike], mode: str = "wb") -> Iterator[list[IO]]:
    """Files as of :func:`whole_file` that take their places together, when all are on the disk.

    Raises:
        WriteError: no part of the new files is left.
    """
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(whole_file(path, mode)) for path in paths]
        yield files
        for file in files:  # a full disk shows itself before the first takes its place
            sync(file)


def write_json_files(contents: Mapping[str, Any]) -> None:
    """Writes JSON files and their folders, all of the files or none.

    Args:
        contents: path -> what the file holds.

    Raises:
        WriteError: a file cannot be written.
    """
    for path in contents:
        make_folder(os.path.dirname(path))
    with whole_files(contents, "w") as files:
        for file, content in zip(files, contents.values(), strict=True):
            json.dump(content, file)


def _causes(error: BaseException, before: BaseException | None) -> Iterator[BaseException]:
    """An error that was raised while writing, and those behind it.

    Args:
        error: the error.
        before: what was handled when the writing began, and has nothing to do with it.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause is not before and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__


def _failed_write(causes: Iterable[BaseException], *, wrapped: bool) -> OSError | None:
    """The system's error, or the one behind a RuntimeError, see :func:`writing`."""
    for cause in causes:
        if isinstance(cause, OSError) and not isinstance(cause, UserError):
            return cause
        if not (wrapped and isinstance(cause, RuntimeError)):
            return None
    return None


def _advice(path: str, reason: OSError) -> str:
    folder = os.path.dirname(path) or "."
    if reason.errno not in _FULL or not os.path.isdir(folder):
        return "; give another place."
    free = shutil.disk_usage(folder).free / 2**20
    return (
        f"; its disk has {free:.1f} MB free. Free some, or write to another disk (OUTPUT_DIR, "
        "--output). Earlier checkpoints are unharmed; --resume continues from the last one."
    )


def make_folder(path: str | os.PathLike) -> None:
    """Make a folder to write to, with those above it; it may be there.

    Raises:
        WriteError: it cannot be made, or not be written to.
    """
    path = os.fspath(path) or "."
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"The folder {path} cannot be made ({error.strerror}); give another place."
        ) from error
    if not os.access(path, os.W_OK):
        raise WriteError(f"The folder {path} cannot be written to; give another place.")


def read_text(path: str | os.PathLike) -> str:
    """A file of text in UTF-8.

    Raises:
        MissingFileError: no such file.
        UnreadableError: a folder, or a file without permission.
        UserError: no text.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:  # also without a byte order mark
            return file.read()
    except FileNotFoundError as error:
        raise MissingFileError(f"There is no file {path}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text in UTF-8: {error}.") from error
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror}.") from error


def read_json(path: str | os.PathLike, *, object_hook: Callable[[dict], Any] | None = None) -> Any:
    """What a JSON file holds.

    Args:
        path: path of the file.
        object_hook: as of :func:`json.loads`.

    Raises:
        UserError: not JSON; else as :func:`read_text`.
    """
    return parse_json(read_text(path), path, object_hook=object_hook)


def read_yaml(path: str | os.PathLike) -> Any:
    """What a YAML file holds; nothing in it is run.

    Raises:
        UserError: not YAML; else as :func:`read_text`.
    """
    return parse_yaml(read_text(path), path)
