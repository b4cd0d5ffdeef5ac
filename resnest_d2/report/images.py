"""Thumbnails of images, with annotations and detections as SVG outlines."""

import base64
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np
import pycocotools.mask as mask_util

from resnest_d2.data.image_files import read_pixels
from resnest_d2.errors import UserError

from .matching import MatchedImage
from .mistakes import JudgedImage

_SIDE = 480  # longest side of a thumbnail; mask outlines are accurate to one of its pixels


class Outline(NamedTuple):
    """SVG path in pixels of a thumbnail; its CSS class is "right", "crowd" or a kind of mistake."""

    path: str
    kind: str
    label: str


class Thumbnail(NamedTuple):
    """Small copy of an image; ``uri`` is empty if the file cannot be read."""

    uri: str
    width: int
    height: int


def thumbnail(matched: MatchedImage, path: str) -> Thumbnail:
    """Reads an image and shrinks it to at most 480 pixels a side.

    Args:
        matched: the image's record, with its width and height.
        path: path of the image file.
    """
    height, width = matched.image["height"], matched.image["width"]
    scale = min(_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    try:
        pixels = read_pixels(path, "BGR")
    except UserError:  # moved or broken since the evaluation; the page says so
        return Thumbnail("", *size)
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return Thumbnail("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode(), *size)


def outline_truth(
    image: JudgedImage, size: Thumbnail, classes: Mapping[int, str]
) -> Iterator[Outline]:
    """Outlines of the annotations: right, confused, poorly located or missed.

    Args:
        image: image with its annotations and detections.
        size: thumbnail that the outlines are drawn on.
        classes: class names by id.
    """
    matched = image.matched
    at = {int(g): d for pairs in (image.pairs, image.near) for d, g in enumerate(pairs) if g >= 0}
    for g, (annotation, kind) in enumerate(zip(matched.truth, image.truth, strict=True)):
        label = classes[annotation["category_id"]]
        if kind == "crowd":
            label += ", crowd (ignored)"
        elif kind == "missed":
            label += ", missed"
        elif kind == "confused":
            label += f", detected as {classes[matched.found[at[g]]['category_id']]}"
        elif kind == "poor":
            label += f", poorly located, IoU {matched.iou[at[g], g]:.2f}"
        yield Outline(_path(annotation, size, matched), kind, label)


def outline_found(
    image: JudgedImage, size: Thumbnail, classes: Mapping[int, str]
) -> Iterator[Outline]:
    """Outlines of the detections: right, confused, poorly located or false.

    The arguments are those of :func:`outline_truth`.
    """
    matched = image.matched
    for d, kind in enumerate(image.found):
        detection = matched.found[d]
        label = f"{classes[detection['category_id']]} {detection['score']:.2f}"
        if kind == "crowd":
            label += ", in a crowd (ignored)"
        elif kind == "false":
            label += ", false"
        elif kind == "poor":
            label += f", poorly located, IoU {matched.iou[d, image.near[d]]:.2f}"
        else:
            g = image.pairs[d]
            if kind == "confused":
                label += f", truth: {classes[matched.truth[g]['category_id']]}"
            label += f", IoU {matched.iou[d, g]:.2f}"
        yield Outline(_path(detection, size, matched), kind, label)


def _path(entry: dict, size: Thumbnail, matched: MatchedImage) -> str:
    """Outline of the mask of an annotation or detection, or of its box if it has no mask."""
    scale = np.array(
        [size.width / matched.image["width"], size.height / matched.image["height"]]
    )  # (x, y)
    if not entry.get("segmentation"):
        x, y, w, h = (np.array(entry["bbox"]) * np.tile(scale, 2)).round(1)
        return f"M{x:g} {y:g}h{w:g}v{h:g}h{-w:g}z"
    mask = mask_util.decode(entry["segmentation"])
    contours = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    parts = []
    for contour in contours:
        points = cv2.approxPolyDP(contour, 0.7 / scale.max(), True)[:, 0] + 0.5  # pixels' centres
        steps = "L".join(f"{x:g} {y:g}" for x, y in (points * scale).round(1))
        parts.append(f"M{steps}z")
    return "".join(parts)
