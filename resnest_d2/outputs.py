"""What may be written: outputs that exist or are inputs are refused, names stay in their folder."""

import itertools
import os
import re
from collections.abc import Iterable

from resnest_d2.errors import UserError

LONGEST_NAME = 200  # bytes; file systems take 255, and suffixes follow
_SEPARATORS = re.compile(r"[/\\]")
_FORBIDDEN = re.compile(r"[/\\\x00-\x1f\x7f]")
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # of Windows
_DRIVE = re.compile(r"[A-Za-z]:.*")


class OutputExistsError(UserError, FileExistsError):
    """A file that was to be written exists, and nobody asked to replace it."""


def require_new(
    targets: Iterable[str | os.PathLike],
    *,
    overwrite: bool,
    sources: Iterable[str | os.PathLike] = (),
) -> None:
    """Refuses outputs that exist, and those that are inputs or each other, in any spelling.

    Args:
        targets: files to write.
        overwrite: replace files that exist; inputs are refused all the same.
        sources: files that are read.

    Raises:
        OutputExistsError: one exists and ``overwrite`` is not set.
        UserError: one is an input, also through a link, or two are the same file.
    """
    inputs, seen = list(sources), dict[str, str | os.PathLike]()
    for target in targets:
        for source in inputs:
            if same_file(target, source):
                name = f"{target} is" if str(target) == str(source) else f"{target} is {source},"
                raise UserError(f"{name} an input, which is never changed; give another output.")
        real = os.path.realpath(target)
        if real in seen:
            raise UserError(f"{seen[real]} and {target} are the same output; give two.")
        seen[real] = target
        if os.path.lexists(target) and not overwrite:
            raise OutputExistsError(
                f"{target} exists; give another output or ask to overwrite it (--overwrite)."
            )


def require_empty(folder: str | os.PathLike, *, overwrite: bool) -> None:
    """Refuses to write into a folder that has files.

    Raises:
        OutputExistsError: it has some and ``overwrite`` is not set, or it is a file.
    """
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise OutputExistsError(f"{folder} is a file; give a folder as output.")
    if os.path.isdir(folder) and os.listdir(folder) and not overwrite:
        raise OutputExistsError(
            f"{folder} has files; give another output or ask to overwrite it (--overwrite)."
        )


def free_folder(folder: str) -> str:
    """A folder if it has no files, else the first of folder_2, folder_3 and so on that is new."""
    if not os.path.lexists(folder) or (os.path.isdir(folder) and not os.listdir(folder)):
        return folder
    return next(f for n in itertools.count(2) if not os.path.lexists(f := f"{folder}_{n}"))


def same_file(one: str | os.PathLike, other: str | os.PathLike) -> bool:
    """Whether two paths are of one existing file or folder, through links, in any spelling."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def name_fault(name: str) -> str | None:
    """Says why a text is no name of a single file or folder, on any system."""
    if name in ("", ".", ".."):
        return f"{name!r} is no name of a file"
    if found := _FORBIDDEN.search(name):
        return f"{name!r} contains {found[0]!r}"
    if _DEVICES.fullmatch(name):
        return f"{name!r} is the name of a device"
    if (size := len(_encoded(name))) > LONGEST_NAME:
        return f"{name[:40]!r}... has {size} bytes, more than {LONGEST_NAME}"
    return None


def path_inside(file_name: str) -> list[str]:
    """Parts of a relative path; the file's name alone where the path leads out of its folder.

    Both / and \\ separate parts, as the output may be read on another system.
    """
    parts = _SEPARATORS.split(file_name)
    leads_out = not parts[0] or _DRIVE.fullmatch(parts[0]) and len(parts) > 1 or ".." in parts
    return parts[-1:] if leads_out else [part for part in parts if part not in ("", ".")]


def short_name(name: str, longest: int = LONGEST_NAME) -> str:
    """The beginning of a name, of at most so many bytes."""
    return _encoded(name)[:longest].decode("utf-8", "ignore")


def free_name(stem: str, suffix: str, taken: set[str]) -> str:
    """A name that is not taken, also where case does not count; ``a_2.jpg`` for a second ``a``.

    Args:
        stem: name without suffix; one that is too long is cut.
        suffix: such as ".jpg".
        taken: names that are, in lower case; the new one is added.
    """
    stem, again = short_name(stem), 2
    name = f"{stem}{suffix}"
    while name.lower() in taken:
        name, again = f"{stem}_{again}{suffix}", again + 1
    taken.add(name.lower())
    return name


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "replace")  # a name of the file system can be no Unicode
