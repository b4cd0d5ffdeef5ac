"""Readers of YOLO, Pascal VOC and labelme annotations.

The annotations of an image are parsed by supervision (extra ``supervision``,
https://supervision.roboflow.com). Only its boxes are used. Polygons are copied from the file,
because supervision's masks are drawn from rounded corners including their rim: a square of 4 x 4
pixels becomes 5 x 5.
"""

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import NamedTuple
from xml.etree.ElementTree import Element

from resnest_d2.data.validate.images import image_size
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import read_json, read_text, read_yaml

from .faults import fault_of_labelme, fault_of_voc, fault_of_yolo

_IMAGES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_SPLITS = ("train", "val", "test")


class Object(NamedTuple):
    """Class name, box [x0, y0, x1, y1] in pixels, and flat polygons ([] for none) of an object."""

    name: str
    box: list[float]
    polygons: list[list[float]]


class LabelledImage(NamedTuple):
    """Path of an image relative to its split's folder, size in pixels, and objects."""

    path: str
    width: int
    height: int
    objects: list[Object]


class Split(NamedTuple):
    """Images and their folder; ``classes`` in the format's order, [] if it has none."""

    name: str
    folder: Path
    classes: list[str]
    images: list[LabelledImage]


def read_yolo(source: Path) -> Iterator[Split]:
    """Reads the splits of a data.yaml; labels are in ``labels`` beside each ``images`` folder.

    An image without labels has no objects.

    Args:
        source: data.yaml file, or its folder.
    """
    file = source / "data.yaml" if source.is_dir() else source
    data = read_yaml(file)
    names = data.get("names") if isinstance(data, dict) else None
    names = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(names, dict):
        raise UserError(f"{file} has no names: a list of class names, or a mapping of ids to them.")
    if wrong := [id_ for id_ in names if not str(id_).isdigit()]:
        raise UserError(f"{file}: the id {wrong[0]!r} among its names is no whole number.")
    names = {int(id_): str(names[id_]) for id_ in sorted(names, key=int)}
    root = file.parent / str(data.get("path", ""))
    given = [split for split in _SPLITS if data.get(split)]
    if not given:
        raise UserError(f"{file} has no images: it has none of the keys {', '.join(_SPLITS)}.")
    for split in given:
        folder = _yolo_folder(data[split], [root, file.parent], f"{file}: {split}")
        images = [_yolo_image(path, folder, names) for path in _images(folder)]
        yield Split(split, folder, list(names.values()), images)


def _yolo_folder(given: object, roots: list[Path], what: str) -> Path:
    if isinstance(given, str):
        # Roboflow writes ../train/images instead of train/images.
        for path in (given, given.removeprefix("../")):
            for root in roots:
                if (root / path).is_dir():
                    return root / path
    raise UserError(f"{what} is {given!r}, not a folder of images.")


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES)


