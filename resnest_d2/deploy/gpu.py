"""A convolution with its bias, sum and ReLU in one of cuDNN's kernels, and weights cast once.

torch adds the bias after cuDNN's convolution in a pass of its own, and the sum and the ReLU in
further ones: for 8 images of 800x1216 these take four tenths of a ResNeSt-50's time. Autocast casts
the weights of an optimized model in every run, because it keeps casts of trained weights only.
"""

from typing import Any

import torch
import torch.nn.functional as F

from resnest_d2.compat.cudnn import cudnn_convolve
from resnest_d2.compat.pytorch import autocast_dtype


def convolve(layer: Any, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
    """Runs a convolution on a GPU.

    Args:
        layer: a :class:`resnest_d2.deploy.layers.FusedConv2d` without norm and activation.
        x: (N, C_in, H, W), fastest if channels_last.
        residual: added before the ReLU, (N, C, H', W').

    Returns:
        (N, C, H', W'), in autocast's type if it is enabled.
    """
    weight, bias = layer.weight, layer.bias
    dtype = autocast_dtype(x.device.type)
    if dtype is not None:
        weight, bias = _cast(layer, dtype, x.device)
        x = x.to(dtype)
        residual = None if residual is None else residual.to(dtype)
    if layer.relu and bias is not None and x.numel():
        fused = cudnn_convolve(x, weight, bias, layer.where, residual=residual)
        if fused is not None:
            return fused
    x = F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
    if residual is not None:
        x = x + residual
    return F.relu_(x) if layer.relu else x


def _cast(layer: Any, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, Any]:
    key = (dtype, device)
    if key not in layer.cast:
        bias = None if layer.bias is None else layer.bias.detach().to(dtype)
        layer.cast = {key: (layer.weight.detach().to(dtype), bias)}
    return layer.cast[key]
