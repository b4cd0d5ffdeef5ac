"""Images by their paths: files, folders with all below them, and patterns."""

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from resnest_d2.data.image_files import read_pixels
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import UnreadableError, read_text

from .images import Asked, InputImage, Source
from .videos import VIDEOS, open_video

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


def open_path(path: str, asked: Asked) -> Source:
    """An image file of any name, a video, or the images in a folder and in those below it.

    Raises:
        MissingFileError: there is no such file or folder.
        UserError: a folder without images, or a video that cannot be read.
    """
    if os.path.isdir(path):
        return _open_folder(path)
    if not os.path.isfile(path):
        raise MissingFileError(f"There is no image, video or folder {path}.")
    if _suffix(path) in VIDEOS:
        return open_video(path, asked)
    return Source(iter([_from_path(path)]), 1, single=True)


def image_files(paths: Sequence[str]) -> Source:
    """Images by their paths, of which any may be missing until it is read."""
    return Source(map(_from_path, paths), len(paths), single=False)


def image_paths(sources: Iterable[str]) -> Iterator[str]:
    """Paths of images, of the images in folders, and of those listed in text files.

    Args:
        sources: images, folders, and text files (.txt) with one path per line.

    Raises:
        MissingFileError: a source does not exist.
        UserError: a folder or a list without images, or a video.
    """
    for source in sources:
        if os.path.isfile(source) and _suffix(source) in VIDEOS:
            raise UserError(f"{source} is a video; give images.")
        if os.path.isfile(source) and source.endswith(".txt"):
            listed = [line for line in read_text(source).splitlines() if line.strip()]
            if not listed:
                raise UserError(f"{source} lists no images.")
            yield from listed
        else:
            yield from (image.path for image in open_path(source, Asked()).images if image.path)


def open_pattern(pattern: str, asked: Asked) -> Source:
    """The images and videos whose paths match a pattern with ``*``, ``?``, ``[]`` or ``**``.

    Raises:
        MissingFileError: no path matches.
        UserError: none of an image or a video does.
    """
    matching = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
    if not matching:
        raise MissingFileError(f"No file matches {pattern}.")
    kinds = Counter(_kind(path) for path in matching)
    if set(kinds) == {"other"}:
        raise UserError(
            f"None of the {len(matching)} files that match {pattern} is an image "
            f"({', '.join(IMAGES)}) or a video."
        )
    parts = [open_path(path, asked) for path in matching if _kind(path) != "other"]
    numbers = [part.number for part in parts]
    note = f"{pattern}: {_numbers(kinds, ('image', 'video'))}{_left_out(kinds, ('other',))}"
    return Source(
        (image for part in parts for image in part.images),
        None if None in numbers else sum(filter(None, numbers)),
        single=False,
        notes=(f"{note}.",),
    )


def _open_folder(folder: str) -> Source:
    """The images in a folder and below it; hidden ones, and links to folders, are left out."""
    paths: list[str] = []
    kinds: Counter[str] = Counter()
    denied: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=denied.append):
        kinds["hidden"] += sum(name.startswith(".") for name in (*folders, *names))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            kinds[kind := _kind(name)] += 1
            if kind == "image":
                paths.append(os.path.join(parent, name))
    kinds["denied"] = len(denied)
    if denied and not paths:
        raise UnreadableError(f"{denied[0].filename} cannot be read: {denied[0].strerror}.")
    if not paths:
        videos = (
            ""
            if not kinds["video"]
            else (
                f", but {_numbers(kinds, ('video',))}; give videos by name, or as "
                f"{os.path.join(folder, '*')}"
            )
        )
        raise UserError(f"The folder {folder} has no image ({', '.join(IMAGES)}) in it{videos}.")
    within = len({os.path.dirname(path) for path in paths})
    where = f" in {within} folders" if within > 1 else ""
    note = f"{folder}: {_numbers(kinds, ('image',))}{where}"
    note += _left_out(kinds, ("video", "other", "hidden", "denied"))
    return Source(map(_from_path, paths), len(paths), single=False, notes=(f"{note}.",))


_WORDS = {
    "image": ("image", "images"),
    "video": ("video", "videos"),
    "other": ("other file", "other files"),
    "hidden": ("hidden file or folder", "hidden files and folders"),
    "denied": ("folder that cannot be read", "folders that cannot be read"),
}


def _numbers(kinds: Counter[str], wanted: Sequence[str]) -> str:
    found = [(kinds[kind], _WORDS[kind]) for kind in wanted if kinds[kind]]
    return ", ".join(f"{number} {words[number != 1]}" for number, words in found)


def _left_out(kinds: Counter[str], wanted: Sequence[str]) -> str:
    numbers = _numbers(kinds, wanted)
    return f"; left out: {numbers}" if numbers else ""


def _kind(path: str) -> str:
    suffix = _suffix(path)
    return "image" if suffix in IMAGES else "video" if suffix in VIDEOS else "other"


def _suffix(path: str) -> str:
    return Path(path).suffix.lower()


def _from_path(path: str) -> InputImage:
    read = partial(read_pixels, path)
    return InputImage(os.path.basename(path), path, None, read, read)
