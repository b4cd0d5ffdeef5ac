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

_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class WriteError(UserError, OSError):
    """A file could not be written; what stood there before is unharmed."""


class UnreadableError(UserError, OSError):
    """A file cannot be read, or not as what it should be; the message names it."""


class OutputExistsError(UserError, FileExistsError):
    """A file that was to be written exists, and nobody asked to replace it."""


@contextlib.contextmanager
def whole_file(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO]:
    """A file that takes its place only when it is complete and on the disk; text is UTF-8.

    Raises:
        WriteError: naming the reason, of a full disk its free space; no part of the new file is
            left.
        KeyboardInterrupt: stopped; no part of the new file is left either.
    """
    path = os.fspath(path)
    partial = path + ".partial"
    before = sys.exc_info()[1]
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with signals_wait():
            os.replace(partial, path)
    except BaseException as error:
        with signals_wait():
            if os.path.isfile(partial):
                os.remove(partial)
        causes = [*_causes(error, before)]
        if stopped := next((c for c in causes if isinstance(c, KeyboardInterrupt)), None):
            raise stopped from None  # what torch.save made of it says nothing
        reason = _failed_write(causes)
        if reason is None:
            raise
        raise WriteError(f"{path} cannot be written ({reason}){_advice(path, reason)}") from error


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
            file.flush()
            os.fsync(file.fileno())


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


def require_new(paths: Iterable[str | os.PathLike], *, overwrite: bool) -> None:
    """Refuses to write over files that exist.

    Raises:
        OutputExistsError: one exists and ``overwrite`` is not set.
    """
    for path in paths:
        if os.path.exists(path) and not overwrite:
            raise OutputExistsError(f"{path} exists; give another output or ask to overwrite it.")


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


def _failed_write(causes: Iterable[BaseException]) -> OSError | None:
    """The system's error: torch.save makes a RuntimeError out of a failing write."""
    for cause in causes:
        if isinstance(cause, OSError) and not isinstance(cause, UserError):
            return cause
        if not isinstance(cause, RuntimeError):
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
    text = read_text(path)
    try:
        return json.loads(text, object_hook=object_hook)
    except (ValueError, RecursionError) as error:  # ValueError: also of a number of 5,000 digits
        raise UserError(f"{path} is not JSON: {error}.") from error


def read_yaml(path: str | os.PathLike) -> Any:
    """What a YAML file holds; nothing in it is run.

    Raises:
        UserError: not YAML; else as :func:`read_text`.
    """
    import yaml

    try:
        return yaml.safe_load(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not YAML: {reason}.") from error


@contextlib.contextmanager
def reading_image(path: str | os.PathLike) -> Iterator[None]:
    """Around the decoding of one image, nothing else.

    Raises:
        UnreadableError: naming the image, for any error of the decoder: Pillow's raise nearly every
            kind of error on damaged files.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UnreadableError(f"{path} cannot be read: {reason}") from error
