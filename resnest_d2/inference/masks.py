"""Masks of large images as RLE, and outlines of masks.

A sliced image of 4,000 x 4,000 pixels with 300 objects would have 4.8 GB of masks; as RLE they are
some hundred kilobytes.

Shapes: N masks, H, W of the image, h, w of a part of it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pycocotools.mask as mask_util
import torch

_STRAY = 1.0  # pixels by which an outline may leave the border of its mask


class PackedMask:
    """One mask as RLE, which numpy unpacks to bool (H, W) where an array is asked for."""

    def __init__(self, rle: dict[str, Any]):
        """See the class."""
        self.rle = rle

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        """The mask."""
        return mask_util.decode(self.rle).astype(dtype or bool)


class PackedMasks:
    """N masks as COCO's RLE, in the place of a tensor (N, H, W) in detectron2's Instances.

    Attributes:
        rles: RLE of each mask; their counts are bytes.
        size: H and W.
    """

    def __init__(self, rles: Sequence[dict[str, Any]], size: tuple[int, int]):
        """See the class."""
        self.rles, self.size = list(rles), size

    @classmethod
    def place(cls, masks: torch.Tensor, corner: tuple[int, int], size: tuple[int, int]) -> Any:
        """Packs masks of a part of an image.

        Args:
            masks: bool (N, h, w).
            corner: y and x of the part in the image.
            size: H and W of the image.
        """
        return cls([_encode(mask.numpy(), corner, size) for mask in masks], size)

    @classmethod
    def cat(cls, parts: Sequence["PackedMasks"]) -> "PackedMasks":
        """The masks of several, of images of one size."""
        return cls([rle for part in parts for rle in part.rles], parts[0].size)

    def __len__(self) -> int:
        return len(self.rles)

    def __iter__(self) -> Iterator[PackedMask]:
        """Yields the masks one at a time, which are unpacked when they are used."""
        return map(PackedMask, self.rles)

    def __getitem__(self, item: Any) -> "PackedMasks":
        """Masks by a slice or a tensor."""
        indices = np.arange(len(self))[item if isinstance(item, slice) else np.asarray(item)]
        return PackedMasks([self.rles[i] for i in np.atleast_1d(indices)], self.size)

    def dense(self) -> np.ndarray:
        """All masks, bool (N, H, W), which can be large."""
        return (
            np.stack([np.asarray(mask) for mask in self])
            if self.rles
            else np.zeros((0, *self.size), dtype=bool)
        )


def _encode(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict[str, Any]:
    """RLE of a mask (h, w) in an image (H, W); only the mask's own columns are looked at."""
    height, width = size
    (top, left), columns = corner, np.flatnonzero(mask.any(axis=0))
    runs = np.array([0, height * width])
    if len(columns):
        first, last = columns[0], columns[-1] + 1
        block = np.zeros((last - first, height), dtype=bool)  # RLE runs down the columns
        block[:, top : top + mask.shape[0]] = mask[:, first:last].T
        changes = np.flatnonzero(np.diff(block.ravel(), prepend=False, append=False))
        runs = np.concatenate([[0], (left + first) * height + changes, [height * width]])
    counts = np.diff(runs).tolist()
    return mask_util.frPyObjects({"size": [height, width], "counts": counts}, height, width)


def outlines(mask: np.ndarray) -> list[list[float]]:
    """Polygons [x, y, x, y, ...] around the parts of a mask, along the edges of its pixels.

    Holes are filled, and edges are straightened within a pixel.

    Args:
        mask: bool (H, W).
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # Twice as large and one pixel wider, contours run along the edges and not the centres.
    large = np.pad(np.kron(part, np.ones((2, 2), np.uint8)).astype(np.uint8), ((0, 1), (0, 1)))
    large = cv2.dilate(large, np.ones((2, 2), np.uint8), anchor=(1, 1))
    found = []
    for contour in cv2.findContours(large, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        points = cv2.approxPolyDP(contour, 2 * _STRAY, True)[:, 0]
        if cv2.contourArea(points) < 0.5 * cv2.contourArea(contour):  # only some pixels wide
            points = contour[:, 0]
        found.append((points / 2 + (left, top)).ravel().tolist())
    return found
