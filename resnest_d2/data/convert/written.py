"""Annotations of an image as the text of YOLO and of Pascal VOC.

YOLO: https://docs.ultralytics.com/datasets/detect/ and segment/. Pascal VOC:
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import yaml

from resnest_d2.data.validate.masks import is_polygon


class Lost:
    """Counts of what a format cannot hold.

    Attributes:
        objects: number that is written.
    """

    def __init__(self) -> None:
        """See the class."""
        self.objects = 0
        self._counts: Counter[str] = Counter()

    def add(self, what: str, number: int = 1) -> None:
        """Counts entries, in words that follow a number."""
        self._counts[what] += number

    def sentences(self) -> list[str]:
        """One for each kind of loss, with its count."""
        return [f"{number} {what}." for what, number in self._counts.items()]


class Annotated(NamedTuple):
    """An image, and (class, [x0, y0, x1, y1] in pixels, segmentation of COCO) of its objects."""

    path: str
    width: int
    height: int
    objects: list[tuple[str, list[float], Any]]


def yolo_yaml(splits: Sequence[str], classes: Sequence[str]) -> str:
    """Contents of data.yaml, without a path: the folders are beside it."""
    data: dict[str, Any] = {split: f"images/{split}" for split in splits}
    return yaml.safe_dump(
        data | {"names": dict(enumerate(classes))}, sort_keys=False, allow_unicode=True
    )


def yolo_labels(image: Annotated, classes: Sequence[str], lost: Lost) -> str:
    """Lines of a class and the numbers of a box or a polygon, as shares of the image's sides.

    Ultralytics takes all lines of a file for polygons if one of them is, so a box among them is
    written as a polygon of four corners.
    """
    outlines = [_outline(box, mask, lost) for _, box, mask in image.objects]
    with_polygons = any(outlines)
    lines = []
    for (name, box, _), outline in zip(image.objects, outlines, strict=True):
        x0, y0, x1, y1 = box
        if outline:
            points = _within(outline, image, lost)
        elif with_polygons:
            lost.add("boxes without a polygon are written as one, beside polygons in their image")
            points = [x0, y0, x1, y0, x1, y1, x0, y1]
        else:
            points = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
        shares = [v / (image.height if i % 2 else image.width) for i, v in enumerate(points)]
        lines.append(" ".join([str(classes.index(name)), *(f"{share:.9g}" for share in shares)]))
    return "".join(f"{line}\n" for line in lines)


def _outline(box: list[float], mask: Any, lost: Lost) -> list[float]:
    """One flat polygon of an object, [] if it has none."""
    if isinstance(mask, dict):
        lost.add("masks in RLE are left out; their boxes are kept")
        return []
    parts = [list(part) for part in mask if is_polygon(part)]
    if not parts:
        return []
    if len(parts) > 1:  # there and back along lines without width, as Ultralytics joins them
        lost.add("objects of several polygons are written as one, joined by lines")
    outline = list(parts[0])
    start = outline[:2]
    for part in parts[1:]:
        outline += [*start, *part, *part[:2]]
    outline += start if len(parts) > 1 else []
    around = [min(outline[::2]), min(outline[1::2]), max(outline[::2]), max(outline[1::2])]
    if max(abs(a - b) for a, b in zip(around, box, strict=True)) > 1:
        lost.add("boxes differ by over a pixel from their polygons, which replace them")
    return outline


def _within(points: list[float], image: Annotated, lost: Lost) -> list[float]:
    """A polygon with its corners moved into the image, as Ultralytics refuses others."""
    sides = (image.width, image.height)
    moved = [min(max(v, 0), sides[i % 2]) for i, v in enumerate(points)]
    if moved != points:
        lost.add("polygons that reach beyond their image are cut")
    return moved


def voc_annotation(image: Annotated, file_name: str, lost: Lost) -> str:
    """XML with boxes in whole pixels, which are counted from 1 and whose last belongs to the box.

    Args:
        image: image and objects.
        file_name: of the image in JPEGImages.
        lost: takes what the format cannot hold.
    """
    root = ElementTree.Element("annotation")
    _text(root, "folder", "JPEGImages")
    _text(root, "filename", file_name)
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        _text(size, name, value)
    _text(root, "segmented", 0)
    for name, (x0, y0, x1, y1), mask in image.objects:
        one = ElementTree.SubElement(root, "object")
        for key, text in (("name", name), ("pose", "Unspecified"), ("truncated", 0)):
            _text(one, key, text)
        _text(one, "difficult", 0)
        box = ElementTree.SubElement(one, "bndbox")
        left, top = min(round(x0), image.width - 1), min(round(y0), image.height - 1)
        if mask:
            lost.add("masks are left out; their boxes are kept")
        if any(v != round(v) for v in (x0, y0, x1, y1)):
            lost.add("boxes are rounded to whole pixels")
        for key, value in (
            *(("xmin", left + 1), ("ymin", top + 1)),
            *(("xmax", max(round(x1), left + 1)), ("ymax", max(round(y1), top + 1))),
        ):
            _text(box, key, value)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _text(parent: ElementTree.Element, name: str, text: object) -> None:
    ElementTree.SubElement(parent, name).text = str(text)
