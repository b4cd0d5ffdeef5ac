"""Reader of CVAT's format "CVAT for images 1.1".

Format: https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from resnest_d2.errors import UserError
from resnest_d2.progress import counted

from .faults import Faults, is_number
from .labelled import (
    LabelledImage,
    Object,
    Split,
    ellipse,
    named_after,
    of_mask,
    of_polygon,
    split_name,
)
from .voc import read_xml


def read_cvat(source: Path, faults: Faults, *, folder: Path | None = None) -> Iterator[Split]:
    """Reads boxes, polygons, masks and ellipses; subsets of the task are splits.

    Other shapes are skipped with a warning.

    Args:
        source: annotations.xml, or its folder.
        faults: takes faulty shapes.
        folder: of the images; by default ``images`` beside the file, or the file's folder.
    """
    file = source / "annotations.xml" if source.is_dir() else source
    if not file.is_file():
        raise UserError(f"{source} has no annotations.xml, which is CVAT's file.")
    root = read_xml(file, faults)
    if root is None:
        return
    if root.tag != "annotations":
        raise UserError(f"{file} is not of CVAT: it begins with <{root.tag}>, not <annotations>.")
    if root.find("track") is not None:
        raise UserError(
            f"{file} has tracks of a video. Export the task from CVAT as 'CVAT for images 1.1', "
            "which has their boxes image by image."
        )
    if folder is None:
        folder = file.parent / "images"
        folder = folder if folder.is_dir() else file.parent
    labels = root.iterfind("meta//labels/label")
    found = (label.findtext("name") for label in labels if label.find("parent") is None)
    classes = [name for name in dict.fromkeys(found) if name]  # without points of skeletons
    splits: dict[str, list[LabelledImage]] = {}
    for element in counted(root.findall("image"), "Images"):
        image = _image(element, f"{file}, image {element.get('name')!r}", faults)
        if image is not None:
            subset = element.get("subset", "")
            path = _path(image.path, folder, subset)
            splits.setdefault(split_name(subset), []).append(image._replace(path=path))
    if not splits and not faults:
        raise UserError(f"{file} has no images.")
    for split, images in splits.items():
        yield Split(named_after(file.parent)[0], split, folder, classes, images)


def _path(name: str, folder: Path, subset: str) -> str:
    """Path of an image, which an export with images has in a folder of its subset."""
    inside = f"{subset}/{name}"
    return inside if subset and (folder / inside).is_file() else name


def _image(element: Element, place: str, faults: Faults) -> LabelledImage | None:
    name, sides, objects = element.get("name"), ("width", "height"), []
    if not name or not all(element.get(side, "").isdecimal() for side in sides):
        faults.add(place, "the image has no name, width or height")
        return None
    width, height = (int(element.get(side, "")) for side in sides)
    for shape in element:
        read = _SHAPES.get(shape.tag)
        if read is None:
            faults.skip(place, f"skipped {shape.tag}")
            continue
        try:
            label = shape.get("label")
            if not label:
                raise UserError(f"a {shape.tag} has no label")
            objects.append(read(shape, label, (width, height)))
        except UserError as error:
            faults.add(place, str(error))
    return LabelledImage(name, width, height, objects)


def _numbers(element: Element, *names: str) -> list[float]:
    texts = [element.get(name, "") for name in names]
    for name, text in zip(names, texts, strict=True):
        if not is_number(text):
            raise UserError(f"the {name} of a {element.tag} is {text!r}, no number")
    return [float(text) for text in texts]


def _rotation(element: Element) -> float:
    return _numbers(element, "rotation")[0] if element.get("rotation") else 0.0


def _box(element: Element, label: str, size: tuple[int, int]) -> Object:
    if _rotation(element):
        raise UserError(
            f"a box is rotated by {element.get('rotation')} degrees; boxes here are upright, so "
            "draw it as a polygon or without rotation"
        )
    return Object(label, _numbers(element, "xtl", "ytl", "xbr", "ybr"), [])


def _polygon(element: Element, label: str, size: tuple[int, int]) -> Object:
    text = element.get("points", "")
    try:
        points = [[float(v) for v in point.split(",")] for point in text.split(";")]
    except ValueError as error:
        raise UserError(f"the points of a polygon are {text[:40]!r}, no numbers") from error
    if len(points) < 3 or any(len(point) != 2 or not np.isfinite(point).all() for point in points):
        raise UserError(f"the points of a polygon are {text[:40]!r}, not three or more x,y")
    return of_polygon(label, points)


def _ellipse(element: Element, label: str, size: tuple[int, int]) -> Object:
    x, y, rx, ry = _numbers(element, "cx", "cy", "rx", "ry")
    return of_polygon(label, ellipse((x, y), (rx, ry), degrees=_rotation(element)))


def _mask(element: Element, label: str, size: tuple[int, int]) -> Object:
    """Runs of background and object in turns, along the rows of a box in the image."""
    x, y, w, h = map(int, _numbers(element, "left", "top", "width", "height"))
    try:
        runs = [int(v) for v in element.get("rle", "").split(",")]
    except ValueError as error:
        raise UserError("the rle of a mask is not of whole numbers") from error
    if min(runs) < 0 or sum(runs) != w * h:
        raise UserError(f"the rle of a mask covers {sum(runs)} pixels, its box has {w * h}")
    if x < 0 or y < 0 or x + w > size[0] or y + h > size[1]:
        raise UserError(f"a mask is at {x}, {y} of {w} x {h} pixels, outside its image")
    inside = np.repeat(np.arange(len(runs)) % 2, runs).reshape(h, w)
    return of_mask(label, np.pad(inside, ((y, size[1] - y - h), (x, size[0] - x - w))))


_SHAPES: dict[str, Callable[[Element, str, tuple[int, int]], Object]] = {
    "box": _box,
    "polygon": _polygon,
    "mask": _mask,
    "ellipse": _ellipse,
}
