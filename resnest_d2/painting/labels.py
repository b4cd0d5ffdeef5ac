"""Labels: beside or in their objects, inside the image, not on each other.

Where there are too many, text becomes smaller, and then the least important labels are left out:
the colour tells the class. Boxes are (x0, y0, x1, y1) in pixels of the drawing, N labels.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from .colors import RGB, ink_on
from .texts import Line, line_of

_CROWDED = 0.15  # share of the drawing below all labels, from which on text becomes smaller
_SHRUNK = 0.6  # by this factor at most, and not below
_SMALLEST = 10  # pixels
_HIDDEN = 0.6  # largest share of any object below a label
_COVERED = 0.25  # largest share of the drawing below all labels


class Label(NamedTuple):
    """A label and the object that it belongs to.

    Attributes:
        name: of any script and length.
        color: of its ground.
        box: of the object, in pixels of the drawing.
        score: written behind the name, in percent; None for none.
        middle: whether the label belongs into the middle of the box.
    """

    name: str
    color: RGB
    box: np.ndarray
    score: float | None = None
    middle: bool = False


def draw_labels(image: Image.Image, labels: Sequence[Label], text: int) -> None:
    """Draws labels on an image, with text of some height in pixels."""
    if not labels:
        return
    lines, sizes = _lines(labels, text, image.size)
    area = sum(width * height for width, height in sizes)
    crowded = _CROWDED * image.width * image.height / area
    if crowded < 1:
        text = max(min(text, _SMALLEST), round(text * max(crowded**0.5, _SHRUNK)))
        lines, sizes = _lines(labels, text, image.size)
    places = place_labels(
        sizes,
        np.array([label.box for label in labels]),
        order=_order(labels),
        middle=[label.middle for label in labels],
        size=image.size,
    )
    canvas, padding = ImageDraw.Draw(image), _padding(text)
    for label, line, place, (width, height) in zip(labels, lines, places, sizes, strict=True):
        if place is not None:
            x, y = place
            canvas.rectangle((x, y, x + width - 1, y + height - 1), fill=label.color)
            line.draw(canvas, x + padding, y, ink_on(label.color))


def place_labels(
    sizes: Sequence[tuple[int, int]],
    boxes: np.ndarray,
    *,
    order: Sequence[int],
    middle: Sequence[bool],
    size: tuple[int, int],
) -> list[tuple[int, int] | None]:
    """Upper left corner of each label; None where it finds no place.

    Args:
        sizes: width and height of each label.
        boxes: of the objects that the labels belong to (N, 4).
        order: indices of the labels, the most important first.
        middle: whether a label belongs into the middle of its box.
        size: width and height of the drawing.
    """
    placed: list[tuple[int, int] | None] = [None] * len(sizes)
    taken, room = np.zeros((0, 4)), _COVERED * size[0] * size[1]
    seen = boxes.copy()  # objects without area are drawn, too
    seen[:, 2:] = np.maximum(seen[:, 2:], seen[:, :2] + ~np.array(middle)[:, None])
    areas = np.maximum((seen[:, 2:] - seen[:, :2]).prod(1), 1)
    for i in order:
        width, height = sizes[i]
        if width > size[0] or height > size[1] or (taken.size and width * height > room):
            continue
        corners = _corners(boxes[i], width, height, middle=middle[i])
        corners = np.clip(corners, 0, (size[0] - width, size[1] - height)).round()
        places = np.concatenate([corners, corners + (width, height)], 1)  # (places, 4)
        free = ~(_common(places, taken) > 0).any(1)
        hidden = _common(places, seen) / areas  # (places, N)
        cost = hidden.sum(1) + 0.02 * np.arange(len(places))
        free &= hidden.max(1) <= _HIDDEN
        if free.any():
            best = places[np.where(free, cost, np.inf).argmin()]
            placed[i] = int(best[0]), int(best[1])
            room -= width * height
            taken = np.concatenate([taken, best[None] + (-1, -1, 1, 1)])
    return placed


def _corners(box: np.ndarray, width: int, height: int, *, middle: bool) -> np.ndarray:
    """Upper left corners that a label of a box may have, the best first."""
    x0, y0, x1, y1 = box
    x, y = (x0 + x1 - width) / 2, (y0 + y1 - height) / 2
    steps = [(x, y + k * height) for k in (0, -1, 1, -2, 2)]
    if middle:
        return np.array(steps)
    right, bottom = x1 - width, y1 - height
    above, below = y0 - height, y1
    corners = [
        *((x0, above), (right, above), (x0, below), (right, below), (x0, y0), (right, y0)),
        *((x0, bottom), (right, bottom), (x1, y0), (x0 - width, y0), (x1, bottom)),
        *((x0 - width, bottom), (x, above), (x, below)),
    ]
    return np.array([*corners, *steps])


def _common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Area that each of some boxes shares with each of others."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2)


def _lines(
    labels: Sequence[Label], text: int, size: tuple[int, int]
) -> tuple[list[Line], list[tuple[int, int]]]:
    """Texts of the labels, and the sizes of their grounds."""
    padding = _padding(text)
    longest = min(max(size[0] / 4, 8 * text), size[0] - 2 * padding)
    lines = [
        line_of(i.name, text, longest=longest, after="" if i.score is None else f" {i.score:.0%}")
        for i in labels
    ]
    return lines, [(line.width + 2 * padding, line.height) for line in lines]


def _padding(text: int) -> int:
    return max(2, text // 4)


def _order(labels: Sequence[Label]) -> list[int]:
    """Indices, the most important first: the best of each name, then the second, and so on."""
    ranks: Counter = Counter()
    keys: list[tuple[int, float, int]] = []
    for i in sorted(range(len(labels)), key=lambda i: -(labels[i].score or 0)):
        name, score = labels[i].name, labels[i].score or 0
        keys.append((ranks[name], -score, i))
        ranks[name] += 1
    return [i for *_, i in sorted(keys)]
