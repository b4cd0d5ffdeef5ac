"""Paints objects on an image: translucent masks, outlines, boxes, keypoints and labels.

Shapes: H, W of the image, h, w of the drawing, K keypoints.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from .colors import RGB
from .labels import Label, draw_labels
from .outlines import outlines_of

LARGEST = 25_000_000  # pixels of a drawing, which takes some 10 bytes for each
LONGEST = 30_000  # pixels of a side; JPEG files have 65,535
SHADE = 0.35  # opacity of a mask
_FAR = 1e6  # pixels that a keypoint may lie outside, which OpenCV can count


class Item(NamedTuple):
    """What is drawn of an object, in pixels of the image.

    Attributes:
        name: text of its label.
        color: its class's colour.
        box: corners (x0, y0, x1, y1).
        score: written behind the name; None for no score.
        mask: bool (H, W).
        points: places of the visible keypoints by their number.
        region: has no box, as a segment of a background; the label is in its middle.
    """

    name: str
    color: RGB
    box: np.ndarray
    score: float | None = None
    mask: np.ndarray | None = None
    points: dict[int, tuple[float, float]] = {}
    region: bool = False


class _Shape(NamedTuple):
    """An item in pixels of the drawing."""

    color: RGB
    box: np.ndarray  # of integers
    outlines: list[np.ndarray]
    points: dict[int, tuple[int, int]]
    region: bool


def paint(
    pixels: np.ndarray,
    items: Sequence[Item],
    *,
    scale: float = 1.0,
    skeleton: Sequence[tuple[int, int]] = (),
) -> Image.Image:
    """Paints objects on an image; widths of lines and text follow the drawing's size.

    A drawing that would be larger than :data:`LARGEST` or :data:`LONGEST` is reduced.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        items: the objects.
        scale: scale of the drawing relative to the image.
        skeleton: pairs of keypoints that are connected.
    """
    height, width = pixels.shape[:2]
    scale = min(scale, (LARGEST / (height * width)) ** 0.5, LONGEST / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    canvas = np.ascontiguousarray(pixels)
    if size == (width, height):
        canvas = canvas.copy()
    else:
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        canvas = cv2.resize(canvas, size, interpolation=how)
    ratio = size[0] / width, size[1] / height
    shapes = [_scaled(item, ratio, size) for item in items]
    text = text_size(size)
    line = max(1, round(text / 8))
    canvas = _shaded(canvas, shapes)
    _draw_lines(canvas, shapes, line, skeleton)
    image = Image.fromarray(canvas)
    labels = [
        Label(item.name, item.color, shape.box, item.score, item.region)
        for item, shape in zip(items, shapes, strict=True)
    ]
    draw_labels(image, labels, text)
    return image


def text_size(size: tuple[int, int]) -> int:
    """Height of the text in pixels on a drawing of some width and height."""
    width, height = size
    return round(min(max((width * height) ** 0.5 / 55, 12), max(min(size) / 12, 12)))


def _scaled(item: Item, ratio: tuple[float, float], size: tuple[int, int]) -> _Shape:
    box = np.nan_to_num(np.asarray(item.box, float)) * (*ratio, *ratio)
    box = np.clip(box, 0, (*size, *size)).round().astype(int)
    outlines = [] if item.mask is None else outlines_of(item.mask, ratio)
    places = np.nan_to_num(np.reshape(list(item.points.values()), (-1, 2)) * ratio)
    places = np.clip(places, -_FAR, _FAR).round().astype(int).tolist()
    points = {k: (x, y) for k, (x, y) in zip(item.points, places, strict=True)}
    return _Shape(item.color, box, outlines, points, item.region)


def _shaded(canvas: np.ndarray, shapes: Sequence[_Shape]) -> np.ndarray:
    """The image below translucent masks, small ones above large ones."""
    masks = [shape for shape in shapes if shape.outlines]
    if not masks:
        return canvas
    shade = canvas.copy()
    areas = [sum(map(cv2.contourArea, shape.outlines)) for shape in masks]
    for i in np.argsort(areas)[::-1]:
        cv2.fillPoly(shade, masks[i].outlines, masks[i].color)
    return cv2.addWeighted(shade, SHADE, canvas, 1 - SHADE, 0)


def _draw_lines(
    canvas: np.ndarray, shapes: Sequence[_Shape], line: int, skeleton: Sequence[tuple[int, int]]
) -> None:
    """Draws boxes, outlines and keypoints, each with a dark line around it."""
    halo = np.zeros(canvas.shape[:2], np.uint8)
    edge = max(1, line // 2)
    for target, wider in ((halo, 2 * edge), (canvas, 0)):
        for shape in shapes:
            color = shape.color if target is canvas else 255
            if not shape.outlines:
                _draw_box(target, shape.box, color, line, wider // 2)
            elif not shape.region and not wider:  # thin, as the outline says more
                _draw_box(target, shape.box, color, max(1, line // 2), 0)
            cv2.polylines(target, shape.outlines, True, color, line + wider, cv2.LINE_AA)
            _draw_points(target, shape, color, line, wider, skeleton)
        if target is halo:
            dark = halo > 127
            canvas[dark] = canvas[dark] >> 1


def _draw_box(target: np.ndarray, box: np.ndarray, color: RGB | int, line: int, wider: int) -> None:
    """Draws a box whose line, on the edge, stays inside the image.

    Args:
        target: what it is drawn on (h, w) or (h, w, 3).
        box: its corners.
        color: of the line.
        line: its width.
        wider: by how much it is wider on either side.
    """
    height, width = target.shape[:2]
    x0, y0 = np.maximum(box[:2] - line // 2, 0)
    x1, y1 = np.minimum(box[2:] + line // 2, (width, height))
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    for left, top, right, bottom in (
        (x0, y0, x1, y0 + line),
        (x0, y1 - line, x1, y1),
        (x0, y0, x0 + line, y1),
        (x1 - line, y0, x1, y1),
    ):
        rows = slice(max(top - wider, 0), max(bottom + wider, 0))
        target[rows, max(left - wider, 0) : max(right + wider, 0)] = color


def _draw_points(
    target: np.ndarray,
    shape: _Shape,
    color: RGB | int,
    line: int,
    wider: int,
    skeleton: Sequence[tuple[int, int]],
) -> None:
    for a, b in skeleton:
        if a in shape.points and b in shape.points:
            ends = shape.points[a], shape.points[b]
            cv2.line(target, *ends, color, line + wider, cv2.LINE_AA)
    for place in shape.points.values():
        radius = 2 * line + wider // 2
        rim = (255, 255, 255) if target.ndim == 3 else 255
        cv2.circle(target, place, radius, rim, -1, cv2.LINE_AA)
        cv2.circle(target, place, max(radius - max(1, line // 2), 1), color, -1, cv2.LINE_AA)
