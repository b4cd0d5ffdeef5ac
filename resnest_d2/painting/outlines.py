"""Outlines of masks.

Shapes: H, W of the image, P points of an outline.
"""

import cv2
import numpy as np

_SMOOTH = 1.6  # pixels of the image, along the outline of an enlarged mask


def outlines_of(mask: np.ndarray, ratio: tuple[float, float]) -> list[np.ndarray]:
    """Outlines of a mask and its holes on a drawing; those of an enlarged mask are smoothed.

    Args:
        mask: bool (H, W).
        ratio: of the drawing's width and height to the image's.

    Returns:
        For each outline int32 (P, 1, 2), as OpenCV draws them; none of an empty mask.
    """
    mask = np.ascontiguousarray(mask, dtype=bool).view(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    if not width:
        return []
    part = np.pad(mask[y : y + height, x : x + width] * np.uint8(255), 1)
    if ratio != (1.0, 1.0):
        size = max(1, round(part.shape[1] * ratio[0])), max(1, round(part.shape[0] * ratio[1]))
        how = cv2.INTER_LINEAR if max(ratio) > 1 else cv2.INTER_AREA
        part = cv2.resize(part, size, interpolation=how)
    part = (part > 127).astype(np.uint8)
    corner = round((x - 1) * ratio[0]), round((y - 1) * ratio[1])
    found = cv2.findContours(part, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=corner)[0]
    if max(ratio) <= 1:
        return list(found)
    return [_smoothed(outline, _SMOOTH * max(ratio)) for outline in found]


def _smoothed(outline: np.ndarray, sigma: float) -> np.ndarray:
    """A closed outline without the steps of enlarged pixels, by a Gaussian along it (P, 1, 2)."""
    sigma = min(sigma, len(outline) / 30)  # small objects keep their size
    reach = int(3 * sigma) + 1
    points = np.pad(outline[:, 0].astype(np.float64), ((reach, reach), (0, 0)), mode="wrap")
    kernel = cv2.getGaussianKernel(2 * reach + 1, max(sigma, 0.1))
    points = cv2.sepFilter2D(points, -1, np.ones(1), kernel)[reach:-reach]
    return points[:, None].round().astype(np.int32)
