"""Drawings of detections.

Shapes: H, W of the image.
"""

from collections.abc import Sequence

import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from PIL import Image

from resnest_d2.painting.items import items_of, segments_of, skeleton_of
from resnest_d2.painting.paint import paint


def draw(
    pixels: np.ndarray,
    instances: Instances,
    metadata: Metadata,
    *,
    panoptic: tuple[torch.Tensor, list[dict]] | None = None,
    scale: float = 1.0,
    scores: bool = True,
    ids: Sequence[int] | None = None,
) -> Image.Image:
    """Draws boxes, masks, names and scores on an image, or the segments of a panoptic detector.

    A drawing of more than 25 million pixels or 30,000 of a side is reduced.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        instances: detections (or annotations, with ``gt_boxes``), on the CPU.
        metadata: metadata with the classes' names.
        panoptic: map of segments (H, W), and their descriptions; drawn instead of the instances.
        scale: scale of the drawing relative to the image.
        scores: whether scores are written behind the names.
        ids: number of the track of each detection, below 0 for none, which its label shows.
    """
    if panoptic is not None:
        items = segments_of(*panoptic, metadata, scores=scores)
    else:
        items = items_of(instances, metadata.get("thing_classes"), scores=scores)
        numbers = [-1] * len(items) if ids is None else ids
        items = [
            item._replace(name=f"{item.name} #{number}") if number >= 0 else item
            for item, number in zip(items, numbers, strict=True)
        ]
    return paint(pixels, items, scale=scale, skeleton=skeleton_of(metadata))
