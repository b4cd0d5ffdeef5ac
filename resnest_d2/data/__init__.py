"""Datasets: the built-in shapes, COCO files, and config values that are read from them."""

from .coco import CocoFacts, read_coco, register_coco
from .registration import register_datasets
from .shapes import register_shapes

register_shapes()

__all__ = ["CocoFacts", "read_coco", "register_coco", "register_datasets", "register_shapes"]
