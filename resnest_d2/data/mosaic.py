"""Mosaic: an image of the training size joined from parts of four, with their truth.

As in https://arxiv.org/abs/2004.10934, but the parts keep the scale of the training, and the image
its size. The parts meet at a point drawn from the middle half of the image.

Shapes: C channels, H/W height and width of the joined image.
"""

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from detectron2.data import transforms as T
from detectron2.structures import Instances

from .augment import ScaleJitter, fitted_size
from .resize import PilResizeShortestEdge

if TYPE_CHECKING:
    from .mapper import NamingDatasetMapper


class Region(NamedTuple):
    """Part of the joined image, in pixels: its left upper corner and its size."""

    x: int
    y: int
    width: int
    height: int


class PlaceTransform(T.Transform):
    """Puts a window of an image into a region of a larger one; what is outside is cut off."""

    def __init__(
        self, window: Region, x: int, y: int, size: tuple[int, int], fill: Sequence[float]
    ):
        """
        Args:
            window: window of the image.
            x: where the window goes, to the right.
            y: where it goes, down.
            size: height and width of the joined image.
            fill: colour of the rest.
        """
        super().__init__()
        self.window, self.x, self.y, self.size, self.fill = window, x, y, size, fill
        self.crop = T.CropTransform(*window)
        self.shift = np.array([x, y], float)
        self.low = self.shift
        self.high = self.shift + [window.width, window.height]

    def _placed(self, pixels: np.ndarray, fill: float | Sequence[float]) -> np.ndarray:
        joined = np.empty((*self.size, *pixels.shape[2:]), pixels.dtype)
        joined[...] = fill
        part = self.crop.apply_image(pixels)
        joined[self.y : self.y + part.shape[0], self.x : self.x + part.shape[1]] = part
        return joined

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """Image (h, w, C) to (H, W, C)."""
        return self._placed(img, self.fill)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """Mask (h, w) to (H, W)."""
        return self._placed(segmentation, 0)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """Keypoints (N, 2); those outside the region go to -1, outside the joined image."""
        moved = self.crop.apply_coords(np.array(coords, float)) + self.shift
        inside = ((moved >= self.low) & (moved <= self.high)).all(axis=1, keepdims=True)
        return np.where(inside, moved, -1.0)

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Boxes (N, 4), clipped to the region."""
        corners = self.crop.apply_box(np.array(box, float)).reshape(-1, 2, 2) + self.shift
        return corners.clip(self.low, self.high).reshape(-1, 4)

    def apply_polygons(self, polygons: list) -> list:
        """Polygons (N, 2), cut off at the region's border."""
        return [polygon + self.shift for polygon in self.crop.apply_polygons(polygons)]


class _Place(T.Augmentation):
    """PlaceTransform of a window drawn at random."""

    def __init__(self, region: Region, size: tuple[int, int], fill: Sequence[float]):
        super().__init__()
        self.region, self.size, self.fill = region, size, fill

    def get_transform(self, image: np.ndarray) -> T.Transform:
        x, y, width, height = self.region
        h, w = min(height, image.shape[0]), min(width, image.shape[1])
        top = np.random.randint(image.shape[0] - h + 1)
        left = np.random.randint(image.shape[1] - w + 1)
        return PlaceTransform(Region(left, top, w, h), x, y, self.size, self.fill)


class Mosaic:
    """Joins images with parts of others, by numpy's random numbers."""

    def __init__(self, probability: float, fill: Sequence[float]):
        """
        Args:
            probability: of joining an image with others.
            fill: colour where a part is smaller than its region.
        """
        self.probability, self.fill = probability, fill

    def is_drawn(self) -> bool:
        """Whether to join the next image."""
        return np.random.rand() < self.probability

    def join(self, image: dict, mapper: "NamingDatasetMapper") -> dict:
        """The upper left part of an image, with parts of three of the mapper's pool around it.

        Args:
            image: in detectron2's form.
            mapper: maps each of the four, with its augmentations.
        """
        height, width = _training_size(image, mapper.augmentations.augs)
        x = int(np.random.uniform(0.25, 0.75) * width)
        y = int(np.random.uniform(0.25, 0.75) * height)
        others = [mapper.pool[int(i)] for i in np.random.randint(len(mapper.pool), size=3)]
        regions = [
            Region(left, top, right - left, bottom - top)
            for top, bottom in ((0, y), (y, height))
            for left, right in ((0, x), (x, width))
        ]
        parts = []
        for one, region in zip([image, *others], regions, strict=True):
            placing = copy.copy(mapper)
            place = _Place(region, (height, width), self.fill)
            placing.augmentations = T.AugmentationList([*mapper.augmentations.augs, place])
            parts.append(placing.map_one(one))
        joined = parts[0]
        for part, (left, top, w, h) in zip(parts, regions, strict=True):
            area = (slice(None), slice(top, top + h), slice(left, left + w))
            joined["image"][area] = part["image"][area]
        found = [part["instances"] for part in parts]
        # One without objects has no field of masks.
        joined["instances"] = Instances.cat([f for f in found if len(f)] or found[:1])
        return joined


def _training_size(image: dict, augmentations: Sequence[T.Augmentation]) -> tuple[int, int]:
    """Height and width that an image is resized to."""
    size = image["height"], image["width"]
    for augmentation in augmentations:
        resize = augmentation.resize if isinstance(augmentation, ScaleJitter) else augmentation
        if isinstance(resize, PilResizeShortestEdge):
            return fitted_size(resize, *size)
    return size
