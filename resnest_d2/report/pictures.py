"""Pictures with what is in them and what was found, as JPEG thumbnails under drawn outlines."""

import base64
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data.detection_utils import read_image

from .matching import CROWD, NONE, Picture, judge

_SIDE = 480  # of a thumbnail, pixels; a mask's outline is accurate to a pixel of it


class Outline(NamedTuple):
    """An SVG path in a thumbnail's pixels; ``kind`` is the CSS class that colours it."""

    path: str
    kind: str
    label: str


class Thumbnail(NamedTuple):
    """A picture, made small; ``uri`` is empty where the file cannot be read."""

    uri: str
    width: int
    height: int


def thumbnail(picture: Picture, path: str) -> Thumbnail:
    """The picture, at most 480 pixels wide and high.

    Args:
        picture: with the size that its annotations are in.
        path: of the file.
    """
    height, width = picture.image["height"], picture.image["width"]
    scale = min(_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    try:
        pixels = read_image(path, "BGR")
    except (OSError, ValueError):  # moved or broken since the evaluation; the page says so
        return Thumbnail("", *size)
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return Thumbnail("data:image/jpeg;base64," + base64.b64encode(data).decode(), *size)


def outline_truth(
    picture: Picture, size: Thumbnail, *, threshold: float, classes: dict[int, str]
) -> Iterator[Outline]:
    """Annotations: right where found, else confused or missed.

    Args:
        picture: that is drawn.
        size: what it is drawn on.
        threshold: score from which detections count.
        classes: names by id.
    """
    pairs = judge(picture, threshold)
    at = {int(g): picture.found[d] for d, g in enumerate(pairs) if g >= 0}
    for g, annotation in enumerate(picture.truth):
        name = classes[annotation["category_id"]]
        if annotation["iscrowd"]:
            kind, label = "crowd", f"{name}, a crowd: not judged"
        elif g not in at:
            kind, label = "missed", f"{name}, missed"
        elif at[g]["category_id"] != annotation["category_id"]:
            kind, label = "confused", f"{name}, found as {classes[at[g]['category_id']]}"
        else:
            kind, label = "right", name
        yield Outline(_path(annotation, size, picture), kind, label)


def outline_found(
    picture: Picture, size: Thumbnail, *, threshold: float, classes: dict[int, str]
) -> Iterator[Outline]:
    """Detections: right, of the wrong class, or false; arguments as :func:`outline_truth`."""
    for d, g in enumerate(judge(picture, threshold)):
        detection = picture.found[d]
        label = f"{classes[detection['category_id']]} {detection['score']:.2f}"
        if g == CROWD:
            kind, label = "crowd", f"{label}, in a crowd: not judged"
        elif g == NONE:
            kind, label = "false", f"{label}, false"
        else:
            same = picture.truth[g]["category_id"] == detection["category_id"]
            kind = "right" if same else "confused"
            truth = "" if same else f", is {classes[picture.truth[g]['category_id']]}"
            label = f"{label}{truth}, IoU {picture.iou[d, g]:.2f}"
        yield Outline(_path(detection, size, picture), kind, label)


def _path(entry: dict, size: Thumbnail, picture: Picture) -> str:
    """Outline of an annotation's or detection's mask, or of its box where it has none."""
    scale = np.array(
        [size.width / picture.image["width"], size.height / picture.image["height"]]
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
