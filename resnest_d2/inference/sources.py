"""Sources of images for prediction, each read only when needed.

Files are read as in detectron2's evaluation: by PIL, rotated according to EXIF, grey images
converted to three channels, alpha channels dropped. Shapes: H, W of the image.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from resnest_d2.data.image_files import pixels_of, read_pixels
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import UnreadableError, read_text

IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
VIDEOS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv")
ORDERS = ("RGB", "BGR")
GREY = "L"  # the one form of INPUT.FORMAT with one channel


class InputImage(NamedTuple):
    """One image. ``read`` takes the channel order and returns uint8 (H, W, 3).

    ``path`` is None for images from memory, ``frame`` (from 0) for images that are not from a
    video. ``read_later`` does the same, without keeping pixels of files in memory.
    """

    name: str
    path: str | None
    frame: int | None
    read: Callable[[str], np.ndarray]
    read_later: Callable[[str], np.ndarray]


class Source(NamedTuple):
    """Iterator of images, their number (None if unknown), and whether it is a single image."""

    images: Iterator[InputImage]
    number: int | None
    single: bool


def open_source(source: Any, channels: str | None = None) -> Source:
    """Opens images of any supported form; only the first frame of a video is read yet.

    Args:
        source: path of an image, a video or a folder (its images by name, without sub-folders);
            a PIL image; an array, uint8 (H, W), (H, W, 3) or (H, W, 4); several of these; or a
            Source, which is returned.
        channels: "RGB" or "BGR", the channel order of all arrays; a fourth channel is alpha.

    Raises:
        MissingFileError: a path does not exist.
        TypeError: the source has another type.
        UserError: a folder without images, a video that cannot be read, an array of another dtype
            or shape, or an array without a channel order.
    """
    if isinstance(source, Source):
        return source
    if channels not in (None, *ORDERS):
        raise UserError(f"channels is {channels!r}; choose from {ORDERS}.")
    several = isinstance(source, Iterable) and not isinstance(source, str | Image.Image)
    if several and not isinstance(source, np.ndarray | os.PathLike):
        given = list(source)
        if not given:
            raise UserError("There is nothing to predict on: the list is empty.")
        parts = [_open_one(one, channels, f"image {i}") for i, one in enumerate(given)]
        numbers = [part.number for part in parts if part.number is not None]
        number = sum(numbers) if len(numbers) == len(parts) else None
        return Source((p for part in parts for p in part.images), number, single=False)
    return _open_one(source, channels, "the image")


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
        if os.path.isfile(source) and Path(source).suffix.lower() in VIDEOS:
            raise UserError(f"{source} is a video; give images.")
        if os.path.isfile(source) and source.endswith(".txt"):
            listed = [line for line in read_text(source).splitlines() if line.strip()]
            if not listed:
                raise UserError(f"{source} lists no images.")
            yield from listed
        else:
            yield from (image.path for image in _open_path(source).images if image.path)


def _open_one(source: Any, channels: str | None, name: str) -> Source:
    if isinstance(source, str | os.PathLike):
        return _open_path(os.fspath(source))
    if isinstance(source, Image.Image):
        name = os.path.basename(getattr(source, "filename", "")) or name
        read = partial(pixels_of, source)
    elif isinstance(source, np.ndarray):
        read = partial(_from_array, *_check_array(source, channels))
    else:
        raise TypeError(
            f"{name} is a {type(source).__name__}; give a path, a PIL image, a numpy array "
            "(height, width, channels), or a list of these."
        )
    return Source(iter([InputImage(name, None, None, read, read)]), 1, single=True)


def _open_path(path: str) -> Source:
    if os.path.isdir(path):
        names = sorted(n for n in os.listdir(path) if Path(n).suffix.lower() in IMAGES)
        paths = [os.path.join(path, name) for name in names if not name.startswith(".")]
        if not paths:
            raise UserError(f"The folder {path} has no image ({', '.join(IMAGES)}) in it.")
        return Source(map(_from_path, paths), len(paths), single=False)
    if not os.path.isfile(path):
        raise MissingFileError(f"There is no image, video or folder {path}.")
    if Path(path).suffix.lower() in VIDEOS:
        return _open_video(path)
    return Source(iter([_from_path(path)]), 1, single=True)


def _from_path(path: str) -> InputImage:
    read = partial(read_pixels, path)
    return InputImage(os.path.basename(path), path, None, read, read)


def _check_array(array: np.ndarray, channels: str | None) -> tuple[np.ndarray, str]:
    """Returns the array as uint8 (H, W, 3), and its channel order."""
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not array.size or not (grey or colour):
        raise UserError(
            f"An array of dtype {array.dtype} and shape {array.shape} is no image; give uint8, 0 "
            "to 255, of (height, width), (height, width, 3) or (height, width, 4), and several "
            "images as a list."
        )
    if grey:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2), "RGB"
    if channels is None:
        raise UserError(
            "The channel order of an array is missing: pass channels='BGR' (cv2.imread) or "
            "channels='RGB' (PIL, imageio, matplotlib)."
        )
    return array[:, :, :3], channels


def _from_array(array: np.ndarray, channels: str, order: str) -> np.ndarray:
    return array if order == channels else array[:, :, ::-1]


def _open_video(path: str) -> Source:
    video = cv2.VideoCapture(path)
    try:
        if not video.read()[0]:
            raise UserError(f"OpenCV cannot read {path} as a video.")
        number = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    finally:
        video.release()
    return Source(_frames(path, number), number if number > 0 else None, single=False)


def _frames(path: str, number: int) -> Iterator[InputImage]:
    """Yields all frames that can be decoded, and an unreadable one if the video is incomplete."""
    video = cv2.VideoCapture(path)
    try:
        frame = 0
        while True:
            there, pixels = video.read()
            if not there:
                break
            now, later = partial(_from_array, pixels, "BGR"), partial(_read_frame, path, frame)
            yield InputImage(f"{os.path.basename(path)}#{frame}", path, frame, now, later)
            frame += 1
    finally:
        video.release()
    if number - frame > 2:  # some containers count one or two frames too many
        missing = partial(_break_off, frame, number)
        yield InputImage(f"{os.path.basename(path)}#{frame}", path, frame, missing, missing)


def _break_off(frame: int, number: int, order: str) -> np.ndarray:
    raise UnreadableError(f"the video breaks off after {frame} of {number} frames")


def _read_frame(path: str, frame: int, order: str) -> np.ndarray:
    video = cv2.VideoCapture(path)
    try:
        video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        there, pixels = video.read()
    finally:
        video.release()
    if not there:
        raise UnreadableError(f"frame {frame} of {path} cannot be read again")
    return _from_array(pixels, "BGR", order)
