"""What is drawn of detectron2's Instances, annotated or detected, and of panoptic segments.

Shapes: N objects, H, W of the image.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import BitMasks, Instances
from detectron2.structures.masks import polygons_to_bitmask

from .colors import RGB, color_of
from .paint import Item

VISIBLE = 0.05  # lowest score of a keypoint that is drawn, as in detectron2's Visualizer


def items_of(
    instances: Instances, names: Sequence[str] | None, *, scores: bool = True
) -> list[Item]:
    """Items of detections (``pred_boxes``) or annotations (``gt_boxes``).

    Args:
        instances: on the CPU.
        names: of the classes; a class without a name has its index.
        scores: whether scores are written.
    """
    kind = "pred" if instances.has("pred_classes") else "gt"
    fields = instances.get_fields()
    classes = fields[f"{kind}_classes"].tolist()
    boxes = fields[f"{kind}_boxes"].tensor.numpy()
    masks = _masks(fields.get(f"{kind}_masks"), instances.image_size, len(classes))
    points = _points(fields.get(f"{kind}_keypoints"), len(classes), kind)
    values = fields["scores"].tolist() if scores and "scores" in fields else [None] * len(classes)
    return [
        Item(name_of(number, names), color_of(number), box, score, mask, visible)
        for number, box, score, mask, visible in zip(
            classes, boxes, values, masks, points, strict=True
        )
    ]


def name_of(number: int, names: Sequence[str] | None) -> str:
    """Name of a class; its index if it has none."""
    name = names[number] if names and number < len(names) else ""
    return name if name.strip() else str(number)


def skeleton_of(metadata: Metadata) -> list[tuple[int, int]]:
    """Pairs of keypoints that the metadata connects, as indices."""
    names = metadata.get("keypoint_names") or []
    rules = metadata.get("keypoint_connection_rules") or []
    return [(names.index(a), names.index(b)) for a, b, _ in rules if a in names and b in names]


def segments_of(
    segments: torch.Tensor, described: Sequence[dict], metadata: Metadata, *, scores: bool = True
) -> list[Item]:
    """Items of a panoptic detector.

    Args:
        segments: number of the segment at each pixel (H, W).
        described: "id", "isthing" and "category_id" of each segment, "score" of things.
        metadata: names of the classes of things and of stuff; colours of stuff, if given.
        scores: whether scores are written.
    """
    shown, items = segments.numpy(), []
    for segment in described:
        mask = shown == segment["id"]
        if not mask.any():
            continue
        number, thing = segment["category_id"], segment["isthing"]
        name = name_of(number, metadata.get("thing_classes" if thing else "stuff_classes"))
        color = color_of(number) if thing else _stuff_color(number, metadata)
        score = segment.get("score") if scores else None
        box = _bounds(mask) if thing else _middle(mask)
        items.append(Item(name, color, box, score, mask, region=not thing))
    return items


def _masks(masks: Any, size: tuple[int, int], number: int) -> Sequence[np.ndarray | None]:
    """Masks bool (H, W), each when it is asked for where they are polygons."""
    if masks is None:
        return [None] * number
    if isinstance(masks, BitMasks | torch.Tensor):
        tensor = masks.tensor if isinstance(masks, BitMasks) else masks
        return [mask.numpy().astype(bool, copy=False) for mask in tensor]
    if not hasattr(masks, "polygons"):
        return list(masks)  # each an array when it is asked for, as of sliced images
    return [polygons_to_bitmask(polygons, *size) for polygons in masks.polygons]


def _points(keypoints: Any, number: int, kind: str) -> list[dict[int, tuple[float, float]]]:
    """Places of the visible keypoints of each object by their number."""
    if keypoints is None:
        return [{} for _ in range(number)]
    lowest = VISIBLE if kind == "pred" else 0
    tensor = keypoints if isinstance(keypoints, torch.Tensor) else keypoints.tensor
    return [
        {k: (x, y) for k, (x, y, visible) in enumerate(points) if visible > lowest}
        for points in tensor.tolist()
    ]


def _stuff_color(number: int, metadata: Metadata) -> RGB:
    colors = metadata.get("stuff_colors")
    if colors and number < len(colors):
        red, green, blue = colors[number]
        return int(red), int(green), int(blue)
    return color_of(len(metadata.get("thing_classes") or ()) + number)


def _bounds(mask: np.ndarray) -> np.ndarray:
    """The box around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def _middle(mask: np.ndarray) -> np.ndarray:
    """The pixel of a mask that is farthest from its edge, as an empty box."""
    import cv2

    distance = cv2.distanceTransform(np.pad(mask, 1).view(np.uint8), cv2.DIST_L2, 3)
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return np.array([x, y, x, y]) - 1
