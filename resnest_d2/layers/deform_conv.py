"""Deformable 3x3 convolution, v1 and v2, on torchvision's operator.

Papers: https://arxiv.org/abs/1703.06211 (v1: learned offsets), https://arxiv.org/abs/1811.11168
(v2: offsets and a mask). detectron2's own layers need its compiled extension and do not run on the
CPU; torchvision's operator runs forward and backward on CPU and GPU.

Shapes: N batch, C channels, H/W height and width, D deformable groups.
"""

from typing import Any, Optional

import torch
from detectron2.layers import Conv2d
from torchvision.ops import deform_conv2d

TAPS = 9  # of a 3x3 kernel


class DeformConv2d(Conv2d):
    """3x3 convolution that samples its input at displaced positions.

    Weight, norm and activation are those of :class:`detectron2.layers.Conv2d`. The caller computes
    the offsets with a convolution of :meth:`offset_channels` output channels.
    """

    def __init__(self, *args: Any, modulated: bool = False, **kwargs: Any):
        """
        Args:
            *args: as in :class:`detectron2.layers.Conv2d`; the kernel must be 3x3.
            modulated: use v2, whose offsets include a mask, instead of v1.
            **kwargs: as in :class:`detectron2.layers.Conv2d`.
        """
        super().__init__(*args, **kwargs)
        assert self.kernel_size == (3, 3), self.kernel_size
        self.modulated = modulated

    @staticmethod
    def offset_channels(modulated: bool, deform_groups: int) -> int:
        """Number of channels of ``offset`` in :meth:`forward`: x, y (and mask) of each tap."""
        return (3 if modulated else 2) * TAPS * deform_groups

    def forward(self, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """Convolves the input at displaced positions.

        Args:
            x: input, (N, C, H, W).
            offset: (N, 18 D, H', W') displacements in pixels for v1; (N, 27 D, H', W') for v2, in
                detectron2's order: two thirds displacements, one third mask before the sigmoid.

        Returns:
            (N, C_out, H', W').
        """
        mask: Optional[torch.Tensor] = None
        if self.modulated:
            taps = offset.shape[1] // 3
            offset, mask = offset[:, : 2 * taps], offset[:, 2 * taps :].sigmoid()
        x = deform_conv2d(
            x,
            offset,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            mask=mask,
        )
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x
