"""Labelled images as the readers give them, and what the formats share."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as mask_util

from resnest_d2.data.image_files import reason_of
from resnest_d2.data.validate.images import image_size
from resnest_d2.errors import UserError

from .faults import Faults

IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
SPLITS = ("train", "val", "test")
_ALIASES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


class Object(NamedTuple):
    """Class name, box [x0, y0, x1, y1] in pixels, and flat polygons ([] for none) or RLE."""

    name: str
    box: list[float]
    mask: list[list[float]] | dict[str, Any]


class LabelledImage(NamedTuple):
    """Path of an image relative to its split's folder, size in pixels, and objects."""

    path: str
    width: int
    height: int
    objects: list[Object]


class Split(NamedTuple):
    """Images and their folder; ``classes`` in the format's order, [] if it has none.

    ``source`` names the data set, ``name`` is train, val, test, or "" for all of it. ``coco`` has
    the contents of a file that is COCO already, instead of ``images``.
    """

    source: str
    name: str
    folder: Path
    classes: list[str]
    images: list[LabelledImage]
    coco: dict[str, Any] | None = None


def split_name(word: str) -> str:
    """train, val or test for a word that means it, such as "Validation"; else ""."""
    word = word.lower()
    word = _ALIASES.get(word, word)
    return word if word in SPLITS else ""


def named_after(folder: Path) -> tuple[str, str]:
    """Names of the data set and of the split in a folder: cells/valid is val of cells."""
    folder = folder.resolve()
    split = split_name(folder.name)
    return (folder.parent.name if split else folder.name), split


def size_of(path: Path, faults: Faults) -> tuple[int, int] | None:
    """(width, height) of an image whose annotations do not give it; None, and a fault, without."""
    if not path.is_file():
        faults.add(str(path), "there is no such image, and its annotations do not give its size")
        return None
    try:
        return image_size(str(path))
    except UserError as error:
        faults.add(str(path), f"cannot be read: {reason_of(error, path)}")
    return None


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], *, degrees: float = 0.0
) -> list[list[float]]:
    """64 corners [x, y] of an ellipse, turned clockwise in the image."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = []
    for i in range(64):
        a = radii[0] * math.cos(2 * math.pi * i / 64)
        b = radii[1] * math.sin(2 * math.pi * i / 64)
        corners.append([centre[0] + a * cos - b * sin, centre[1] + a * sin + b * cos])
    return corners


def of_polygon(name: str, points: list[list[float]]) -> Object:
    """An object with a polygon of corners [x, y]; its box is around them."""
    xs, ys = zip(*points, strict=True)
    box = [min(xs), min(ys), max(xs), max(ys)]
    return Object(name, box, [[v for point in points for v in point]])


def of_mask(label: str, mask: np.ndarray) -> Object:
    """An object with a mask (H, W), kept as RLE; its box is around it.

    Raises:
        UserError: the mask is empty.
    """
    if not mask.any():
        raise UserError("a mask is empty")
    rle = mask_util.encode(np.asfortranarray(mask, np.uint8))
    x, y, w, h = mask_util.toBbox(rle).tolist()
    return Object(label, [x, y, x + w, y + h], {**rle, "counts": rle["counts"].decode("ascii")})
