"""Data sets: the built-in shapes, your own in COCO format, and what a config learns of them.

Each name is imported when it is first used: the checks of annotation files need no torch.
"""

from typing import TYPE_CHECKING

from resnest_d2.lazy import lazy_names

if TYPE_CHECKING:
    from .coco import CocoFacts, read_coco, register_coco
    from .registration import register_datasets
    from .shapes import register_shapes

__all__ = ["CocoFacts", "read_coco", "register_coco", "register_datasets", "register_shapes"]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".coco": ("CocoFacts", "read_coco", "register_coco"),
        ".registration": ("register_datasets",),
        ".shapes": ("register_shapes",),
    },
)
