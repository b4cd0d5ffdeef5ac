"""Thumbnails of images, with annotations and detections as SVG outlines."""

import base64
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import cv2
import numpy as np
import pycocotools.mask as mask_util

from resnest_d2.data.image_files import read_pixels
from resnest_d2.errors import UserError

from .matching import CROWD, NONE, MatchedImage, judge

_SIDE = 480  # longest side of a thumbnail; mask outlines are accurate to one of its pixels


class Outline(NamedTuple):
    """SVG path in pixels of a thumbnail; ``kind`` is the CSS class that sets its colour."""

    path: str
    kind: str
    label: str


class OutlineOptions(TypedDict):
    """What :func:`outline_truth` and :func:`outline_found` are told by keyword."""

    threshold: float
    classes: dict[int, str]


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
    matched: MatchedImage, size: Thumbnail, *, threshold: float, classes: dict[int, str]
) -> Iterator[Outline]:
    """Outlines of the annotations: right, confused or missed.

    Args:
        matched: image with its annotations and detections.
        size: thumbnail that the outlines are drawn on.
        threshold: lowest score of the detections that count.
        classes: class names by id.
    """
    pairs = judge(matched, threshold)
    at = {int(g): matched.found[d] for d, g in enumerate(pairs) if g >= 0}
    for g, annotation in enumerate(matched.truth):
        name = classes[annotation["category_id"]]
        if annotation["iscrowd"]:
            kind, label = "crowd", f"{name}, crowd (ignored)"
        elif g not in at:
            kind, label = "missed", f"{name}, missed"
        elif at[g]["category_id"] != annotation["category_id"]:
            kind, label = "confused", f"{name}, detected as {classes[at[g]['category_id']]}"
        else:
            kind, label = "right", name
        yield Outline(_path(annotation, size, matched), kind, label)


def outline_found(
    matched: MatchedImage, size: Thumbnail, *, threshold: float, classes: dict[int, str]
) -> Iterator[Outline]:
    """Outlines of the detections: right, confused or false.

    The arguments are those of :func:`outline_truth`.
    """
    for d, g in enumerate(judge(matched, threshold)):
        detection = matched.found[d]
        label = f"{classes[detection['category_id']]} {detection['score']:.2f}"
        if g == CROWD:
            kind, label = "crowd", f"{label}, in a crowd (ignored)"
        elif g == NONE:
            kind, label = "false", f"{label}, false"
        else:
            same = matched.truth[g]["category_id"] == detection["category_id"]
            kind = "right" if same else "confused"
            truth = "" if same else f", truth: {classes[matched.truth[g]['category_id']]}"
            label = f"{label}{truth}, IoU {matched.iou[d, g]:.2f}"
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
