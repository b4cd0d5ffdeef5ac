"""Bottleneck block of ResNeSt, with a plain or split-attention, deformable or regular convolution.

Paper: https://arxiv.org/abs/2004.08955, Sec. 3; the two average pools are ResNet-D's, Sec. 4.1.
Weight names follow the authors' published files: conv1, conv2_offset, conv2, conv3, shortcut.
"""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, get_norm
from torch import nn

from resnest_d2.errors import UserError
from resnest_d2.layers import DeformConv2d, SplitAttentionConv2d

from .activation_checkpoint import check_activation_checkpoint, recompute, wants_recomputing


class ResNeStBottleneck(CNNBlockBase):
    """1x1 convolution, 3x3 (split-attention) convolution, 1x1 convolution, and a shortcut."""

    deformable: torch.jit.Final[bool]  # scripting compiles only the branch taken

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        radix: int = 2,
        norm: str = "BN",
        avd: bool = True,
        avd_first: bool = False,
        avg_down: bool = True,
        stride_in_1x1: bool = False,
        dilation: int = 1,
        deformable: bool = False,
        deform_modulated: bool = False,
        deform_num_groups: int = 1,
        activation_checkpoint: str = "none",
    ):
        """
        Args:
            in_channels: input channels.
            out_channels: output channels.
            bottleneck_channels: width of the 3x3 convolution over all groups.
            stride: stride of the whole block.
            num_groups: cardinality.
            radix: number of splits; 0 is a plain 3x3 convolution.
            norm: name of the norms, as in :func:`detectron2.layers.get_norm`; "" for none.
            avd: downsample with a 3x3 average pool instead of the convolution.
            avd_first: put that pool before the 3x3 convolution instead of after it.
            avg_down: downsample the shortcut with an average pool instead of its convolution.
            stride_in_1x1: downsample with the first 1x1 convolution instead of the 3x3 one; cannot
                be combined with avd.
            dilation: dilation of the 3x3 convolution.
            deformable: whether the 3x3 convolution is deformable.
            deform_modulated: deformable convolution v2 instead of v1.
            deform_num_groups: number of groups of offsets.
            activation_checkpoint: what the backward pass recomputes, see :func:`recompute`.

        Raises:
            UserError: the width is not divisible by the groups, or activation_checkpoint is not
                possible.
        """
        super().__init__(in_channels, out_channels, stride)
        check_activation_checkpoint(activation_checkpoint, norm=norm)
        self.activation_checkpoint = activation_checkpoint
        assert not (avd and stride_in_1x1), "config.resolve_backbone leaves no such pair"
        width = bottleneck_channels
        if width % num_groups or (deformable and width % deform_num_groups):
            raise UserError(
                f"A bottleneck of {width} channels cannot be split into NUM_GROUPS {num_groups} "
                f"and DEFORM_NUM_GROUPS {deform_num_groups}; choose divisors of {width}."
            )
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        pool = None
        if avd and stride > 1:
            pool, stride_3x3 = nn.AvgPool2d(3, stride, padding=1), 1
        self.avd_before = pool if avd_first else None
        self.avd_after = None if avd_first else pool

        self.shortcut_pool = None
        self.shortcut = None
        if in_channels != out_channels:
            if avg_down and stride > 1:
                self.shortcut_pool = nn.AvgPool2d(
                    stride, stride, ceil_mode=True, count_include_pad=False
                )
            shortcut_stride = 1 if avg_down else stride
            self.shortcut = _conv1x1(in_channels, out_channels, norm, stride=shortcut_stride)
        self.conv1 = _conv1x1(in_channels, width, norm, stride=stride_1x1)
        self.conv3 = _conv1x1(width, out_channels, norm)

        self.deformable = deformable
        if deformable:
            # As in the authors' code, it has as many groups as the offsets.
            self.conv2_offset = Conv2d(
                width,
                DeformConv2d.offset_channels(deform_modulated, deform_num_groups),
                kernel_size=3,
                stride=stride_3x3,
                padding=dilation,
                dilation=dilation,
                groups=deform_num_groups,
            )
            nn.init.zeros_(self.conv2_offset.weight)
            nn.init.zeros_(self.conv2_offset.bias)
        if radix > 0:
            self.conv2 = SplitAttentionConv2d(
                width,
                width,
                radix=radix,
                groups=num_groups,
                stride=stride_3x3,
                dilation=dilation,
                norm=norm,
                deformable=deformable,
                deform_modulated=deform_modulated,
            )
        else:
            conv_class = DeformConv2d if deformable else Conv2d
            self.conv2 = conv_class(
                width,
                width,
                kernel_size=3,
                stride=stride_3x3,
                padding=dilation,
                dilation=dilation,
                groups=num_groups,
                bias=False,
                norm=get_norm(norm, width),
                activation=nn.ReLU(inplace=True),
                **({"modulated": deform_modulated} if deformable else {}),
            )
            weight_init.c2_msra_fill(self.conv2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (N, C_in, H, W) to (N, C_out, H/stride, W/stride)."""
        if not torch.jit.is_scripting():
            if self.activation_checkpoint != "none" and wants_recomputing(self, x):
                return F.relu_(recompute(self, self.compute, x, mode=self.activation_checkpoint))
        return F.relu_(self.compute(x))

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        """Computes all but the last ReLU, whose output the next block keeps in any case."""
        out = F.relu_(self.conv1(x))
        if self.avd_before is not None:
            out = self.avd_before(out)
        if self.deformable:
            out = self.conv2(out, self.conv2_offset(out))
        else:
            out = self.conv2(out)
        if self.avd_after is not None:
            out = self.avd_after(out)
        out = self.conv3(out)
        if self.shortcut_pool is not None:
            x = self.shortcut_pool(x)
        if self.shortcut is not None:
            x = self.shortcut(x)
        out += x
        return out


def _conv1x1(in_channels: int, out_channels: int, norm: str, *, stride: int = 1) -> Conv2d:
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size=1,
        stride=stride,
        bias=False,
        norm=get_norm(norm, out_channels),
    )
    weight_init.c2_msra_fill(conv)
    return conv
