"""Drawing what was found, by detectron2's Visualizer."""

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
    """An image with boxes, masks, names and scores; with the segments of a panoptic detector.

    Args:
        pixels: RGB, uint8 (H, W, 3).
        instances: on the CPU.
        metadata: with the classes' names.
        panoptic: segments, (H, W), and what they are; drawn instead of the instances.
        scale: of the drawing to the image.
    """
    canvas = Visualizer(pixels, metadata, scale, instance_mode=ColorMode.IMAGE)
    if panoptic is not None:
        drawn = canvas.draw_panoptic_seg(*panoptic)
    else:
        drawn = canvas.draw_instance_predictions(instances)
    return Image.fromarray(drawn.get_image())