def _yolo_image(path: Path, folder: Path, names: dict[int, str]) -> LabelledImage:
    from supervision.dataset.formats.yolo import yolo_annotations_to_detections

    width, height = image_size(str(path))
    parts = list(path.parts)
    if "images" in parts:  # replace the last one
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    labels, objects = Path(*parts).with_suffix(".txt"), []
    text = read_text(labels) if labels.is_file() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    for line in lines:
        if fault := fault_of_yolo(line.split(), names):
            raise UserError(f"{labels}: {fault}, in the line {line[:60]!r}.")
    found = yolo_annotations_to_detections(lines, (width, height), with_masks=False)
    ids = found.class_id if lines else ()  # supervision has none without objects
    for line, box, id_ in zip(lines, found.xyxy, ids, strict=True):
        values = [float(value) for value in line.split()[1:]]
        polygon = [v * (height if i % 2 else width) for i, v in enumerate(values)]
        # Five and six values are a box, an odd one at the end a confidence.
        polygons = [polygon[: len(polygon) // 2 * 2]] if len(values) > 5 else []
        objects.append(Object(names[int(id_)], box.tolist(), polygons))
    return LabelledImage(path.relative_to(folder).as_posix(), width, height, objects)


def read_voc(source: Path) -> Iterator[Split]:
    """Reads XML files in Annotations and images in JPEGImages, or both in one folder.

    Args:
        source: folder of the dataset; without ImageSets/Main it is a single split.
    """
    from defusedxml.ElementTree import parse  # with supervision

    labels = _subfolder(source, "Annotations", "annotations")
    folder = _subfolder(source, "JPEGImages", "images")
    trees = {}
    for path in sorted(labels.glob("*.xml")):
        try:
            trees[path.stem] = parse(path).getroot()
        except SyntaxError as error:
            raise UserError(f"{path} is not XML: {error}.") from error
    if not trees:
        raise UserError(f"There are no XML files in {labels}.")
    lists = [source / "ImageSets" / "Main" / f"{split}.txt" for split in _SPLITS]
    splits = {p.stem: read_text(p).split() for p in lists if p.is_file()}
    for name, stems in (splits or {source.resolve().name: list(trees)}).items():
        if absent := [stem for stem in stems if stem not in trees]:
            raise UserError(f"{name}: there is no {absent[0]}.xml in {labels}.")
        images = [_voc_image(trees[stem], stem, folder) for stem in stems]
        yield Split(name, folder, [], images)


def _subfolder(source: Path, *names: str) -> Path:
    return next((source / name for name in names if (source / name).is_dir()), source)


def _voc_image(root: Element, stem: str, folder: Path) -> LabelledImage:
    from supervision.dataset.formats.pascal_voc import (
        detections_from_xml_obj,
        parse_polygon_points,
    )

    if fault := fault_of_voc(root):
        raise UserError(f"{stem}.xml: {fault}.")
    name = root.findtext("filename") or f"{stem}.jpg"
    said = [int(float(root.findtext(f"size/{side}") or 0)) for side in ("width", "height")]
    width, height = said if all(said) else _size_of(folder / name)
    found = root.findall("object")
    polygons = [[parse_polygon_points(p) - 1 for p in o.findall("polygon")] for o in found]
    for one in found:  # otherwise supervision draws a mask of the whole image for each
        for polygon in one.findall("polygon"):
            one.remove(polygon)
    boxes, classes = detections_from_xml_obj(root, [], (width, height))
    objects = [
        Object(classes[id_], box.tolist(), [part.ravel().tolist() for part in parts])
        for box, id_, parts in zip(boxes.xyxy, boxes.class_id, polygons, strict=True)
    ]
    return LabelledImage(name, width, height, objects)


def _size_of(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise MissingFileError(f"There is no {path}, and its annotations do not give its size.")
    return image_size(str(path))


def read_labelme(source: Path) -> Iterator[Split]:
    """Reads one JSON file per image, with polygons, rectangles and circles.

    Shapes with the same label and group_id are one object. Other shapes are skipped with a warning.

    Args:
        source: folder of the files; the split gets its name.
    """
    files = sorted(source.glob("*.json"))
    if not files:
        raise UserError(f"There are no JSON files in {source}.")
    yield Split(source.resolve().name, source, [], [_labelme_image(file) for file in files])


def _labelme_image(file: Path) -> LabelledImage:
    from supervision.dataset.formats.labelme import labelme_shapes_to_detections

    data = read_json(file)
    if fault := fault_of_labelme(data):
        raise UserError(f"{file} is not of labelme: {fault}.")
    name, shapes = data["imagePath"], [_without_circle(shape) for shape in data["shapes"]]
    parts = PureWindowsPath(name).parts  # which splits at both / and \
    kept = [s for s in shapes if s.get("shape_type") in ("polygon", "rectangle")]
    if len(kept) < len(shapes):
        left = sorted({str(s.get("shape_type")) for s in shapes if s not in kept})
        logging.getLogger(__name__).warning(f"{file}: skipped {', '.join(left)}.")
    said = (data.get("imageWidth") or 0, data.get("imageHeight") or 0)
    width, height = said if all(said) else _size_of(file.parent.joinpath(*parts))
    index = {s["label"]: i for i, s in enumerate(kept)}
    groups: dict = {}  # in the order of supervision's objects
    for i, shape in enumerate(kept):
        group = shape.get("group_id")
        key = i if group is None else (shape["label"], group)
        polygon = shape["points"] if shape["shape_type"] == "polygon" else None
        groups.setdefault(key, []).append(polygon)
    found = labelme_shapes_to_detections(kept, index, (width, height), with_masks=False)
    objects = []
    ids = found.class_id if kept else ()  # supervision has none without objects
    for box, id_, polygons in zip(found.xyxy, ids, groups.values(), strict=True):
        flat = [[v for point in polygon for v in point] for polygon in polygons if polygon]
        objects.append(Object(kept[id_]["label"], box.tolist(), flat))
    return LabelledImage(os.path.join(*parts), int(width), int(height), objects)


def _without_circle(shape: dict) -> dict:
    """Converts a circle (its centre and a point on its rim) to a polygon of 64 corners."""
    if shape.get("shape_type") != "circle":
        return shape
    (x, y), rim = shape["points"]
    radius = math.dist((x, y), rim)
    turns = [2 * math.pi * i / 64 for i in range(64)]
    points = [[x + radius * math.cos(t), y + radius * math.sin(t)] for t in turns]
    return {**shape, "shape_type": "polygon", "points": points}
