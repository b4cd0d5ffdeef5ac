"""Images from memory: numpy arrays and torch's tensors.

Shapes: H, W of the image, C channels.
"""

from functools import partial
from typing import Any

import numpy as np
import torch

from resnest_d2.errors import UserError

from .images import Asked, Source, in_memory


def open_array(array: np.ndarray, asked: Asked) -> Source:
    """An image of an array: uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).

    Raises:
        UserError: another dtype or shape, or a colour image without a channel order.
    """
    grey = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    colour = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not array.size or not (grey or colour):
        raise UserError(
            f"An array of dtype {array.dtype} and shape {array.shape} is no image; give uint8, 0 "
            "to 255, of (height, width), (height, width, 3) or (height, width, 4), and several "
            "images as a list."
        )
    if grey:
        pixels, channels = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2), "RGB"
    elif asked.channels is None:
        raise UserError(
            "The channel order of an array is missing: pass channels='BGR' (cv2.imread) or "
            "channels='RGB' (PIL, imageio, matplotlib, torchvision)."
        )
    else:
        pixels, channels = array[:, :, :3], asked.channels
    return in_memory(asked.name, partial(in_order, pixels, channels))


def open_tensor(tensor: torch.Tensor, asked: Asked) -> Source:
    """An image of a tensor: uint8, 0 to 255, or float, 0 to 1, of (C, H, W) or (H, W).

    Raises:
        UserError: another dtype or shape, values out of range, or no channel order.
    """
    shape = tuple(tensor.shape)
    known = tensor.dtype == torch.uint8 or tensor.is_floating_point()
    fits = tensor.ndim == 2 or (tensor.ndim == 3 and shape[0] in (1, 3, 4))
    if not (known and fits and tensor.numel()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        raise UserError(
            f"A tensor of dtype {dtype} and shape {shape} is no image; give uint8, 0 to 255, or "
            "float, 0 to 1, of (3, height, width), (1, height, width) or (height, width), and "
            "several images as a list."
        )
    values: Any = tensor.detach().cpu()
    if tensor.is_floating_point():
        values = values.float()
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):  # also if one is NaN
            raise UserError(
                f"A tensor of floats has values from {low:g} to {high:g}; give 0 to 1, without a "
                "normalization, or uint8."
            )
        values = (values * 255).round().to(torch.uint8)
    pixels = values if values.ndim == 2 else values.permute(1, 2, 0)  # (H, W, C)
    return open_array(pixels.contiguous().numpy(), asked)


def in_order(array: np.ndarray, channels: str, order: str) -> np.ndarray:
    """Pixels (H, W, 3) of one channel order in another."""
    return array if order == channels else array[:, :, ::-1]
