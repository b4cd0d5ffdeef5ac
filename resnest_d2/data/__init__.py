"""Data sets: the built-in shapes, one's own in COCO format, and what a config learns of them."""

from .coco import CocoFacts, read_coco, register_coco
from .registration import register_datasets
from .shapes import register_shapes

register_shapes()

__all__ = ["CocoFacts", "read_coco", "register_coco", "register_datasets", "register_shapes"]
