"""One image of a source, and a source of images, each of which is read only when needed.

Shapes: H, W of the image.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np


class InputImage(NamedTuple):
    """One image. ``read`` takes the channel order and returns uint8 (H, W, 3).

    ``read_later`` does the same, without keeping pixels of files in memory.

    Attributes:
        name: file name, ``video.mp4#12`` of a frame, ``image 3`` of an image from memory.
        path: path or address; None for images from memory and of cameras.
        frame: number of the frame in its video, from 0; None for images that are not of a video.
        read: reads the pixels.
        read_later: reads them again.
        fps: frames per second of the images that are taken from its video.
    """

    name: str
    path: str | None
    frame: int | None
    read: Callable[[str], np.ndarray]
    read_later: Callable[[str], np.ndarray]
    fps: float | None = None


class Source(NamedTuple):
    """Images in their order.

    Attributes:
        images: iterator of the images.
        number: number of the images; None if unknown.
        single: whether it is a single image.
        notes: sentences on what was found in folders and patterns.
        endless: whether it goes on until it is stopped, as a camera does.
    """

    images: Iterator[InputImage]
    number: int | None
    single: bool
    notes: tuple[str, ...] = ()
    endless: bool = False


class Asked(NamedTuple):
    """How a source is to be opened.

    Attributes:
        channels: "RGB" or "BGR", the channel order of arrays and tensors; None if unknown.
        every: take every n-th frame of a video.
        name: name of an image from memory.
    """

    channels: str | None = None
    every: int = 1
    name: str = "the image"


def in_memory(name: str, read: Callable[[str], np.ndarray]) -> Source:
    """The source of one image without a path."""
    return Source(iter([InputImage(name, None, None, read, read)]), 1, single=True)
