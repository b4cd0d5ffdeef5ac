"""Draws detections with detectron2's Visualizer."""

import contextlib

import matplotlib
import numpy as np
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image


def draw(
    pixels: np.ndarray,
    instances: Instances,
    metadata: Metadata,
    *,
    panoptic: tuple[torch.Tensor, list[dict]] | None = None,
    scale: float = 1.0,
) -> Image.Image:
    """Draws boxes, masks, names and scores on an image, or the segments of a panoptic detector.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        instances: detections, on the CPU.
        metadata: metadata with the classes' names.
        panoptic: map of segments (H, W), and their descriptions; drawn instead of the instances.
        scale: scale of the drawing relative to the image.
    """
    with plain_names():
        canvas = Visualizer(pixels, metadata, scale, instance_mode=ColorMode.IMAGE)
        if panoptic is not None:
            drawn = canvas.draw_panoptic_seg(*panoptic)
        else:
            drawn = canvas.draw_instance_predictions(instances)
        return Image.fromarray(drawn.get_image())


def plain_names() -> contextlib.AbstractContextManager:
    """Has matplotlib draw names as they are: US$1 or US$5 is no formula."""
    return matplotlib.rc_context({"text.parse_math": False})
