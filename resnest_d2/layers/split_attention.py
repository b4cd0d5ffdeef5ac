"""Split-attention convolution, the building block of ResNeSt.

Paper: https://arxiv.org/abs/2004.08955, Sec. 3. Weight names follow the authors' published files:
conv, bn0, fc1, bn1, fc2.

Shapes: N batch, C output channels, H/W height and width, R radix, K cardinality (groups).
"""

from typing import Optional

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import nn

from .attention import pool_splits, weighted_sum
from .deform_conv import DeformConv2d
from .norm import get_attention_norm, norm_of_vector

MIN_ATTENTION_CHANNELS = 32


class SplitAttentionConv2d(nn.Module):
    """Grouped 3x3 convolution into R splits, and their sum weighted by channel attention."""

    deformable: torch.jit.Final[bool]  # scripting compiles only the branch taken

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        radix: int = 2,
        groups: int = 1,
        stride: int = 1,
        dilation: int = 1,
        reduction_factor: int = 4,
        norm: str = "BN",
        deformable: bool = False,
        deform_modulated: bool = False,
    ):
        """
        Args:
            in_channels: input channels.
            out_channels: C.
            radix: R, the number of splits; 1 is a squeeze-and-excitation with a sigmoid.
            groups: K, the number of cardinal groups.
            stride: stride of the convolution.
            dilation: dilation and padding of the convolution.
            reduction_factor: the attention's hidden layer has ``in_channels * R`` divided by this
                factor channels, at least 32.
            norm: name of the norms, as in :func:`detectron2.layers.get_norm`; "" for none.
            deformable: use a deformable convolution; :meth:`forward` then needs offsets.
            deform_modulated: deformable convolution v2 instead of v1.

        Raises:
            UserError: radix or groups is below 1, or they do not divide the channels.
        """
        super().__init__()
        if radix < 1 or groups < 1:
            raise ValueError(f"radix and groups must be 1 or more, got {radix} and {groups}.")
        attention_channels = max(in_channels * radix // reduction_factor, MIN_ATTENTION_CHANNELS)
        if in_channels % (groups * radix) or attention_channels % groups:
            raise ValueError(
                f"{in_channels} input and {attention_channels} attention channels must be "
                f"divisible by groups x radix = {groups} x {radix}; choose another width."
            )
        self.radix = radix
        self.groups = groups
        self.deformable = deformable
        conv_class = DeformConv2d if deformable else Conv2d
        extra = {"modulated": deform_modulated} if deformable else {}
        self.conv = conv_class(
            in_channels,
            out_channels * radix,
            kernel_size=3,
            stride=stride,
            padding=dilation,
            dilation=dilation,
            groups=groups * radix,
            bias=False,
            **extra,
        )
        self.bn0 = get_norm(norm, out_channels * radix)
        self.fc1 = Conv2d(out_channels, attention_channels, kernel_size=1, groups=groups)
        self.bn1 = get_attention_norm(norm, attention_channels, groups=groups)
        self.fc2 = Conv2d(attention_channels, out_channels * radix, kernel_size=1, groups=groups)
        for layer in (self.conv, self.fc1, self.fc2):
            weight_init.c2_msra_fill(layer)

    def attention(self, pooled: torch.Tensor) -> torch.Tensor:
        """Computes the weights of the splits.

        Args:
            pooled: pooled sum of the splits, (N, C, 1, 1).

        Returns:
            (N, R, C, 1, 1), sums to one over R; for R = 1 it is between zero and one.
        """
        hidden = self.fc1(pooled)
        if not torch.jit.is_scripting():
            hidden = norm_of_vector(self.bn1, hidden)
        elif self.bn1 is not None:
            hidden = self.bn1(hidden)
        logits = self.fc2(F.relu(hidden))  # (N, K R C/K, 1, 1)
        if self.radix == 1:
            return logits.sigmoid()[:, None]
        logits = logits.flatten(1).unflatten(1, (self.groups, self.radix, -1))
        weights = logits.transpose(1, 2).softmax(dim=1)  # (N, R, K, C/K)
        return weights.flatten(2)[:, :, :, None, None]

    def forward(self, x: torch.Tensor, offset: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Convolves the input and sums the splits with attention.

        Args:
            x: (N, C_in, H, W).
            offset: offsets of a deformable convolution, see :meth:`DeformConv2d.forward`.

        Returns:
            (N, C, H', W'), nonnegative.
        """
        if self.deformable:
            assert offset is not None, "a deformable convolution needs offsets"
            x = self.conv(x, offset)
        else:
            x = self.conv(x)
        if self.bn0 is not None:
            x = self.bn0(x)
        x = F.relu_(x)
        splits = x.view(x.shape[0], self.radix, -1, x.shape[2], x.shape[3])  # (N, R, C, H, W)
        if not torch.jit.is_scripting():
            return weighted_sum(x, self.attention(pool_splits(splits)))
        pooled = splits.mean((3, 4)).sum(1)[:, :, None, None]  # (N, C, 1, 1)
        return (splits * self.attention(pooled)).sum(1)
