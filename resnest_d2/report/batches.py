"""Batches of images with their truth drawn on them, as one image."""

import colorsys
import math
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.structures import BitMasks, Instances
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

_LARGEST = 4  # factor by which small images are enlarged
_GROUND, _INK = (238, 238, 238), (40, 40, 40)
_GAP, _LINE = 14, 20  # pixels between images, and of a line of text
_SHADE = 0.3  # opacity of a mask


class _Cell(NamedTuple):
    """One image of the drawing, and what is written below it."""

    pixels: Image.Image
    caption: str


def draw_batch(
    batch: Sequence[dict], *, order: str, names: Sequence[str], title: str
) -> Image.Image:
    """Draws the images of a batch side by side, with boxes, masks, keypoints and class names.

    Args:
        batch: of detectron2's mapper, with "image" (C, H, W) in 0 to 255 and "instances".
        order: of the channels, detectron2's INPUT.FORMAT.
        names: of the classes; their numbers are written where there are none.
        title: line above the images.
    """
    columns = math.ceil(math.sqrt(len(batch)))
    side = max(360, 1680 // columns)
    largest = max(max(image["image"].shape[1:]) for image in batch)
    scale = min(side / largest, _LARGEST)  # the same for all: they are seen at their sizes
    cells = [_cell(image, scale, order=order, names=names) for image in batch]
    classes = sorted({int(c) for image in batch for c in image["instances"].gt_classes})
    return _grid(cells, columns, title, [(color_of(c), _name(c, names)) for c in classes])


def color_of(number: int) -> tuple[int, int, int]:
    """RGB of a class, the same in every drawing; neighbours differ by the golden angle."""
    hue = (0.33 + number * 0.618034) % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.9, 1.0 if number % 2 else 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def _name(number: int, names: Sequence[str]) -> str:
    return names[number] if number < len(names) else str(number)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _cell(image: dict, scale: float, *, order: str, names: Sequence[str]) -> _Cell:
    pixels = image["image"].numpy().transpose(1, 2, 0)  # (H, W, C)
    pixels = np.clip(convert_image_to_rgb(pixels, order), 0, 255).astype(np.uint8)
    height, width = pixels.shape[:2]
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    canvas = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=how)
    truth = image["instances"]
    colors = [color_of(int(c)) for c in truth.gt_classes]
    if truth.has("gt_masks"):
        for outlines, color in zip(_outlines(truth, size), colors, strict=True):
            shaded = cv2.fillPoly(canvas.copy(), outlines, color)
            canvas = cv2.addWeighted(shaded, _SHADE, canvas, 1 - _SHADE, 0)
            cv2.polylines(canvas, outlines, True, color, 1, cv2.LINE_AA)
    drawn = Image.fromarray(canvas)
    _draw_boxes(drawn, truth, scale, colors=colors, names=names)
    file = os.path.basename(image.get("file_name", ""))
    return _Cell(drawn, f"{file}  {width} x {height}, {_count(len(truth))}")


def _count(number: int) -> str:
    return f"{number} object{'s' * (number != 1)}"


def _outlines(truth: Instances, size: tuple[int, int]) -> Iterator[list[np.ndarray]]:
    """Polygons of each object in pixels of the drawing of some width and height."""
    height, width = truth.image_size
    scale = np.array([size[0] / width, size[1] / height])
    if isinstance(truth.gt_masks, BitMasks):
        for mask in truth.gt_masks.tensor.numpy().astype(np.uint8):
            enlarged = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            yield list(cv2.findContours(enlarged, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0])
    else:
        for polygons in truth.gt_masks.polygons:
            points = (np.asarray(p).reshape(-1, 1, 2) * scale - 0.5 for p in polygons)
            yield [p.round().astype(np.int32) for p in points]


def _draw_boxes(
    image: Image.Image,
    truth: Instances,
    scale: float,
    *,
    colors: Sequence[tuple[int, int, int]],
    names: Sequence[str],
) -> None:
    """Draws boxes and keypoints, and names where they do not cover each other."""
    canvas, font = ImageDraw.Draw(image), _font(13)
    boxes = (truth.gt_boxes.tensor.numpy() * scale).round().astype(int).tolist()
    for (x0, y0, x1, y1), color in zip(boxes, colors, strict=True):
        canvas.rectangle((x0, y0, max(x1 - 1, x0), max(y1 - 1, y0)), outline=color, width=2)
    if truth.has("gt_keypoints"):
        for points, color in zip(truth.gt_keypoints.tensor * scale, colors, strict=True):
            for x, y, labelled in points.tolist():
                if labelled:
                    canvas.ellipse((x - 4, y - 4, x + 4, y + 4), fill=color, outline="white")
    taken: list[tuple[float, ...]] = []
    for (x0, y0, *_), color, number in zip(boxes, colors, truth.gt_classes.tolist(), strict=True):
        name = _name(number, names)
        width, height = canvas.textlength(name, font) + 6, 17
        x = max(min(x0, image.width - width), 0)
        y = y0 - height if y0 >= height else y0
        place = (x, y, x + width, y + height)
        if any(_overlap(place, other) for other in taken):
            continue  # its colour tells the class
        taken.append(place)
        canvas.rectangle(place, fill=color)
        canvas.text((x + 3, y), name, fill=_ink_on(color), font=font)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink_on(color: tuple[int, int, int]) -> str:
    """Black or white, whichever is readable."""
    return "black" if np.dot(color, (0.299, 0.587, 0.114)) > 130 else "white"


def _grid(
    cells: Sequence[_Cell],
    columns: int,
    title: str,
    legend: Sequence[tuple[tuple[int, int, int], str]],
) -> Image.Image:
    """Cells in rows, with a title above and the colours of the classes below."""
    width = max(max(cell.pixels.width for cell in cells), 240)
    rows = [cells[i : i + columns] for i in range(0, len(cells), columns)]
    heights = [max(c.pixels.height for c in row) + _LINE + _GAP for row in rows]
    across = columns * (width + _GAP) + _GAP
    font = _font(13)
    places, end = _places(legend, across, font)
    top = _GAP + _LINE
    page = Image.new("RGB", (across, top + sum(heights) + end + _GAP), _GROUND)
    canvas = ImageDraw.Draw(page)
    canvas.text((_GAP, _GAP // 2), _shortened(title, across - 2 * _GAP, font), _INK, font)
    for row, height in zip(rows, heights, strict=True):
        for column, cell in enumerate(row):
            x = _GAP + column * (width + _GAP)
            page.paste(cell.pixels, (x, top))
            caption = _shortened(cell.caption, width, font)
            canvas.text((x, top + cell.pixels.height + 3), caption, _INK, font)
        top += height
    for (x, y), (color, name) in zip(places, legend, strict=True):
        canvas.rectangle((x, top + y + 2, x + 12, top + y + 14), fill=color)
        canvas.text((x + 18, top + y), name, _INK, font)
    return page


def _places(
    legend: Sequence[tuple[tuple[int, int, int], str]], across: int, font: ImageFont.FreeTypeFont
) -> tuple[list[tuple[int, int]], int]:
    """Where the entries of a legend go, and its height."""
    places, x, y = [], _GAP, 0
    for _, name in legend:
        width = round(font.getlength(name)) + 34
        if x > _GAP and x + width > across:
            x, y = _GAP, y + _LINE
        places.append((x, y))
        x += width
    return places, y + _LINE if legend else 0


def _shortened(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """A text that fits into some pixels, its beginning left out if need be."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength("…" + text) > width:
        text = text[1:]
    return "…" + text
