"""Resizing to at least one pixel, with PIL as in detectron2 or with OpenCV as in mmdetection.

When shrinking, PIL's bilinear filter uses antialiasing and OpenCV's does not. The pixels differ,
and COCO AP differs in its second decimal.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import transforms as T
from PIL import Image

from resnest_d2.config.rules import RESIZERS
from resnest_d2.errors import UserError


class Cv2ResizeTransform(T.ResizeTransform):
    """ResizeTransform with OpenCV's bilinear filter; masks and boxes are as in the base class."""

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """(H, W) or (H, W, C) to the new height and width."""
        if (self.interp if interp is None else interp) != Image.Resampling.BILINEAR:
            return super().apply_image(img, interp)
        assert img.shape[:2] == (self.h, self.w), (img.shape, self.h, self.w)
        resized = cv2.resize(
            np.ascontiguousarray(img), (self.new_w, self.new_h), interpolation=cv2.INTER_LINEAR
        )
        return resized.reshape(self.new_h, self.new_w, *img.shape[2:])  # cv2 drops a C of 1


class PilResizeShortestEdge(T.ResizeShortestEdge):
    """ResizeShortestEdge whose sides are at least one pixel: thin images would get none."""

    transform: type[T.ResizeTransform] = T.ResizeTransform

    def get_transform(self, image: np.ndarray) -> T.Transform:
        """Transform to a size drawn like that of :class:`ResizeShortestEdge`."""
        chosen = super().get_transform(image)
        if not isinstance(chosen, T.ResizeTransform):  # a size of 0 changes nothing
            return chosen
        height, width = max(1, chosen.new_h), max(1, chosen.new_w)
        return self.transform(chosen.h, chosen.w, height, width, chosen.interp)


class Cv2ResizeShortestEdge(PilResizeShortestEdge):
    """PilResizeShortestEdge with OpenCV."""

    transform = Cv2ResizeTransform


def with_resizer(augmentations: Sequence[T.Augmentation], resizer: str) -> list[T.Augmentation]:
    """Augmentations with every ResizeShortestEdge replaced for a resizer.

    Args:
        augmentations: augmentations of a mapper.
        resizer: one of :data:`resnest_d2.config.rules.RESIZERS`.

    Raises:
        UserError: there is no such resizer.
    """
    if resizer not in RESIZERS:
        raise UserError(f"INPUT.RESIZE is {resizer!r}; choose from {RESIZERS}.")
    chosen = PilResizeShortestEdge if resizer == "pil" else Cv2ResizeShortestEdge
    return [
        chosen(a.short_edge_length, a.max_size, "range" if a.is_range else "choice", a.interp)
        if type(a) is T.ResizeShortestEdge
        else a
        for a in augmentations
    ]
