"""Image files: the one place that opens them.

Only the formats below are opened, with any name: Pillow knows dozens more, and starts
Ghostscript for one of them. The number of pixels is read from the header and limited, as a file of
some kilobytes can decode to gigabytes.

Shapes: H, W of the image.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from typing import IO

import numpy as np
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import log_first_n
from PIL import Image, ImageOps, UnidentifiedImageError

from resnest_d2.errors import UserError
from resnest_d2.files import UnreadableError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LIMIT = "RESNEST_D2_MAX_PIXELS"  # environment variable
PIXELS = 178_956_970  # its default: where Pillow refuses, unless a library has turned that off


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


def reason_of(error: UserError, path: str | os.PathLike) -> str:
    """Why an image cannot be read, without its path."""
    return str(error).removeprefix(f"{path} cannot be read: ")


def max_pixels() -> int:
    """Largest number of pixels of an image, from the environment or :data:`PIXELS`.

    Raises:
        UserError: the environment variable is no number.
    """
    text = os.environ.get(LIMIT)
    if text is None:
        return PIXELS
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and int(text)):
        raise UserError(f"{LIMIT} is {text!r}; give a number of pixels, such as 400000000.")
    Image.MAX_IMAGE_PIXELS = int(text)  # also for the images that detectron2 opens
    return int(text)


@contextlib.contextmanager
def open_image(path: str | os.PathLike, content: bytes | None = None) -> Iterator[Image.Image]:
    """An image file, of which only the header is read yet; around its decoding.

    Args:
        path: path of the file.
        content: contents of the file, if they are in memory; the path is then only its name.

    Raises:
        UnreadableError: another format, too many pixels, or any error of the decoder.
    """
    limit = max_pixels()
    with reading_image(path), _opened(path, content) as file:
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError as error:
            reason = f"it is no image in one of the formats {', '.join(FORMATS)}"
            raise UnreadableError(f"{path} cannot be read: {reason}") from error
        except Image.DecompressionBombError as error:
            raise _too_large(path, limit) from error
        with image:
            if image.width * image.height > limit:
                raise _too_large(path, limit)
            yield image


def _opened(path: str | os.PathLike, content: bytes | None) -> IO[bytes]:
    return PathManager.open(os.fspath(path), "rb") if content is None else io.BytesIO(content)


def _too_large(path: str | os.PathLike, limit: int) -> UnreadableError:
    return UnreadableError(
        f"{path} cannot be read: it has more than {limit:,} pixels; set {LIMIT} if you trust it"
    )


def read_pixels(path: str, order: str, content: bytes | None = None) -> np.ndarray:
    """Reads the pixels of a file, uint8 (H, W, 3), in the order "RGB" or "BGR".

    They are rotated according to EXIF, as in detectron2's evaluation. Of frames and pages the first
    is read, which a warning says once. See :func:`open_image` for ``content``.

    Raises:
        UnreadableError: the file is not an image, or is damaged.
        UserError: more than 8 bits per channel.
    """
    with open_image(path, content) as image:
        if has_frames(image):
            text = f"{path} has several frames or pages; only the first of each image is read."
            log_first_n(logging.WARNING, text, name=__name__)
        return pixels_of(image, order)


def has_frames(image: Image.Image) -> bool:
    """Whether frames or pages follow the first, which alone is read.

    The second image in a camera's JPEG (MPO) is a preview.
    """
    return image.format != "MPO" and getattr(image, "is_animated", False)


def pixels_of(image: Image.Image, order: str) -> np.ndarray:
    """Pixels of an image as of :func:`read_pixels`."""
    if image.mode.startswith(("I", "F")):
        raise UserError(
            f"it has more than 8 bits per channel (mode {image.mode}), which would be cut off at "
            "255; convert it to 8 bits as the images of the training were"
        )
    pixels = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    return pixels if order == "RGB" else pixels[:, :, ::-1]
