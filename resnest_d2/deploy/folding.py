"""Folds norms with fixed statistics into the preceding convolution."""

from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from resnest_d2.layers import BATCH_NORMS

Convolution = (nn.Conv2d, nn.ConvTranspose2d)


def can_fold(norm: nn.Module | None) -> bool:
    """Whether a norm is affine at inference, as frozen, batch and synchronised norms are."""
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    return isinstance(norm, BATCH_NORMS) and norm.running_mean is not None


def fold(conv: Any, norm: Any) -> None:
    """Folds ``norm`` into ``conv``, which then computes both; the norm is no longer needed.

    Args:
        conv: a convolution, changed in place.
        norm: norm for which :func:`can_fold` is True.
    """
    with torch.no_grad():
        # in double precision, so that folding adds no rounding errors
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean.double() * scale
        if norm.bias is not None:
            shift = shift + norm.bias
        if conv.bias is not None:
            shift = shift + conv.bias * scale
        outputs = 1 if isinstance(conv, nn.ConvTranspose2d) else 0
        shape = [-1 if d == outputs else 1 for d in range(4)]
        weight = conv.weight.double() * scale.view(shape)
        conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
        conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
