"""Norms with fixed statistics, folded into the convolution before them."""

from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from resnest_d2.layers import BATCH_NORMS

Convolution = (nn.Conv2d, nn.ConvTranspose2d)


def can_fold(norm: nn.Module | None) -> bool:
    """Whether a norm is an affine map at inference: frozen, batch and synchronised norms are."""
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    return isinstance(norm, BATCH_NORMS) and norm.running_mean is not None


def fold(conv: Any, norm: Any) -> None:
    """Make ``conv`` compute what ``norm`` after it gave; the norm is not needed any more.

    Args:
        conv: a convolution, changed in place.
        norm: one that :func:`can_fold`.
    """
    with torch.no_grad():
        # in double, so that the fold adds no rounding of its own
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
