"""Rules for masks: polygons [x, y, x, y, ...] in pixels, or RLE with size and counts.

Each rule returns the reason why a mask is invalid, or None; ``image`` is an entry of "images".
"""

import math
from array import array
from collections.abc import Sequence
from functools import lru_cache

import pycocotools.mask as mask_util

from resnest_d2.errors import UserError

FAR = 10  # sides of an image; pycocotools' memory grows with the length of a polygon
_POLYGONS = (list, array)  # as parsed, and packed by resnest_d2.data.annotations


def is_finite(values: Sequence) -> bool:
    """Whether all values are numbers, and none is infinite or NaN."""
    try:
        return all(map(math.isfinite, values))
    except (TypeError, OverflowError):  # not numbers, or too large for a float
        return False


def is_polygon(part: Sequence[float]) -> bool:
    """Whether [x, y, x, y, ...] has at least three points; detectron2 skips other polygons."""
    return len(part) >= 6 and len(part) % 2 == 0


def has_polygon_or_rle(annotation: dict) -> bool:
    """Whether an annotation without faults of its mask has one to train on."""
    mask = annotation.get("segmentation")
    return any(map(is_polygon, mask)) if isinstance(mask, list) else bool(mask)


def usable_mask(annotation: dict, image: dict | None) -> list | dict | None:
    """Returns the mask to train and evaluate on, None without one.

    Everything that reads masks takes them from here: pycocotools crashes on some invalid ones.

    Args:
        annotation: an entry of "annotations".
        image: its image, or None if that entry is invalid.

    Returns:
        Polygons with three points or more, or an RLE that covers its image.
    """
    mask = annotation.get("segmentation")
    if not mask or mask_fault(annotation, image) or empty_mask(annotation, image):
        return None
    return [part for part in mask if is_polygon(part)] or None if isinstance(mask, list) else mask


def mask_fault(annotation: dict, image: dict | None) -> str | None:
    """Checks that a mask can be read and fits its image."""
    mask = annotation.get("segmentation")
    if mask is None or mask in ([], {}, ""):
        return None
    if isinstance(mask, list) and all(isinstance(part, _POLYGONS) for part in mask):
        return _polygon_fault(mask, image)
    if isinstance(mask, str):
        return f"its segmentation is text, {mask[:20]!r}; write polygons or RLE as JSON"
    if not isinstance(mask, dict) or not {"size", "counts"} <= mask.keys():
        return "its segmentation is neither a list of polygons nor RLE with size and counts"
    try:
        runs = _run_lengths(mask["counts"])
    except UserError as error:
        return str(error)
    if image is None:
        return None
    size = [image["height"], image["width"]]
    if mask["size"] != size:
        return f"its RLE is of size {mask['size']}, its image of [height, width] {size}"
    if sum(runs) != size[0] * size[1]:
        return f"its RLE covers {sum(runs)} pixels, its image has {size[0] * size[1]}"
    return None


def _polygon_fault(polygons: list, image: dict | None) -> str | None:
    side = max(image["height"], image["width"]) if image else 10_000
    for part in polygons:
        if not is_finite(part):
            return f"has a polygon that is not of finite numbers: {list(part[:10])}"
        if len(part) and not (min(part) >= -FAR * side and max(part) <= (FAR + 1) * side):
            farthest = max(part, key=abs)
            size = f" of {image['width']} x {image['height']}" if image else ""
            return f"has a polygon with the coordinate {farthest:g}, far outside its image{size}"
    return None


def bad_polygon(annotation: dict, image: dict | None) -> str | None:
    """Checks that no polygon of a mask is skipped."""
    mask = annotation.get("segmentation")
    polygons = mask if isinstance(mask, list) else []
    for part in polygons:
        if isinstance(part, _POLYGONS) and not is_polygon(part):
            what = "an odd number of coordinates" if len(part) % 2 else "under three points"
            left = (
                "" if any(map(is_polygon, polygons)) else ", and no other; only its box can be used"
            )
            return f"has a polygon with {what}{left}: {list(part[:10])}"
    return None


def empty_mask(annotation: dict, image: dict | None) -> str | None:
    """Checks that an RLE has a pixel."""
    mask = annotation.get("segmentation")
    if not mask or not isinstance(mask, dict) or mask_fault(annotation, image):
        return None
    return None if any(_run_lengths(mask["counts"])[1::2]) else "its RLE is empty"


def area_of(annotation: dict, image: dict) -> float:
    """Area in pixels of the mask, or of the box without a usable mask."""
    mask, area = usable_mask(annotation, image), 0.0
    if mask:
        if isinstance(mask, list) or isinstance(mask["counts"], list):
            mask = mask_util.frPyObjects(mask, image["height"], image["width"])
        area = float(mask_util.area(mask_util.merge(mask) if isinstance(mask, list) else mask))
    return area or float(annotation["bbox"][2] * annotation["bbox"][3])


def _run_lengths(counts: object) -> list[int]:
    """Decodes the runs of an RLE; pycocotools would read past the end of an invalid one."""
    fault = f"its RLE has counts that do not decode: {str(counts)[:20]}"
    if isinstance(counts, list) and is_finite(counts):
        if any(run < 0 or run != int(run) for run in counts):
            raise UserError(fault)
        return counts
    if not isinstance(counts, str) or (runs := _decoded(counts)) is None:
        raise UserError(fault)
    return runs


@lru_cache(maxsize=2)  # several rules look at the same mask
def _decoded(counts: str) -> list[int] | None:
    """Decodes a compressed RLE; returns None for an invalid one.

    A character has five bits of a number, the lowest first, and a flag if more follow. From the
    fourth run on, numbers are differences to the run before the last (maskApi.c, rleFrString).
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return None if shift or any(run < 0 for run in runs) else runs
