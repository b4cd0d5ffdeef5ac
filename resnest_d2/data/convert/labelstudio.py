"""Reader of Label Studio's exports in the formats JSON and JSON-MIN.

Format: https://labelstud.io/guide/export. Coordinates are percent of the image's sides. The RLE of
brushes is that of https://github.com/thi-ng/umbrella (package rle-pack), of pixels' R, G, B, A.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from resnest_d2.errors import UserError
from resnest_d2.files import read_json
from resnest_d2.progress import counted

from .faults import Faults
from .image_names import ImageNames
from .labelled import (
    LabelledImage,
    Object,
    Split,
    ellipse,
    named_after,
    of_mask,
    of_polygon,
    size_of,
)


def read_labelstudio(
    source: Path, faults: Faults, *, folder: Path | None = None
) -> Iterator[Split]:
    """Reads rectangles, polygons, ellipses and brushes of one export, which is one split.

    Of several annotations of an image, the first one that is not cancelled is read. Other regions,
    and those without a label, are skipped with a warning.

    Args:
        source: JSON file, or a folder with it.
        faults: takes faulty regions.
        folder: of the images; by default ``images`` beside the file, or the file's folder.
    """
    file = source
    if source.is_dir():
        files = sorted(source.glob("*.json"))
        if len(files) != 1:
            raise UserError(f"{source} has {len(files)} JSON files; give the one of Label Studio.")
        file = files[0]
    tasks = read_json(file)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise UserError(f"{file} is not of Label Studio: it is no list of tasks.")
    if folder is None:
        folder = file.parent / "images"
        folder = folder if folder.is_dir() else file.parent
    names = ImageNames(folder)
    shown = counted(tasks, "Tasks")
    found = (_image(task, f"{file}, task {task.get('id')}", names, faults) for task in shown)
    images = [image for image in found if image is not None]
    yield Split(named_after(file.parent)[0], "", folder, [], images)


def _image(task: dict, place: str, names: ImageNames, faults: Faults) -> LabelledImage | None:
    try:
        link, regions = _contents(task, place, faults)
        path = names.find(link)
    except UserError as error:
        faults.add(place, str(error))
        return None
    size, objects = size_of(names.folder / path, faults), []
    if size is None:
        return None
    for region in regions:
        try:
            if (found := _object(region, size, place, faults)) is not None:
                objects.append(found)
        except UserError as error:
            faults.add(place, str(error))
    return LabelledImage(path, *size, objects)


def _contents(task: dict, place: str, faults: Faults) -> tuple[str, list[dict]]:
    """Link to a task's image, and its regions with their fields in one level."""
    if "data" not in task:  # JSON-MIN
        lists = [v for v in task.values() if isinstance(v, list)]
        regions = [r for part in lists for r in part if isinstance(r, dict)]
        return _link(task), regions
    done = [a for a in task.get("annotations") or () if not a.get("was_cancelled")]
    done.sort(key=lambda a: not a.get("ground_truth"))
    if len(done) > 1:
        faults.skip(place, f"used the first of {len(done)} annotations")
    results = done[0].get("result") or [] if done else []
    regions = []
    for result in results:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            raise UserError("a result has no value")
        regions.append({**result, **value})
    return _link(task["data"]), regions


def _link(fields: dict) -> str:
    """The image among a task's fields, which the labelling's author names."""
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    if link := texts.get("image") or texts.get("img"):
        return link
    links = [value for value in texts.values() if ImageNames.is_image(value)]
    if len(links) != 1:
        raise UserError(f"it has {len(links)} images, not one")
    return links[0]


