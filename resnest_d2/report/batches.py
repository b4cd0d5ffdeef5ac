"""Batches of images with their truth drawn on them, as one image."""

import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from detectron2.data.detection_utils import convert_image_to_rgb
from PIL import Image, ImageDraw

from resnest_d2.painting.colors import RGB, color_of
from resnest_d2.painting.items import items_of, name_of
from resnest_d2.painting.paint import paint
from resnest_d2.painting.texts import Line, line_of

_LARGEST = 4  # factor by which small images are enlarged
_GROUND, _INK = (238, 238, 238), (40, 40, 40)
_GAP, _LINE, _TEXT = 14, 20, 13  # pixels between images, of a line of text, and of its font


class _Cell(NamedTuple):
    """One image of the drawing, and what is written below it."""

    pixels: Image.Image
    file: str
    content: str


def draw_batch(
    batch: Sequence[dict],
    *,
    order: str,
    names: Sequence[str],
    title: str,
    skeleton: Sequence[tuple[int, int]] = (),
) -> Image.Image:
    """Draws the images of a batch side by side, with boxes, masks, keypoints and class names.

    Args:
        batch: of detectron2's mapper, with "image" (C, H, W) in 0 to 255 and "instances".
        order: of the channels, detectron2's INPUT.FORMAT.
        names: of the classes; their numbers are written where there are none.
        title: line above the images.
        skeleton: pairs of keypoints that are connected.
    """
    columns = math.ceil(math.sqrt(len(batch)))
    side = max(360, 1680 // columns)
    largest = max(max(image["image"].shape[1:]) for image in batch)
    scale = min(side / largest, _LARGEST)  # the same for all: they are seen at their sizes
    cells = [_cell(image, scale, order, names=names, skeleton=skeleton) for image in batch]
    classes = sorted({int(c) for image in batch for c in image["instances"].gt_classes})
    return _grid(cells, columns, title, [(color_of(c), name_of(c, names)) for c in classes])


def _cell(
    image: dict,
    scale: float,
    order: str,
    *,
    names: Sequence[str],
    skeleton: Sequence[tuple[int, int]],
) -> _Cell:
    pixels = image["image"].numpy().transpose(1, 2, 0)  # (H, W, C)
    pixels = np.clip(convert_image_to_rgb(pixels, order), 0, 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    truth = image["instances"]
    drawn = paint(pixels, items_of(truth, names), scale=scale, skeleton=skeleton)
    file = os.path.basename(image.get("file_name", ""))
    return _Cell(drawn, file, f"  {width} x {height}, {_count(len(truth))}")


def _count(number: int) -> str:
    return f"{number} object{'s' * (number != 1)}"


def _grid(
    cells: Sequence[_Cell],
    columns: int,
    title: str,
    legend: Sequence[tuple[RGB, str]],
) -> Image.Image:
    """Cells in rows, with a title above and the colours of the classes below."""
    width = max(max(cell.pixels.width for cell in cells), 240)
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(c.pixels.height for c in row) + _LINE + _GAP for row in rows]
    across = columns * (width + _GAP) + _GAP
    texts = [line_of(name, _TEXT, longest=across - 4 * _GAP) for _, name in legend]
    places, end = _places(texts, across)
    top = _GAP + _LINE
    page = Image.new("RGB", (across, top + sum(heights) + end + _GAP), _GROUND)
    canvas = ImageDraw.Draw(page)
    line_of(title, _TEXT, longest=across - 2 * _GAP).draw(canvas, _GAP, _GAP // 2, _INK)
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            x = _GAP + column * (width + _GAP)
            page.paste(cell.pixels, (x, top))
            caption = line_of(cell.file, _TEXT, longest=width, after=cell.content)
            caption.draw(canvas, x, top + cell.pixels.height + 3, _INK)
        top += height
    for (x, y), (color, _), text in zip(places, legend, texts, strict=True):
        canvas.rectangle((x, top + y + 2, x + 12, top + y + 14), fill=color)
        text.draw(canvas, x + 18, top + y, _INK)
    return page


def _places(texts: Sequence[Line], across: int) -> tuple[list[tuple[int, int]], int]:
    """Where the entries of a legend go, and its height."""
    places, x, y = [], _GAP, 0
    for text in texts:
        width = text.width + 34
        if x > _GAP and x + width > across:
            x, y = _GAP, y + _LINE
        places.append((x, y))
        x += width
    return places, y + _LINE if texts else 0
