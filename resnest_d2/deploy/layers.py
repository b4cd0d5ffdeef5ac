"""Inference versions of layers, which only replace ``forward``.

An instance is converted by changing its class, so that all references to it in a detector remain
valid; ``prepare`` then does the work that is needed once.

Shapes: N batch, C channels, R radix, K cardinality, H, W of the map.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Instances
from torch import nn

from resnest_d2.compat.pytorch import has_onednn, onednn_convolve, onednn_order, onednn_weight
from resnest_d2.layers import DeformConv2d, SplitAttentionConv2d, weighted_sum
from resnest_d2.modeling import DeepStem, ResNeStBottleneck

from . import gpu
from .casting import Casting
from .cpu import winograd
from .folding import can_fold, fold

_MAX_ORDERS = 4  # weight orders of one kernel; oneDNN has two or three


class FusedConv2d(Casting, Conv2d):
    """Convolution with its norm folded in, a sum and a ReLU, in one operation if possible.

    On the CPU this is oneDNN's fused operation, as in torch.compile, with weights in oneDNN's
    order, or :mod:`resnest_d2.deploy.cpu.winograd` for wide 3x3 convolutions; on a GPU it is
    cuDNN's, see :mod:`resnest_d2.deploy.gpu`.
    """

    norm: nn.Module | None
    activation: Callable | None

    def prepare(self) -> None:
        """Folds the norm, and finds the ReLU and the operation."""
        if can_fold(self.norm):
            fold(self, self.norm)
            self.norm = None
        self.relu = self.activation is F.relu or isinstance(self.activation, nn.ReLU)
        if self.relu and self.norm is None:
            self.activation = None
        self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)
        self.packed: dict[tuple, Any] = {}  # weights in oneDNN's order, by input size
        self.orders: dict[bytes, Any] = {}  # each order once
        self.wide = winograd.suits(self)
        self.values: torch.Tensor | None = None  # transformed weights
        self.where = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
        self.cast: dict[tuple, Any] = {}  # weights and biases in autocast's type
        self.on_gpu = (
            self.weight.device.type == "cuda" and self.norm is None and self.activation is None
        )
        self.pack = (
            self.weight.device.type == "cpu"
            and self.weight.dtype == torch.float32
            and self.norm is None
            and self.activation is None
            and has_onednn()
        )

    def lower(self, dtype: torch.dtype) -> None:
        """See :meth:`Casting.lower`."""
        super().lower(dtype)
        self.wide = False
        self.pack = self.pack and has_onednn(dtype)

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C_in, H, W) to (N, C, H', W'); ``residual``, of that shape, may be overwritten."""
        if self.on_gpu and not torch.jit.is_tracing():
            return gpu.convolve(self, x, residual)
        x = x.to(self.weight.dtype)
        if residual is not None:
            residual = residual.to(x.dtype)
        if self.pack and not torch.jit.is_tracing() and x.numel():
            if self.wide and residual is None and winograd.fits(x):
                return self._winograd(x)
            return self._onednn(x, residual)
        x = F.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
        if self.norm is not None:
            x = self.norm(x)
        if residual is not None:
            x = x + residual
        if self.activation is not None:
            return self.activation(x)
        return F.relu_(x) if self.relu else x

    def _winograd(self, x: torch.Tensor) -> torch.Tensor:
        if self.values is None:
            self.values = winograd.transform_kernels(self.weight.data, self.groups)
        return winograd.convolve(x, self.values, self.bias, relu=self.relu)

    def _onednn(self, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        return onednn_convolve(
            x, self._pack(x), self.bias, self.where, relu=self.relu, residual=residual
        )

    def _pack(self, x: torch.Tensor) -> Any:
        """Weights in oneDNN's order, which for 1x1 kernels depends on the input size.

        In a wrong order they are reordered in every run, which takes longer than most
        convolutions; unpacked weights are three times slower on small maps.
        """
        key = (torch.get_num_threads(), *x.shape) if self.kernel_size == (1, 1) else ()
        packed = self.packed.get(key)
        if packed is None:
            packed = onednn_weight(self.weight.data, self.where, x.shape)
            if len(self.orders) == _MAX_ORDERS:
                self.packed, self.orders = {}, {}
            packed = self.packed[key] = self.orders.setdefault(onednn_order(packed), packed)
        return packed


class FusedSplitAttentionConv2d(SplitAttentionConv2d):
    """Split attention with its norms and first ReLU in the convolution."""

    def prepare(self) -> None:
        """Folds the norms and moves the ReLU into the convolution."""
        for conv, name in ((self.conv, "bn0"), (self.fc1, "bn1")):
            if can_fold(getattr(self, name)):
                fold(conv, getattr(self, name))
                setattr(self, name, None)
        if self.bn0 is None:
            self.conv.activation = F.relu

    def forward(self, x: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
        """See :meth:`SplitAttentionConv2d.forward`."""
        x = self.conv(x, offset) if self.deformable else self.conv(x)
        if self.bn0 is not None:
            x = F.relu(self.bn0(x))
        pooled = x.mean((2, 3), keepdim=True).to(self.fc1.weight.dtype)
        pooled = pooled.unflatten(1, (self.radix, -1)).sum(1)  # (N, C, 1, 1)
        return weighted_sum(x, self.attention(pooled))


class FusedBottleneck(ResNeStBottleneck):
    """Bottleneck with its sum and last ReLU in the last convolution."""

    def prepare(self) -> None:
        """Moves the ReLUs into the convolutions."""
        self.conv1.activation = F.relu
        self.conv3.activation = F.relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See :meth:`ResNeStBottleneck.forward`."""
        out = self.conv1(x)
        if self.avd_before is not None:
            out = self.avd_before(out)
        out = self.conv2(out, self.conv2_offset(out)) if self.deformable else self.conv2(out)
        if self.avd_after is not None:
            out = self.avd_after(out)
        if self.shortcut is not None:
            x = self.shortcut(x if self.shortcut_pool is None else self.shortcut_pool(x))
        return self.conv3(out, x)


class FusedStem(DeepStem):
    """Stem with its ReLUs in the convolutions; it converts maps to channels_last."""

    def prepare(self) -> None:
        """Moves the ReLUs into the convolutions."""
        for conv in (self.conv1_1, self.conv1_2, self.conv1_3):
            conv.activation = F.relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See :meth:`DeepStem.forward`."""
        x = x.to(self.conv1_1.weight.dtype).contiguous(memory_format=torch.channels_last)
        x = self.conv1_3(self.conv1_2(self.conv1_1(x)))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class FusedDeformConv2d(DeformConv2d):
    """Deformable convolution with its norm folded in."""

    norm: nn.Module | None

    def prepare(self) -> None:
        """Folds the norm."""
        if can_fold(self.norm):
            fold(self, self.norm)
            self.norm = None

    def forward(self, x: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        """See :meth:`DeformConv2d.forward`; torchvision computes it in float32 on the CPU."""
        return super().forward(x.to(self.weight.dtype), offset.to(self.weight.dtype))


class ChannelsLastFlatten(nn.Flatten):
    """(N, C, H, W) to (N, H W C), without copying a channels_last map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Flattens a map; the next layer needs reordered weights, see :func:`reorder_inputs`."""
        return x.permute(0, 2, 3, 1).flatten(1)


def reorder_inputs(linear: nn.Linear, channels: int) -> None:
    """Reorders the weights of a linear layer after :class:`ChannelsLastFlatten`."""
    outputs, inputs = linear.weight.shape
    weight = linear.weight.data.view(outputs, channels, inputs // channels).transpose(1, 2)
    linear.weight.data = weight.reshape(outputs, inputs)


class FusedMaskHead(MaskRCNNConvUpsampleHead):
    """Mask head that computes only the mask of the predicted class."""

    def prepare(self) -> None:
        """Puts all but the last convolution into one module."""
        self.trunk = nn.Sequential(*list(self)[:-1])

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> list[Instances]:
        """See :meth:`BaseMaskRCNNHead.forward` at test time."""
        x = self.trunk(x).to(self.predictor.weight.dtype)  # (R, C, M, M)
        classes = torch.cat([i.pred_classes for i in instances])
        weight, bias = self.predictor.weight, self.predictor.bias
        if len(weight) == 1:  # one mask for all classes
            classes = torch.zeros_like(classes)
        chosen = weight[classes, :, 0, 0]  # (R, C)
        logits = torch.einsum("rchw,rc->rhw", x, chosen) + bias[classes, None, None]
        # not len(), which would be a constant in a trace
        masks = logits.sigmoid()[:, None].split([i.pred_classes.shape[0] for i in instances])
        for found, mask in zip(instances, masks, strict=True):
            found.pred_masks = mask
        return instances
