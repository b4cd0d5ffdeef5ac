"""Layers for inference: the trained ones with another ``forward``.

An instance is turned into one of these by changing its class, so that every reference to it in a
detector stays what it was; ``prepare`` then does what has to be done once.

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

from .cpu import winograd
from .folding import can_fold, fold

_MAX_ORDERS = 4  # of one kernel; oneDNN's are two or three


class FusedConv2d(Conv2d):
    """Convolution with its norm folded in, then a sum, then a ReLU, in one operation if it can be.

    On the CPU that operation is oneDNN's, which torch.compile uses too, with the weights in the
    order that it wants; or, for wide 3x3 convolutions, :mod:`resnest_d2.deploy.cpu.winograd`'s.
    """

    norm: nn.Module | None
    activation: Callable | None

    def prepare(self, *, pack: bool) -> None:
        """Fold the norm, find the ReLU.

        Args:
            pack: use those operations where torch has them; CPU, float32.
        """
        if can_fold(self.norm):
            fold(self, self.norm)
            self.norm = None
        self.relu = self.activation is F.relu or isinstance(self.activation, nn.ReLU)
        if self.relu and self.norm is None:
            self.activation = None
        self.weight.data = self.weight.data.contiguous(memory_format=torch.channels_last)
        self.packed: dict[tuple, Any] = {}  # the weights in oneDNN's order, for sizes of the input
        self.orders: dict[bytes, Any] = {}  # each of them once
        self.wide = winograd.suits(self)
        self.values: torch.Tensor | None = None  # the weights, transformed
        self.where = (list(self.padding), list(self.stride), list(self.dilation), self.groups)
        self.pack = (
            pack
            and self.weight.device.type == "cpu"
            and self.weight.dtype == torch.float32
            and self.norm is None
            and self.activation is None
            and has_onednn()
        )

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C_in, H, W) to (N, C, H', W'); ``residual``, of that shape, may be overwritten."""
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
        """The weights as oneDNN wants them: 1x1 kernels in another order for another size.

        In a wrong order they are put right in every run, which takes longer than most
        convolutions do; in none, small maps take thrice as long.
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
    """Split attention whose norms and first ReLU are the convolution's."""

    def prepare(self) -> None:
        """Fold the norms; the convolution takes over the ReLU."""
        for conv, name in ((self.conv, "bn0"), (self.fc1, "bn1")):
            if can_fold(getattr(self, name)):
                fold(conv, getattr(self, name))
                setattr(self, name, None)
        if self.bn0 is None:
            self.conv.activation = F.relu

    def forward(self, x: torch.Tensor, offset: torch.Tensor | None = None) -> torch.Tensor:
        """As :meth:`SplitAttentionConv2d.forward`."""
        x = self.conv(x, offset) if self.deformable else self.conv(x)
        if self.bn0 is not None:
            x = F.relu(self.bn0(x))
        pooled = x.mean((2, 3), keepdim=True).unflatten(1, (self.radix, -1)).sum(1)  # (N, C, 1, 1)
        return weighted_sum(x, self.attention(pooled))


class FusedBottleneck(ResNeStBottleneck):
    """The bottleneck, its sum and last ReLU left to the last convolution."""

    def prepare(self) -> None:
        """Move the ReLUs into the convolutions."""
        self.conv1.activation = F.relu
        self.conv3.activation = F.relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As :meth:`ResNeStBottleneck.forward`."""
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
    """The stem, whose convolutions have their ReLU; it is where maps become channels_last."""

    def prepare(self) -> None:
        """Move the ReLUs into the convolutions."""
        for conv in (self.conv1_1, self.conv1_2, self.conv1_3):
            conv.activation = F.relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As :meth:`DeepStem.forward`."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.conv1_3(self.conv1_2(self.conv1_1(x)))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


class FusedDeformConv2d(DeformConv2d):
    """Deformable convolution with its norm folded in."""

    norm: nn.Module | None

    def prepare(self) -> None:
        """Fold the norm."""
        if can_fold(self.norm):
            fold(self, self.norm)
            self.norm = None


class ChannelsLastFlatten(nn.Flatten):
    """(N, C, H, W) to (N, H W C): no copy of a channels_last map."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer after it must have its weights in this order, see :func:`reorder_inputs`."""
        return x.permute(0, 2, 3, 1).flatten(1)


def reorder_inputs(linear: nn.Linear, channels: int) -> None:
    """Give a linear layer after :class:`ChannelsLastFlatten` the order of its inputs."""
    outputs, inputs = linear.weight.shape
    weight = linear.weight.data.view(outputs, channels, inputs // channels).transpose(1, 2)
    linear.weight.data = weight.reshape(outputs, inputs)


class FusedMaskHead(MaskRCNNConvUpsampleHead):
    """The mask head, which at the end computes the mask of the predicted class alone."""

    def prepare(self) -> None:
        """Put all but the last convolution into one module."""
        self.trunk = nn.Sequential(*list(self)[:-1])

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> list[Instances]:
        """As :meth:`BaseMaskRCNNHead.forward` at test time."""
        x = self.trunk(x)  # (R, C, M, M)
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
