"""Reader of labelme annotations.

Boxes are parsed by supervision; polygons are copied from the file, as in
:mod:`resnest_d2.data.convert.yolo`.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from resnest_d2.errors import UserError
from resnest_d2.files import read_json
from resnest_d2.progress import counted

from .faults import Faults, fault_of_labelme, shape_type
from .labelled import LabelledImage, Object, Split, ellipse, named_after, size_of


def read_labelme(source: Path, faults: Faults) -> Iterator[Split]:
    """Reads one JSON file per image, with polygons, rectangles and circles.

    Shapes with the same label and group_id are one object. Other shapes are skipped with a warning.

    Args:
        source: folder of the files, which is one split.
        faults: takes faulty files.
    """
    files = sorted(source.glob("*.json"))
    if not files:
        raise UserError(f"There are no JSON files in {source}.")
    images = []
    for file in counted(files, "Annotations"):
        data = read_json(file)
        if fault := fault_of_labelme(data):
            faults.add(str(file), f"it is not of labelme: {fault}")
        elif (image := _image(file, data, faults)) is not None:
            images.append(image)
    yield Split(*named_after(source), source, [], images)


def _image(file: Path, data: dict, faults: Faults) -> LabelledImage | None:
    from supervision.dataset.formats.labelme import labelme_shapes_to_detections

    parts = PureWindowsPath(data["imagePath"]).parts  # which splits at both / and \
    shapes = [_without_circle({**s, "shape_type": shape_type(s)}) for s in data["shapes"]]
    kept = [s for s in shapes if s["shape_type"] in ("polygon", "rectangle")]
    for shape in shapes:
        if shape not in kept:
            faults.skip(str(file), f"skipped {shape['shape_type']}")
    said = (data.get("imageWidth") or 0, data.get("imageHeight") or 0)
    size = said if all(said) else size_of(file.parent.joinpath(*parts), faults)
    if size is None:
        return None
    width, height = size
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
    if shape["shape_type"] != "circle":
        return shape
    (x, y), rim = shape["points"]
    radius = math.dist((x, y), rim)
    return {**shape, "shape_type": "polygon", "points": ellipse((x, y), (radius, radius))}
