"""Rules for annotations and image entries, as a table of small functions.

Each function returns the reason why an entry is invalid, or None. Boxes are [x, y, width, height]
in pixels; ``image`` is an entry of "images".
"""

import math
import os
from collections.abc import Callable, Iterable

from resnest_d2.data.normalise import shown

from . import masks
from .masks import is_finite

LEAST = 1e-3  # pixels of a side; detectron2 drops boxes of less than 1e-5 after resizing
BEYOND = 1.0  # tolerance in pixels for boxes beyond the image, because tools round
LARGEST = 2**31 - 1  # side of an image, in the formats that have the largest
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
        return f"has no fields, it is {shown(repr(entry))}"
    if lacking := [name for name in fields if entry.get(name) is None]:
        return f"has no {', '.join(lacking)}"
    for name, type_ in fields.items():
        if not isinstance(entry[name], type_) or isinstance(entry[name], bool):
            value = shown(repr(entry[name]))
            return f"has {name} {value}, which is no {'text' if type_ is str else 'number'}"
        if isinstance(entry[name], float) and not math.isfinite(entry[name]):
            return f"has {name} {entry[name]}, which is no number"
    if section == "images":
        sides = entry["width"], entry["height"]
        if not all(0 < side <= LARGEST and side == int(side) for side in sides):
            return f"has a size of {shown(sides[0])} x {shown(sides[1])} pixels"
    return None


def missing_file(image: dict, folder: str) -> str | None:
    """Checks that an entry's image is in the folder."""
    if not os.path.isfile(os.path.join(folder, image["file_name"])):
        return f"there is no {image['file_name']} in {folder}"
    return None


def outside_folder(names: Iterable[str], folder: str | os.PathLike) -> str | None:
    """Says how many images lie outside of their folder, by their names; links in it may lead out.

    Args:
        names: file names of the images.
        folder: folder that they are relative to.
    """
    root = os.path.join(os.path.abspath(folder), "")
    found = [
        name
        for name in names
        if (os.path.isabs(name) or ".." in name)
        and not os.path.abspath(os.path.join(root, name)).startswith(root)
    ]
    if not found:
        return None
    return f"{len(found)} images are outside of the folder {folder}, such as {shown(found[0])}"


def is_box(box: object) -> bool:
    """Whether a box is a list of four finite numbers."""
    return isinstance(box, list) and len(box) == 4 and is_finite(box)


def _not_a_box(annotation: dict, image: dict | None) -> str | None:
    box = annotation["bbox"]
    if not is_box(box):
        return f"its bbox {shown(box)} is not [x, y, width, height]"
    if image and max(map(abs, box)) > masks.FAR * max(image["width"], image["height"]):
        size = f"{image['width']} x {image['height']}"
        return f"its bbox {box} reaches far beyond its image of {size}"
    return None


def _negative_box(annotation: dict, image: dict | None) -> str | None:
    box = annotation["bbox"]
    if is_box(box) and min(box[2:]) < 0:
        return f"its bbox {box} has a negative size and would be mirrored in training"
    return None


def _unusable_box(annotation: dict, image: dict | None) -> str | None:
    box = annotation["bbox"]
    if _not_a_box(annotation, image) or _negative_box(annotation, image):
        return None
    return _nothing_inside(box, image)


def _nothing_inside(box: list, image: dict | None) -> str | None:
    x, y, w, h = box
    if min(w, h) < LEAST:
        return f"its bbox {box} is empty"
    if image is None:
        return None
    inside = min(x + w, image["width"]) - max(x, 0), min(y + h, image["height"]) - max(y, 0)
    if min(inside) < LEAST:
        return f"its bbox {box} is outside its image of {image['width']} x {image['height']}"
    return None


def has_usable_box(annotation: dict, image: dict | None) -> bool:
    """Whether a part of the box is inside its image."""
    return not (
        _not_a_box(annotation, image)
        or _negative_box(annotation, image)
        or _nothing_inside(annotation["bbox"], image)
    )


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


def _no_area(annotation: dict, image: dict | None) -> str | None:
    if not has_usable_box(annotation, image):  # another rule reports it
        return None
    area = annotation.get("area")
    if area is None:
        return "has no area"
    if not is_finite([area]) or area <= 0:
        return f"has an area of {shown(area)}, but a box of {annotation['bbox'][2:]}"
    return None


def _bad_iscrowd(annotation: dict, image: dict | None) -> str | None:
    crowd = annotation.get("iscrowd", 0)
    return None if crowd in (0, 1) else f"has iscrowd {crowd!r}, not 0 or 1"


def _no_iscrowd(annotation: dict, image: dict | None) -> str | None:
    return None if "iscrowd" in annotation else "has no iscrowd"


def _ignored(annotation: dict, image: dict | None) -> str | None:
    if (annotation.get("ignore") or 0) == 0:
        return None
    return f"has ignore {annotation['ignore']!r}, which detectron2 refuses"


# Kind of finding -> rule. The image is None if its own entry is invalid.
ANNOTATION_RULES: dict[str, Callable[[dict, dict | None], str | None]] = {
    "not a box": _not_a_box,
    "not a mask": masks.mask_fault,
    "ignored": _ignored,
    "iscrowd": _bad_iscrowd,
    "negative box": _negative_box,
    "unusable box": _unusable_box,
    "box beyond image": _box_beyond_image,
    "polygon": masks.bad_polygon,
    "empty mask": masks.empty_mask,
    "area": _no_area,
    "no iscrowd": _no_iscrowd,
}
