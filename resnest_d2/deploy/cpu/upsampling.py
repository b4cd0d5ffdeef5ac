"""Transposed 2x2 convolutions of the mask heads, with a backward pass of matrix products.

Blocks of 2x2 outputs do not overlap, so each is a matrix product with a pixel of the input. oneDNN
computes the gradients of such a layer as those of a convolution with a stride, which takes twice as
long in float32, and four times as long in bfloat16.

Shapes: R regions, C input and O output channels, H, W of the input.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class _Upsample(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv_transpose2d(x, weight, bias, stride=2)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x, weight = ctx.saved_tensors
        (r, c, h, w), o = x.shape, weight.shape[1]
        pixels = grad.permute(0, 2, 3, 1)  # (R, 2 H, 2 W, O)
        blocks = pixels.reshape(r, h, 2, w, 2, o).transpose(2, 3).reshape(r * h * w, 4 * o)
        matrix = weight.to(grad.dtype).permute(0, 2, 3, 1).reshape(c, 4 * o)
        grad_x = (blocks @ matrix.T).view(r, h, w, c).permute(0, 3, 1, 2)
        rows = x.to(grad.dtype).permute(0, 2, 3, 1).reshape(r * h * w, c)
        grad_weight = (rows.T @ blocks).view(c, 2, 2, o).permute(0, 3, 1, 2)
        grad_bias = pixels.sum((0, 1, 2))
        return grad_x.to(x.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


class Upsampling(nn.ConvTranspose2d):
    """A 2x2 transposed convolution with stride 2 and a bias."""

    def forward(self, x: torch.Tensor, output_size: list[int] | None = None) -> torch.Tensor:
        """Maps (R, C, H, W) to (R, O, 2 H, 2 W)."""
        if torch.is_grad_enabled() and not torch.jit.is_tracing() and output_size is None:
            return _Upsample.apply(x, self.weight, self.bias)
        return super().forward(x, output_size)


def replace_upsampling(model: nn.Module) -> nn.Module:
    """Replaces a detector's 2x2 transposed convolutions if it is on the CPU, with equal results.

    Returns:
        The detector itself, changed in place.
    """
    if next(model.parameters()).device.type == "cpu":
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if isinstance(child, nn.ConvTranspose2d) and _can_replace(child):
                    size = (child.in_channels, child.out_channels)
                    layer = Upsampling(*size, kernel_size=2, stride=2, device="meta")
                    layer.weight, layer.bias = child.weight, child.bias
                    setattr(parent, name, layer.train(child.training))
    return model


def _can_replace(layer: nn.ConvTranspose2d) -> bool:
    return (
        type(layer) is nn.ConvTranspose2d
        and layer.kernel_size == layer.stride == (2, 2)
        and layer.padding == layer.output_padding == (0, 0)
        and layer.groups == 1
        and layer.bias is not None
    )
