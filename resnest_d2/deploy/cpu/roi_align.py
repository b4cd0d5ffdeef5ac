"""RoIAlign on the CPU, with channels_last inputs and outputs.

Bilinear sampling and averaging within a bin are separable: a bin is a weighted sum of the pixels in
a small window, and the weights are an outer product of vertical and horizontal weights.
``embedding_bag`` computes such sums of table rows, on all threads. A pixel's channels are adjacent
in a channels_last map, so that the map is the table and the result is channels_last, both without a
copy. torchvision's operator processes one channel after the other, its backward pass on one thread.

Shapes: N images, R regions, G regions of a group, B bins per side, S samples and T window pixels
per side of a bin, C, H, W of the map.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.layers import ROIAlign
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import nn


def roi_align(
    levels: Sequence[torch.Tensor],
    regions: torch.Tensor,
    level_of: torch.Tensor,
    *,
    size: int,
    scales: Sequence[float],
    sampling_ratio: int = 0,
) -> torch.Tensor:
    """RoIAlign with half-pixel centres, equal to :class:`detectron2.layers.ROIAlign` (aligned).

    Args:
        levels: maps of the pyramid, (N, C, H, W) each.
        regions: (R, 5): image index, and x0, y0, x1, y1 in pixels of the image.
        level_of: index of each region's map, (R,).
        size: B.
        scales: scale of each map relative to the image.
        sampling_ratio: samples per bin and side; 0 for one per pixel.

    Returns:
        (R, C, B, B), channels_last.
    """
    numbers, pooled = [], []
    for level, (features, scale) in enumerate(zip(levels, scales, strict=True)):
        here = (level_of == level).nonzero()[:, 0]
        # The weights of embedding_bag are float32, also under autocast.
        table = features.float().contiguous(memory_format=torch.channels_last)
        for chosen, maps in _groups(
            table, regions[here], size=size, scale=scale, sampling_ratio=sampling_ratio
        ):
            numbers.append(here[chosen])
            pooled.append(maps.to(features.dtype))
    # Each region is written once: with an assignment per group, the backward pass would copy the
    # gradient of all regions per group.
    ordered = torch.cat(pooled).index_select(0, torch.cat(numbers).argsort())
    return ordered.view(len(regions), size, size, ordered.shape[2]).permute(0, 3, 1, 2)


def _groups(
    features: torch.Tensor,
    regions: torch.Tensor,
    *,
    size: int,
    scale: float,
    sampling_ratio: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields the numbers (G,) of regions of similar size, and their pooled maps (G, B * B, C).

    The windows of each group are equally large.
    """
    n, channels, height, width = features.shape
    table = features.permute(0, 2, 3, 1).reshape(n * height * width, channels)
    low = regions[:, 1:3] * scale - 0.5  # (R, 2): x, y
    bins = (regions[:, 3:5] * scale - 0.5 - low) / size
    samples = torch.full_like(bins, sampling_ratio) if sampling_ratio else bins.ceil()
    counts = samples.amax(1).clamp(0, max(height, width)).long()
    lengths = torch.tensor([width, height])
    # No region, so that the maps have a gradient, of 0, even if all regions are empty.
    yield counts[:0], table[:0].reshape(0, size * size, channels)
    for count in counts.unique().tolist():
        chosen = (counts == count).nonzero()[:, 0]
        if count < 1:  # empty regions
            yield chosen, table.new_zeros(len(chosen), size * size, channels)
            continue
        first, weights, (right, down) = _windows(
            low[chosen], bins[chosen], samples[chosen], size, lengths
        )
        across, along = weights[:, 0, :, :right], weights[:, 1, :, :down]
        columns = (first[:, 0, :, None] + torch.arange(right, dtype=torch.int32)).clamp_(
            max=width - 1
        )
        rows = (first[:, 1, :, None] + torch.arange(down, dtype=torch.int32)).clamp_(max=height - 1)
        rows = (rows + (regions[chosen, 0].int() * height)[:, None, None]) * width
        index = rows[:, :, None, :, None] + columns[:, None, :, None, :]
        weights = along[:, :, None, :, None] * across[:, None, :, None, :]  # (G, B, B, T, T)
        bag = right * down
        sums = F.embedding_bag(
            index.view(-1, bag), table, mode="sum", per_sample_weights=weights.view(-1, bag)
        )
        yield chosen, sums.view(len(chosen), size * size, channels)


def _windows(
    low: torch.Tensor, bins: torch.Tensor, samples: torch.Tensor, size: int, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Computes the pixels that each bin covers horizontally and vertically, and their weights.

    Args:
        low: left and upper end of each region, (G, 2), in pixels of the map.
        bins: width and height of its bins, (G, 2).
        samples: number of samples per bin, (G, 2); may be 0.
        size: B.
        lengths: width and height of the map, (2,).

    Returns:
        The first pixel (G, 2, B), the weights of the pixels from there on, (G, 2, B, T), and how
        many of these columns and rows of pixels are needed.
    """
    most = max(int(samples.max()), 1)  # a line has none along its width
    number = torch.arange(most)  # (S,)
    divisor = samples.clamp(min=1)
    offsets = (number + 0.5) * (bins / divisor)[..., None]  # (G, 2, S)
    starts = low[..., None] + torch.arange(size) * bins[..., None]  # (G, 2, B)
    places = starts[..., None] + offsets[:, :, None]  # (G, 2, B, S)
    ends = lengths[:, None, None]
    counted = (number < samples[..., None])[:, :, None] & (places >= -1) & (places <= ends)
    inside = places.clamp(min=0).minimum(ends - 1)
    inside = torch.where(counted, inside, inside[..., :1])  # keeps the window small
    first = inside.amin(3).floor()  # (G, 2, B)
    spans = ((inside.amax(3) - first).amax((0, 2)).int() + 2).tolist()
    pixels = first[..., None] + torch.arange(max(spans))  # (G, 2, B, T)
    near = (1 - (inside[..., None, :] - pixels[..., None]).abs()).clamp_(min=0)  # (G, 2, B, T, S)
    weights = (near * counted[..., None, :]).sum(4) / divisor[..., None, None]
    return first.int(), weights, spans


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
        level_of = assign_boxes_to_levels(box_lists, *self.levels, *self.canonical)
        return roi_align(
            x,
            regions,
            level_of,
            size=self.size,
            scales=self.scales,
            sampling_ratio=self.sampling_ratio,
        )


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
