"""Resizing before the network, by operations that every engine supports.

PIL's and OpenCV's bilinear filters are separable: each is a vertical and a horizontal matrix
product. The engines' own resize operators differ from both, and from one another, when downscaling.

Shapes: H, W of the image, h, w of the resized one.
"""

from dataclasses import dataclass
from typing import Any

import torch
from detectron2.layers import shapes_to_tensor

from resnest_d2.errors import UserError

RESIZERS = ("pil", "cv2")


@dataclass(frozen=True)
class ShortestEdge:
    """detectron2's ResizeShortestEdge with fixed sizes, for images as tensors.

    Args:
        min_size: length of the shorter side, in pixels (INPUT.MIN_SIZE_TEST).
        max_size: maximum length of the longer side, in pixels (INPUT.MAX_SIZE_TEST).
        resizer: library of the bilinear filter, "pil" or "cv2" (INPUT.RESIZE).

    Raises:
        UserError: a size below 1, or an unknown resizer.
    """

    min_size: int
    max_size: int
    resizer: str = "pil"

    def __post_init__(self) -> None:
        if self.min_size < 1 or self.max_size < 1:
            raise UserError(
                f"A resize inside the file needs sizes of 1 or more, got {self.min_size} and "
                f"{self.max_size} (INPUT.MIN_SIZE_TEST, MAX_SIZE_TEST); or resize outside of it."
            )
        if self.resizer not in RESIZERS:
            raise UserError(f"The resizer is {self.resizer!r}; choose from {RESIZERS}.")

    def size_of(self, image: torch.Tensor) -> torch.Tensor:
        """Returns h and w for images (..., H, W), int64 (2,)."""
        # in double precision, as in detectron2, which computes them in Python
        size = shapes_to_tensor(list(image.shape[-2:])).double()
        new = size * (self.min_size / size.min())
        new = new * (self.max_size / new.max()).clamp(max=1)
        return (new + 0.5).floor().clamp(min=1).long()  # thin images keep a pixel

    def __call__(self, image: torch.Tensor) -> torch.Tensor:
        """Resizes (..., H, W) to (..., h, w), both float32 with integer values."""
        size = self.size_of(image)
        smooth = self.resizer == "pil"
        down = _filter(size[0], image.shape[-2], smooth=smooth)  # (h, H)
        across = _filter(size[1], image.shape[-1], smooth=smooth)  # (w, W)
        x = image @ across.T  # (..., H, w)
        if smooth:  # PIL rounds to bytes between the two passes
            x = _rounded(x)
        return _rounded(down @ x)


def _rounded(x: torch.Tensor) -> torch.Tensor:
    """Rounds half up in all engines; halves are common, and engines round them differently."""
    return (x + (0.5 + 2**-10)).floor()


def _filter(new: Any, old: int, *, smooth: bool) -> torch.Tensor:
    """Weights of the old pixels for each new one, (new, old): a triangle around its position.

    Args:
        new: number of new pixels, a scalar.
        old: number of old pixels.
        smooth: widen the triangle when downscaling.
    """
    length: Any = shapes_to_tensor([old])[0]
    # Positions times 2 * new are integers: exact in engines without doubles, such as OpenVINO.
    places = (2 * torch.arange(new) + 1) * length - new
    distances = (2 * torch.arange(length) * new - places[:, None]).abs()  # (new, old)
    width = 2 * torch.maximum(length, new) if smooth else 2 * new
    weights = (1 - distances.float() / width.float()).clamp(min=0)
    return weights / weights.sum(1, keepdim=True)
