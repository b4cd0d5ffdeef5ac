"""Weights and images that two programs can make alike without sharing a file.

Every tensor of a checkpoint is drawn from a generator seeded by its own name. So a fixture needs
to carry only names, shapes and the outputs of the reference system.
"""

import zlib
from collections.abc import Sequence

import numpy as np


def tensor_for(name: str, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """The value of one checkpoint entry, from its name and shape alone.

    Args:
        name: its key in the reference's layout.
        shape: its shape.
        seed: another draws other weights.

    Returns:
        float32; int64 for counters.
    """
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    shape = tuple(int(s) for s in shape)
    leaf = name.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf == "running_var":
        return rng.uniform(0.6, 1.4, shape).astype(np.float32)
    if leaf == "running_mean":
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if leaf == "bias":
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:  # a norm's scale; smaller where a residual branch ends, for deep nets
        ends = ".bn3." in name or ".conv3.norm." in name
        return rng.uniform(*((0.2, 0.5) if ends else (0.7, 1.1)), shape).astype(np.float32)
    scale = (_gain(name) / int(np.prod(shape[1:]))) ** 0.5
    return (scale * rng.standard_normal(shape)).astype(np.float32)


def _gain(name: str) -> float:
    """The variance of a convolution's or linear layer's weights times its fan-in."""
    if "lateral" in name:
        return 0.6
    if any(k in name for k in ("fc_reg", "bbox_pred")):
        return 0.05
    if any(k in name for k in ("rpn_reg", "anchor_deltas")):
        return 0.02
    if any(k in name for k in ("fc_cls", "cls_score")):
        return 6.0
    return 1.6


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random RGB image, uint8 (height, width, 3)."""
    rng = np.random.default_rng([424242, seed])
    small = rng.uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3))
    ys = np.linspace(0, small.shape[0] - 1.001, height)
    xs = np.linspace(0, small.shape[1] - 1.001, width)
    y0, x0 = ys.astype(int), xs.astype(int)
    wy, wx = (ys - y0)[:, None, None], (xs - x0)[None, :, None]
    top = small[y0][:, x0] * (1 - wx) + small[y0][:, x0 + 1] * wx
    bottom = small[y0 + 1][:, x0] * (1 - wx) + small[y0 + 1][:, x0 + 1] * wx
    return np.clip(np.rint(top * (1 - wy) + bottom * wy), 0, 255).astype(np.uint8)
