"""Rules for annotations and image entries, as a table of small functions.

Each function returns the reason why an entry is invalid, or None. Boxes are [x, y, width, height]
in pixels; ``image`` is an entry of "images".
"""

import math
import os
from array import array
from collections.abc import Callable, Sequence

import pycocotools.mask as mask_util

from resnest_d2.errors import UserError

BEYOND = 1.0  # tolerance in pixels for boxes beyond the image, because tools round
_POLYGONS = (list, array)  # as parsed, and packed by resnest_d2.data.annotations
_NUMBER, _ID = (int, float), (int, float, str)
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "categories": {"id": _NUMBER, "name": str},
    "images": {"id": _ID, "file_name": str, "height": _NUMBER, "width": _NUMBER},
    "annotations": {"id": _ID, "image_id": _ID, "category_id": _ID, "bbox": object},
}


def field_fault(section: str, entry: dict) -> str | None:
    """Checks the required fields of an entry.

    Args:
        section: "categories", "images" or "annotations".
        entry: entry of this section.
    """
    fields = _FIELDS[section]
    if not isinstance(entry, dict):
        return f"has no fields, it is {entry!r}"
    if lacking := [name for name in fields if entry.get(name) is None]:
        return f"has no {', '.join(lacking)}"
    for name, type_ in fields.items():
        if not isinstance(entry[name], type_) or isinstance(entry[name], bool):
            return f"has {name} {entry[name]!r}, which is no {'text' if type_ is str else 'number'}"
    if section == "images" and min(entry["height"], entry["width"]) <= 0:
        return f"has a size of {entry['width']} x {entry['height']} pixels"
    return None


def missing_file(image: dict, folder: str) -> str | None:
    """Checks that an entry's image is in the folder."""
    if not os.path.isfile(os.path.join(folder, image["file_name"])):
        return f"there is no {image['file_name']} in {folder}"
    return None


def _finite(values: list) -> bool:
    try:
        return all(map(math.isfinite, values))
    except (TypeError, OverflowError):  # not numbers, or too large for a float
        return False


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and _finite(box)


def _not_a_box(annotation: dict, image: dict | None) -> str | None:
    box = annotation["bbox"]
    return None if _is_box(box) else f"its bbox {box} is not [x, y, width, height]"


def _negative_box(annotation: dict, image: dict | None) -> str | None:
    box = annotation["bbox"]
    if _is_box(box) and min(box[2:]) < 0:
        return f"its bbox {box} has a negative size and would be mirrored in training"
    return None


def _unusable_box(annotation: dict, image: dict | None) -> str | None:
    box = annotation["bbox"]
    if not _is_box(box) or _negative_box(annotation, image):
        return None
    x, y, w, h = box
    if w == 0 or h == 0:
        return f"its bbox {box} is empty"
    if image and (x >= image["width"] or y >= image["height"] or x + w <= 0 or y + h <= 0):
        return f"its bbox {box} is outside its image of {image['width']} x {image['height']}"
    return None


def has_usable_box(annotation: dict, image: dict | None) -> bool:
    """Whether a part of the box is inside its image."""
    faults = (rule(annotation, image) for rule in (_not_a_box, _negative_box, _unusable_box))
    return not any(faults)


def _box_beyond_image(annotation: dict, image: dict | None) -> str | None:
    if image is None or not has_usable_box(annotation, image):
        return None
    x, y, w, h = annotation["bbox"]
    beyond = max(-x, -y, x + w - image["width"], y + h - image["height"])
    if beyond <= BEYOND:
        return None
    return (
        f"its bbox {annotation['bbox']} reaches {beyond:g} pixels beyond its image of "
        f"{image['width']} x {image['height']}"
    )