def _object(region: dict, size: tuple[int, int], place: str, faults: Faults) -> Object | None:
    kind = next((key for key in _REGIONS if region.get(key)), None)
    if kind is None:
        what = region.get("type") or next((k for k in region if k.endswith("labels")), "region")
        faults.skip(place, f"skipped {what}")
        return None
    labels = region[kind]
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
        raise UserError(f"a region has the labels {labels}, not one")
    if _number(region, "image_rotation", 0.0):
        raise UserError(
            f"its image is rotated by {region['image_rotation']} degrees in Label Studio; rotate "
            "the file itself"
        )
    return _REGIONS[kind](region, labels[0], size)


def _number(region: dict, key: str, default: float | None = None) -> float:
    value = region.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"the {key} of a region is {value!r}, no number")
    return float(value)


def _rectangle(region: dict, label: str, size: tuple[int, int]) -> Object:
    if degrees := _number(region, "rotation", 0.0):
        raise UserError(
            f"a rectangle is rotated by {degrees:g} degrees; boxes here are upright, so draw it as "
            "a polygon or without rotation"
        )
    x, y, w, h = (_number(region, key) / 100 for key in ("x", "y", "width", "height"))
    return Object(label, [x * size[0], y * size[1], (x + w) * size[0], (y + h) * size[1]], [])


def _polygon(region: dict, label: str, size: tuple[int, int]) -> Object:
    points = region.get("points")
    if not isinstance(points, list) or len(points) < 3:
        raise UserError(f"the points of a polygon are {str(points)[:40]}, not three or more")
    corners = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise UserError(f"a point of a polygon is {str(point)[:40]}, not x and y")
        x, y = (_number({"point": v}, "point") for v in point)
        corners.append([x / 100 * size[0], y / 100 * size[1]])
    return of_polygon(label, corners)


def _ellipse(region: dict, label: str, size: tuple[int, int]) -> Object:
    x, rx = (_number(region, key) / 100 * size[0] for key in ("x", "radiusX"))
    y, ry = (_number(region, key) / 100 * size[1] for key in ("y", "radiusY"))
    degrees = _number(region, "rotation", 0.0)
    return of_polygon(label, ellipse((x, y), (rx, ry), degrees=degrees))


def _brush(region: dict, label: str, size: tuple[int, int]) -> Object:
    width, height = (int(_number(region, f"original_{side}")) for side in ("width", "height"))
    if (width, height) != size:
        raise UserError(
            f"a brush is of an image of {width} x {height} pixels, the file has "
            f"{size[0]} x {size[1]}"
        )
    rle = region.get("rle")
    if not isinstance(rle, list) or not all(type(v) is int and 0 <= v < 256 for v in rle):
        raise UserError("the rle of a brush is not of bytes")
    values = unpack_rle(bytes(rle), 4 * width * height)
    return of_mask(label, values.reshape(height, width, 4)[:, :, 3] > 0)


def unpack_rle(packed: bytes, number: int) -> np.ndarray:
    """Values of rle-pack, which has the number of values, their bits, bits of four lengths, runs.

    Args:
        packed: bytes of the RLE.
        number: of values that are expected.

    Raises:
        UserError: another number of values, or an RLE that is cut off.
    """
    bits = "".join(f"{byte:08b}" for byte in packed)
    position = 0

    def read(count: int) -> int:
        nonlocal position
        position += count
        if position > len(bits):
            raise UserError("the rle of a brush is cut off")
        return int(bits[position - count : position], 2)

    if (found := read(32)) != number:
        raise UserError(f"the rle of a brush has {found} values, not {number}")
    word = read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = np.zeros(number, np.uint32)
    i = 0
    while i < number:
        repeated = read(1)
        end = i + 1 + read(sizes[read(2)])
        if end > number:
            raise UserError("the rle of a brush is too long")
        if repeated:
            values[i:end] = read(word)
        else:
            values[i:end] = [read(word) for _ in range(end - i)]
        i = end
    return values


_REGIONS: dict[str, Callable[[dict, str, tuple[int, int]], Object]] = {
    "rectanglelabels": _rectangle,
    "polygonlabels": _polygon,
    "ellipselabels": _ellipse,
    "brushlabels": _brush,
}
