"""Guesses at boxes that are written in another form than [x, y, width, height] in pixels.

They look at all boxes of a file: single ones may be small, or reach beyond their image.
"""

from collections.abc import Iterator

from .findings import Finding
from .masks import usable_mask
from .rules import BEYOND, is_box

_FEW = 0.1  # share of normalised boxes below which each may be a fault of its own
_MOST, _SOME = 0.95, 0.2  # shares of boxes that may be corners, and that can hardly be sizes
_NEAR = 2.0  # pixels between a box and its mask


def guess_boxes(json_file: str, annotations: list[dict], images: dict) -> Iterator[Finding]:
    """Finds files whose boxes look normalised, or like corners.

    Args:
        json_file: path of the file.
        annotations: its annotations with all required fields.
        images: its images by id.
    """
    known = [
        a
        for a in annotations
        if is_box(a["bbox"]) and min(a["bbox"][2:]) > 0 and a["image_id"] in images
    ]
    small = [a for a in known if _looks_normalised(a["bbox"])]
    if small and len(small) >= _FEW * len(known):
        how = "looks like normalised boxes, but pixels are needed"
        yield Finding("normalised boxes", json_file, "", _reason(small, known, how))
        return
    corners = [a for a in known if _may_be_corners(a["bbox"], images[a["image_id"]])]
    if len(corners) < max(1, _MOST * len(known)):
        return
    votes = [_vote(a, images[a["image_id"]]) for a in corners]
    certain = [a for a, vote in zip(corners, votes, strict=True) if vote > 0]
    if len(certain) >= _SOME * len(known) and sum(votes) > 0:
        how = "looks like x0, y0, x1, y1, but x, y, width, height are needed"
        yield Finding("corners", json_file, "", _reason(certain, known, how))


def _reason(found: list[dict], known: list[dict], how: str) -> str:
    first = f"the bbox of annotation id {found[0]['id']} is {found[0]['bbox']}"
    return f"{len(found)} of {len(known)} boxes: {how}; {first}"


def _looks_normalised(box: list) -> bool:
    """Whether a box is within 0 .. 1, and not the one pixel [0, 0, 1, 1]."""
    return min(box) >= 0 and max(box) <= 1 and box != [0, 0, 1, 1]


def _may_be_corners(box: list, image: dict) -> bool:
    x, y, right, bottom = box
    inside = right <= image["width"] + BEYOND and bottom <= image["height"] + BEYOND
    return 0 <= x + BEYOND and 0 <= y + BEYOND and x < right and y < bottom and inside


def _vote(annotation: dict, image: dict) -> int:
    """1 if the last two numbers of a box are a corner, -1 if they are its size, 0 if either."""
    x, y, w, h = annotation["bbox"]
    corner = size = False
    mask, area = usable_mask(annotation, image), annotation.get("area")
    if isinstance(mask, list):
        end = max(v for part in mask for v in part[::2]), max(v for p in mask for v in p[1::2])
        corner, size = _near(end, (w, h)), _near(end, (x + w, y + h))
    if corner == size and isinstance(area, int | float):
        corner, size = area == (w - x) * (h - y), area == w * h
    if corner == size:
        corner = x + w > image["width"] + BEYOND or y + h > image["height"] + BEYOND
        size = False
    return corner - size


def _near(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return max(abs(a[0] - b[0]), abs(a[1] - b[1])) <= _NEAR