def _not_a_mask(annotation: dict, image: dict | None) -> str | None:
    mask = annotation.get("segmentation")
    if not mask:
        return None
    if isinstance(mask, list) and all(isinstance(part, _POLYGONS) for part in mask):
        bad = next((part for part in mask if not _finite(part)), None)
        return f"has a polygon that is not of numbers: {list(bad[:10])}" if bad else None
    if not isinstance(mask, dict) or not {"size", "counts"} <= mask.keys():
        return "its segmentation is neither a list of polygons nor RLE with size and counts"
    if image is None:
        return None
    size = [image["height"], image["width"]]
    if mask["size"] != size:
        return f"its RLE is of size {mask['size']}, its image of [height, width] {size}"
    try:
        covered = sum(_run_lengths(mask["counts"]))
    except UserError as error:
        return str(error)
    if covered != size[0] * size[1]:
        return f"its RLE covers {covered} pixels, its image has {size[0] * size[1]}"
    return None


def _run_lengths(counts: list | str) -> list[int]:
    """Decodes the runs of an RLE; pycocotools would read past the end of an invalid one.

    In a compressed RLE, a character has five bits of a number, the lowest first, and a flag if
    more follow. From the fourth run on, numbers are differences to the run before the last
    (maskApi.c, rleFrString).
    """
    fault = f"its RLE has counts that do not decode: {str(counts)[:20]}"
    if isinstance(counts, list):
        if not _finite(counts) or any(run < 0 or run != int(run) for run in counts):
            raise UserError(fault)
        return counts
    if not isinstance(counts, str):
        raise UserError(fault)
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            raise UserError(fault)
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift or any(run < 0 for run in runs):
        raise UserError(fault)
    return runs


def is_polygon(part: Sequence[float]) -> bool:
    """Whether [x, y, x, y, ...] has at least three points; detectron2 skips other polygons."""
    return len(part) >= 6 and len(part) % 2 == 0


def _bad_polygon(annotation: dict, image: dict | None) -> str | None:
    mask = annotation.get("segmentation")
    if not isinstance(mask, list):
        return None
    for part in mask:
        if isinstance(part, _POLYGONS) and not is_polygon(part):
            what = "an odd number of coordinates" if len(part) % 2 else "under three points"
            return f"has a polygon with {what}: {list(part[:10])}"
    return None


def area_of(annotation: dict, image: dict) -> float:
    """Area in pixels of the mask, or of the box without a usable mask."""
    mask, area = annotation.get("segmentation"), 0.0
    if isinstance(mask, list):
        mask = [part for part in mask if is_polygon(part)]
    if mask:
        if isinstance(mask, list) or isinstance(mask["counts"], list):
            mask = mask_util.frPyObjects(mask, image["height"], image["width"])
        area = float(mask_util.area(mask_util.merge(mask) if isinstance(mask, list) else mask))
    return area or float(annotation["bbox"][2] * annotation["bbox"][3])


def _no_area(annotation: dict, image: dict | None) -> str | None:
    if not has_usable_box(annotation, image):  # another rule reports it
        return None
    area = annotation.get("area")
    if area is None:
        return "has no area"
    if not isinstance(area, int | float) or not area > 0:
        return f"has an area of {area!r}, but a box of {annotation['bbox'][2:]}"
    return None


def _bad_iscrowd(annotation: dict, image: dict | None) -> str | None:
    crowd = annotation.get("iscrowd", 0)
    return None if crowd in (0, 1) else f"has iscrowd {crowd!r}, not 0 or 1"


def _no_iscrowd(annotation: dict, image: dict | None) -> str | None:
    return None if "iscrowd" in annotation else "has no iscrowd"


def _ignored(annotation: dict, image: dict | None) -> str | None:
    if annotation.get("ignore", 0) == 0:
        return None
    return f"has ignore {annotation['ignore']!r}, which detectron2 refuses"


# Kind of finding -> rule. The image is None if its own entry is invalid.
ANNOTATION_RULES: dict[str, Callable[[dict, dict | None], str | None]] = {
    "not a box": _not_a_box,
    "not a mask": _not_a_mask,
    "ignored": _ignored,
    "iscrowd": _bad_iscrowd,
    "negative box": _negative_box,
    "unusable box": _unusable_box,
    "box beyond image": _box_beyond_image,
    "polygon": _bad_polygon,
    "area": _no_area,
    "no iscrowd": _no_iscrowd,
}
