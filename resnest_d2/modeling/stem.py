"""Deep stem: three 3x3 convolutions and a max pool, instead of ResNet's 7x7 convolution.

Source: https://arxiv.org/abs/1812.01187 (ResNet-C), as in https://arxiv.org/abs/2004.08955.
"""

import fvcore.nn.weight_init as weight_init
import torch
import torch.nn.functional as F
from detectron2.layers import CNNBlockBase, Conv2d, get_norm

from resnest_d2.errors import UserError


class DeepStem(CNNBlockBase):
    """Maps (N, C_in, H, W) to (N, C, H/4, W/4). The first two convolutions have C/2 channels."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, *, norm: str = "BN"):
        """
        Args:
            in_channels: number of channels of the image.
            out_channels: C, an even number.
            norm: name of the norms, as in :func:`detectron2.layers.get_norm`; "" for none.

        Raises:
            UserError: out_channels is odd.
        """
        super().__init__(in_channels, out_channels, 4)
        if out_channels % 2:
            raise UserError(
                f"MODEL.RESNETS.STEM_OUT_CHANNELS is {out_channels}; DEEP_STEM needs an even number"
            )
        width = out_channels // 2
        plan = ((in_channels, width, 2), (width, width, 1), (width, out_channels, 1))
        for i, (c_in, c_out, stride) in enumerate(plan, 1):
            conv = Conv2d(
                c_in,
                c_out,
                kernel_size=3,
                stride=stride,
                padding=1,
                bias=False,
                norm=get_norm(norm, c_out),
            )
            weight_init.c2_msra_fill(conv)
            self.add_module(f"conv1_{i}", conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Computes features at stride 4."""
        x = F.relu_(self.conv1_1(x))
        x = F.relu_(self.conv1_2(x))
        x = F.relu_(self.conv1_3(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
