"""Sources of images for prediction: one table of the forms that are taken.

Files are read as in detectron2's evaluation: by PIL, rotated according to EXIF, grey images
converted to three channels, alpha channels dropped. Shapes: H, W of the image, C channels.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from resnest_d2.data.image_files import pixels_of, read_pixels
from resnest_d2.errors import UserError

from .addresses import SCHEMES, open_address
from .arrays import open_array, open_tensor
from .images import Asked, Source, in_memory
from .paths import open_path, open_pattern
from .videos import STREAMS, open_stream

ORDERS = ("RGB", "BGR")
GREY = "L"  # the one form of INPUT.FORMAT with one channel


class Form(NamedTuple):
    """A form in which images are given.

    Attributes:
        words: what it is, for the error that lists the forms.
        accepts: whether a source has this form.
        opens: opens it.
    """

    words: str
    accepts: Callable[[Any], bool]
    opens: Callable[[Any, Asked], Source]


def open_source(source: Any, channels: str | None = None, *, every: int = 1) -> Source:
    """Opens images of any form in :data:`FORMS`; only the first frame of a video is read yet.

    Args:
        source: path of an image, a video or a folder (with all folders in it), a pattern such as
            ``images/*.png``; an http, https or rtsp address; the number of a camera; the bytes of
            a file, or an open file; a PIL image; an array, uint8 (H, W), (H, W, 3) or (H, W, 4); a
            tensor, uint8 or float, (C, H, W); several of these; or a Source, which is returned.
        channels: "RGB" or "BGR", the channel order of all arrays and tensors; a fourth channel is
            alpha.
        every: take every n-th frame of videos and streams.

    Raises:
        MissingFileError: a path does not exist, or none matches.
        TypeError: the source has another type.
        UserError: a folder without images, a video that cannot be read, an array or a tensor of
            another dtype or shape, or one without a channel order.
    """
    if isinstance(source, Source):
        return source
    if channels not in (None, *ORDERS):
        raise UserError(f"channels is {channels!r}; choose from {ORDERS}.")
    if every < 1:
        raise UserError(f"every is {every}; choose 1 or more.")
    asked = Asked(channels, every)
    if _form_of(source) is not None or not isinstance(source, Iterable):
        return _open_one(source, asked)
    given = list(source)
    if not given:
        raise UserError("There is nothing to predict on: the list is empty.")
    parts = [_open_one(one, asked._replace(name=f"image {i}")) for i, one in enumerate(given)]
    numbers = [part.number for part in parts if part.number is not None]
    return Source(
        (image for part in parts for image in part.images),
        sum(numbers) if len(numbers) == len(parts) else None,
        single=False,
        notes=tuple(note for part in parts for note in part.notes),
        endless=any(part.endless for part in parts),
    )


def _form_of(source: Any) -> Form | None:
    return next((form for form in FORMS if form.accepts(source)), None)


def _open_one(source: Any, asked: Asked) -> Source:
    form = _form_of(source)
    if form is None:
        known = ", ".join(dict.fromkeys(form.words for form in FORMS))
        raise TypeError(
            f"{asked.name} is a {type(source).__name__}; give {known}, or a list of these."
        )
    return form.opens(source, asked)


def _is_text(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)


def _open_text(source: str | os.PathLike, asked: Asked) -> Source:
    """A path, an address, the number of a camera, or a pattern; what exists is a path."""
    text = os.fspath(source)
    scheme, separator, _ = text.partition("://")
    if separator and not os.path.exists(text):
        if scheme.lower() in SCHEMES:
            return open_address(text, asked)
        if scheme.lower() in STREAMS:
            return open_stream(text, asked)
        known = ", ".join((*SCHEMES, *STREAMS))
        raise UserError(f"{text} is an address of {scheme!r}; choose from {known}, or give a path.")
    if not os.path.exists(text):
        if text.isascii() and text.isdecimal():
            return open_stream(int(text), asked)
        if any(character in text for character in "*?["):
            return open_pattern(text, asked)
    return open_path(text, asked)


def _open_bytes(source: Any, asked: Asked) -> Source:
    return in_memory(asked.name, partial(_decode, asked.name, bytes(source)))


def _open_file(source: Any, asked: Asked) -> Source:
    content, given = source.read(), getattr(source, "name", None)
    if not isinstance(content, bytes):
        raise UserError(f"{asked.name} is a file that was opened as text; open it in mode 'rb'.")
    name = os.path.basename(given) if isinstance(given, str) else asked.name
    return _open_bytes(content, asked._replace(name=name))


def _decode(name: str, content: bytes, order: str) -> np.ndarray:
    return read_pixels(name, order, content)


def _open_pil(source: Image.Image, asked: Asked) -> Source:
    name = os.path.basename(getattr(source, "filename", "")) or asked.name
    return in_memory(name, partial(pixels_of, source))


def _is_number(source: Any) -> bool:
    return isinstance(source, int) and not isinstance(source, bool) and source >= 0


FORMS = (
    Form("a path, pattern or address", _is_text, _open_text),
    Form("the number of a camera", _is_number, open_stream),
    Form(
        "the bytes of a file", lambda s: isinstance(s, bytes | bytearray | memoryview), _open_bytes
    ),
    Form("a PIL image", lambda s: isinstance(s, Image.Image), _open_pil),
    Form("a numpy array", lambda s: isinstance(s, np.ndarray), open_array),
    Form("a torch tensor", lambda s: isinstance(s, torch.Tensor), open_tensor),
    Form("an open file", lambda s: callable(getattr(s, "read", None)), _open_file),
)
