"""RoIAlign on the CPU, with channels_last inputs and outputs.

Bilinear sampling and averaging within a bin are separable: a bin is a weighted sum of the pixels in
a small window, and the weights are an outer product of vertical and horizontal weights.
``embedding_bag`` computes such sums of table rows, on all threads. A pixel's channels are adjacent
in a channels_last map, so that the map is the table and the result is channels_last, both without a
copy. torchvision's operator processes one channel after the other, its backward pass on one thread.

Shapes: R regions, B bins per side, T window pixels per side, H, W of the map.
"""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import nn


def roi_align(
    features: torch.Tensor,
    regions: torch.Tensor,
    *,
    size: int,
    scale: float,
    sampling_ratio: int = 0,
) -> torch.Tensor:
    """RoIAlign with half-pixel centres, equal to :class:`detectron2.layers.ROIAlign` (aligned).

    Args:
        features: (N, C, H, W), channels_last.
        regions: (R, 5): image index, and x0, y0, x1, y1 in pixels of the image.
        size: B.
        scale: scale of the map relative to the image.
        sampling_ratio: samples per bin and side; 0 for one per pixel.

    Returns:
        (R, C, B, B), channels_last.
    """
    n, channels, height, width = features.shape
    table = features.permute(0, 2, 3, 1).reshape(n * height * width, channels)
    low = regions[:, 1:3] * scale - 0.5  # (R, 2): x, y
    bins = (regions[:, 3:5] * scale - 0.5 - low) / size
    samples = torch.full_like(bins, sampling_ratio) if sampling_ratio else bins.ceil()
    pooled = features.new_zeros(len(regions), size * size, channels)
    # Process regions of similar size together, so that their windows are equally large.
    counts = samples.amax(1).clamp(0, max(height, width)).long()
    for count in counts.unique().tolist():
        if count < 1:  # an empty region stays zero
            continue
        chosen = (counts == count).nonzero()[:, 0]
        first_x, down_x = _window(low[chosen, 0], bins[chosen, 0], samples[chosen, 0], size, width)
        first_y, down_y = _window(low[chosen, 1], bins[chosen, 1], samples[chosen, 1], size, height)
        steps_y = torch.arange(down_y.shape[2], dtype=torch.int32)
        steps_x = torch.arange(down_x.shape[2], dtype=torch.int32)
        rows = (first_y[:, :, None] + steps_y).clamp_(max=height - 1)  # (R, B, T)
        columns = (first_x[:, :, None] + steps_x).clamp_(max=width - 1)
        rows = rows + (regions[chosen, 0].int() * height)[:, None, None]
        index = rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
        weights = down_y[:, :, None, :, None] * down_x[:, None, :, None, :]  # (R, B, B, T, T)
        bag = index.shape[3] * index.shape[4]
        sums = F.embedding_bag(
            index.reshape(-1, bag), table, mode="sum", per_sample_weights=weights.reshape(-1, bag)
        )
        pooled[chosen] = sums.view(len(chosen), size * size, channels)
    if table.requires_grad and not pooled.requires_grad:  # all regions are empty: a gradient of 0
        pooled = pooled + table[:0].sum()
    return pooled.view(-1, size, size, channels).permute(0, 3, 1, 2)


def _window(
    low: torch.Tensor, bins: torch.Tensor, samples: torch.Tensor, size: int, length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Computes the pixels that each bin covers in one direction, and their weights.

    Args:
        low: start of each region, (R,), in pixels of the map.
        bins: length of its bins, (R,).
        samples: number of samples per bin, (R,); may be 0.
        size: B.
        length: length of the map.

    Returns:
        The first pixel (R, B), and the weights of the pixels from there on, (R, B, T).
    """
    most = max(int(samples.max()), 1)  # a line has none along its width
    number = torch.arange(most)  # (S,)
    offsets = (number + 0.5)[None] * (bins / samples.clamp(min=1))[:, None]  # (R, S)
    starts = low[:, None] + torch.arange(size) * bins[:, None]  # (R, B)
    places = starts[:, :, None] + offsets[:, None, :]  # (R, B, S)
    counted = (number < samples[:, None])[:, None, :] & (places >= -1) & (places <= length)
    inside = places.clamp(0, length - 1)
    inside = torch.where(counted, inside, inside[:, :, :1])  # keeps the window small
    first = inside.amin(2).floor()  # (R, B)
    span = int((inside.amax(2) - first).max()) + 2
    pixels = first[:, :, None] + torch.arange(span)  # (R, B, T)
    near = (1 - (inside[:, :, None, :] - pixels[:, :, :, None]).abs()).clamp_(min=0)  # (R, B, T, S)
    weights = (near * counted[:, :, None, :]).sum(3) / samples.clamp(min=1)[:, None, None]
    return first.int(), weights


class ChannelsLastPooler(nn.Module):
    """A pooler that uses :func:`roi_align`."""

    def __init__(self, pooler: ROIPooler):
        """
        Args:
            pooler: pooler for which :meth:`can_replace` is True.
        """
        super().__init__()
        self.size = pooler.output_size[0]
        self.scales = [align.spatial_scale for align in pooler.level_poolers]
        self.sampling_ratio = pooler.level_poolers[0].sampling_ratio
        self.levels = (pooler.min_level, pooler.max_level)
        self.canonical = (pooler.canonical_box_size, pooler.canonical_level)
        self.replaced = (pooler,)  # in a tuple, because it is no part of the detector

    @staticmethod
    def can_replace(pooler: Any) -> bool:
        """Whether a module is detectron2's pooler with square bins and ROIAlignV2."""
        return (
            type(pooler) is ROIPooler
            and pooler.output_size[0] == pooler.output_size[1]
            and all(isinstance(p, ROIAlign) and p.aligned for p in pooler.level_poolers)
        )

    def forward(self, x: list[torch.Tensor], box_lists: list[Boxes]) -> torch.Tensor:
        """Returns (R, C, B, B), channels_last; see :class:`ROIPooler`."""
        boxes = torch.cat([b.tensor for b in box_lists])
        image = torch.cat([b.tensor.new_full((len(b), 1), i) for i, b in enumerate(box_lists)])
        regions = torch.cat([image, boxes], 1)
        options = {"size": self.size, "sampling_ratio": self.sampling_ratio}
        dtype = x[0].dtype  # the weights of embedding_bag are float32, also under autocast
        x = [level.float().contiguous(memory_format=torch.channels_last) for level in x]
        if len(x) == 1:
            pooled = roi_align(x[0], regions, scale=self.scales[0], **options)
        else:
            level_of = assign_boxes_to_levels(box_lists, *self.levels, *self.canonical)
            shape = (len(regions), x[0].shape[1], self.size, self.size)
            pooled = x[0].new_zeros(shape).contiguous(memory_format=torch.channels_last)
            for level, (features, scale) in enumerate(zip(x, self.scales, strict=True)):
                here = (level_of == level).nonzero()[:, 0]
                pooled[here] = roi_align(features, regions[here], scale=scale, **options)
        return pooled.to(dtype)


def replace_poolers(model: nn.Module) -> nn.Module:
    """Replaces a detector's poolers by equal ones that use all threads, if it is on the CPU.

    Returns:
        The detector itself, changed in place.
    """
    if next(model.parameters()).device.type == "cpu":
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if ChannelsLastPooler.can_replace(child):
                    setattr(parent, name, ChannelsLastPooler(child).train(child.training))
    return model
