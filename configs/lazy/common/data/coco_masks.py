"""COCO for the detectors with masks, whose shortest side is one of six."""

from .coco import dataloader

dataloader.train.mapper.use_instance_mask = True
dataloader.train.mapper.augmentations[0].update(
    short_edge_length=[640, 672, 704, 736, 768, 800], sample_style="choice"
)
