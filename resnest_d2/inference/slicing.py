"""Small objects in large images: the image is cut into overlapping slices, and whole, too.

An image of 4,000 pixels is reduced to 1,333 for the detector, and an object of 20 pixels to 7; in a
slice of 640 it is enlarged instead. The slices' detections are merged by class: of two that overlap
the better one stays, and one that the border of a slice has cut goes where a whole one covers it.

Shapes: N detections, H, W of the image.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from resnest_d2.errors import UserError

from .masks import PackedMasks

SAME = 0.5  # overlap from which two detections of a class are one object
_MARGIN = 2.0  # pixels from a border within which it has cut a box


class Slice(NamedTuple):
    """A part of an image, in pixels; the last row and column are not in it."""

    y0: int
    x0: int
    y1: int
    x1: int


class Slicing(NamedTuple):
    """Side of the slices in pixels, and the share of it that neighbours overlap."""

    size: int
    overlap: float = 0.2


def slicing_of(size: int | None, overlap: float) -> Slicing | None:
    """The slicing that was asked for, None for none.

    Raises:
        UserError: a value out of range.
    """
    if size is None:
        return None
    if size < 32:
        raise UserError(f"The size of slices is {size}; choose 32 pixels or more.")
    if not 0 <= overlap < 0.9:
        raise UserError(f"The overlap of slices is {overlap:g}; choose 0 to below 0.9.")
    return Slicing(size, overlap)


def slices(height: int, width: int, slicing: Slicing) -> list[Slice]:
    """The whole image first, then its slices, unless it is no larger than one."""
    whole = Slice(0, 0, height, width)
    if max(height, width) <= slicing.size:
        return [whole]
    step = max(1, round(slicing.size * (1 - slicing.overlap)))
    rows, columns = (_starts(side, slicing.size, step) for side in (height, width))
    return [whole] + [
        Slice(y, x, min(y + slicing.size, height), min(x + slicing.size, width))
        for y in rows
        for x in columns
    ]


def _starts(side: int, size: int, step: int) -> list[int]:
    """Evenly spread, so that the first slice begins and the last ends at the image's border."""
    number = max(0, -(-(side - size) // step)) + 1
    return [round(start) for start in np.linspace(0, max(0, side - size), number)]


def merge(found: Sequence[Instances], parts: Sequence[Slice], size: tuple[int, int]) -> Instances:
    """Detections of the slices as detections of the image, in order of falling score.

    Args:
        found: detections of each slice, in pixels of the slice, on the CPU.
        parts: the slices.
        size: H and W of the image.
    """
    from supervision import OverlapMetric, box_iou_batch, box_non_max_suppression

    placed = Instances.cat(
        [_place(one, part, size) for one, part in zip(found, parts, strict=True)]
    )
    cut = np.concatenate([_is_cut(one, part, size) for one, part in zip(found, parts, strict=True)])
    boxes, scores = placed.pred_boxes.tensor.numpy(), placed.scores.numpy()
    classes = placed.pred_classes.numpy()
    ranks = scores - cut  # those that are cut come after all others
    table = np.column_stack([boxes, ranks, classes]).astype(float)
    kept = np.flatnonzero(box_non_max_suppression(table, SAME)) if len(table) else np.arange(0)
    pieces, others = kept[cut[kept]], kept[~cut[kept]]
    if len(pieces) and len(others):
        covered = box_iou_batch(boxes[others], boxes[pieces], OverlapMetric.IOS) > SAME
        covered &= classes[others][:, None] == classes[pieces]
        kept = np.concatenate([others, pieces[~covered.any(axis=0)]])
    return placed[torch.from_numpy(kept[np.argsort(-scores[kept], kind="stable")])]


def _place(found: Instances, part: Slice, size: tuple[int, int]) -> Instances:
    """Detections of a slice in pixels of the image, with masks as RLE."""
    placed = Instances(size)
    for name, value in found.get_fields().items():
        if name == "pred_boxes":
            offset = value.tensor.new_tensor([part.x0, part.y0, part.x0, part.y0])
            value = Boxes(value.tensor + offset)
        elif name == "pred_keypoints":
            value = value + value.new_tensor([part.x0, part.y0, 0])
        elif name == "pred_masks":
            value = PackedMasks.place(value, (part.y0, part.x0), size)
        placed.set(name, value)
    return placed


def _is_cut(found: Instances, part: Slice, size: tuple[int, int]) -> np.ndarray:
    """Whether each box (N,) ends at a border of its slice that is none of the image."""
    x0, y0, x1, y1 = found.pred_boxes.tensor.numpy().T
    height, width = part.y1 - part.y0, part.x1 - part.x0
    cut = (x0 < _MARGIN) & (part.x0 > 0) | (y0 < _MARGIN) & (part.y0 > 0)
    cut |= (x1 > width - _MARGIN) & (part.x1 < size[1])
    return cut | (y1 > height - _MARGIN) & (part.y1 < size[0])
