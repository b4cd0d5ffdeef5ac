"""Draws detections with detectron2's Visualizer.

Shapes: N detections, H, W of the image, h, w of a smaller drawing.
"""

import contextlib
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image

LARGEST = 25_000_000  # pixels of a drawing, which takes some 20 bytes for each
LONGEST = 30_000  # pixels of a side; matplotlib and JPEG files have 65,535


def draw(
    pixels: np.ndarray,
    instances: Instances,
    metadata: Metadata,
    *,
    panoptic: tuple[torch.Tensor, list[dict]] | None = None,
    scale: float = 1.0,
    ids: Sequence[int] | None = None,
) -> Image.Image:
    """Draws boxes, masks, names and scores on an image, or the segments of a panoptic detector.

    A drawing that would be larger than :data:`LARGEST` or :data:`LONGEST` is reduced.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        instances: detections, on the CPU.
        metadata: metadata with the classes' names.
        panoptic: map of segments (H, W), and their descriptions; drawn instead of the instances.
        scale: scale of the drawing relative to the image.
        ids: number of the track of each detection, below 0 for none, which its label shows.
    """
    if ids is not None:
        instances, metadata = _numbered(instances, metadata, ids)
    height, width = pixels.shape[:2]
    fit = min((LARGEST / (height * width)) ** 0.5, LONGEST / max(height, width))
    if scale > fit:
        scale = fit
    if scale < 1 and fit < 1:  # a full image would be drawn before it is scaled
        size = max(1, round(scale * height)), max(1, round(scale * width))
        pixels, instances, panoptic = _reduced(pixels, instances, panoptic, size)
        scale = 1.0
    with plain_names():
        canvas = Visualizer(pixels, metadata, scale, instance_mode=ColorMode.IMAGE)
        if panoptic is not None:
            drawn = canvas.draw_panoptic_seg(*panoptic)
        else:
            drawn = canvas.draw_instance_predictions(instances)
        return Image.fromarray(drawn.get_image())


def _numbered(
    instances: Instances, metadata: Metadata, ids: Sequence[int]
) -> tuple[Instances, Metadata]:
    """Detections of which each has a class of its own, whose name ends in its number."""
    known = metadata.get("thing_classes")
    names = [known[c] if known else str(c) for c in instances.pred_classes.tolist()]
    names = [f"{name} #{i}" if i >= 0 else name for name, i in zip(names, ids, strict=True)]
    instances = Instances(instances.image_size, **instances.get_fields())
    instances.pred_classes = torch.arange(len(instances))
    return instances, Metadata(name="tracks", thing_classes=names)


def _reduced(
    pixels: np.ndarray,
    instances: Instances,
    panoptic: tuple[torch.Tensor, list[dict]] | None,
    size: tuple[int, int],
) -> tuple[np.ndarray, Instances, tuple[torch.Tensor, list[dict]] | None]:
    """An image of another size (h, w), and what was detected on it."""
    height, width = pixels.shape[:2]
    rows, columns = (
        ((torch.arange(new) + 0.5) * old / new).long()
        for new, old in zip(size, (height, width), strict=True)
    )
    small = Instances(size)
    for name, value in instances.get_fields().items():
        if name == "pred_boxes":
            value = value.clone()
            value.scale(size[1] / width, size[0] / height)
        elif name == "pred_masks":
            value = value[:, rows[:, None], columns]  # (N, h, w)
        elif name == "pred_keypoints":
            value = value * value.new_tensor([size[1] / width, size[0] / height, 1.0])
        small.set(name, value)
    if panoptic is not None:
        panoptic = panoptic[0][rows[:, None], columns], panoptic[1]
    pixels = cv2.resize(
        np.ascontiguousarray(pixels), (size[1], size[0]), interpolation=cv2.INTER_AREA
    )
    return pixels, small, panoptic


def plain_names() -> contextlib.AbstractContextManager:
    """Has matplotlib draw names as they are: US$1 or US$5 is no formula."""
    return matplotlib.rc_context({"text.parse_math": False})
