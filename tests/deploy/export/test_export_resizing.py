"""The resize inside a file: detectron2's sizes, and the pixels of PIL and OpenCV."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge
from PIL import Image

from resnest_d2.deploy.export import ShortestEdge


def test_sizes_are_detectron2s():
    resize = ShortestEdge(800, 1333)
    for height in range(1, 2000, 37):
        for width in range(5, 2500, 41):
            expected = ResizeShortestEdge.get_output_shape(height, width, 800, 1333)
            assert tuple(resize.size_of(torch.empty(3, height, width)).tolist()) == expected


@pytest.mark.parametrize("size", [(50, 70), (33, 91), (200, 170), (64, 640)])
@pytest.mark.parametrize("resizer", ["pil", "cv2"])
def test_pixels(resizer, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    found = ShortestEdge(64, 128, resizer)(torch.from_numpy(image).permute(2, 0, 1).float())
    height, width = ResizeShortestEdge.get_output_shape(*size, 64, 128)
    if resizer == "pil":
        expected = np.asarray(Image.fromarray(image).resize((width, height), Image.BILINEAR))
    else:
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    apart = np.abs(found.permute(1, 2, 0).numpy() - expected)
    assert apart.max() <= 1
    # OpenCV keeps its weights in eleven bits
    assert (apart > 0).mean() < (0.02 if resizer == "pil" else 0.2)


def test_what_is_refused():
    with pytest.raises(ValueError, match="sizes of 1 or more, got 0 and 1333"):
        ShortestEdge(0, 1333)
    with pytest.raises(ValueError, match="'area'; choose from .*'pil'"):
        ShortestEdge(800, 1333, "area")
