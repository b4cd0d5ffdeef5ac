"""Optimized detectors for inference. Names are imported on first use."""

from typing import TYPE_CHECKING

from resnest_d2.lazy import lazy_names

if TYPE_CHECKING:
    from .cpu.allocator import keep_freed_memory, return_freed_memory
    from .optimize import BACKENDS, optimize_for_inference
    from .precision import PRECISIONS, check_precision

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "check_precision",
    "keep_freed_memory",
    "optimize_for_inference",
    "return_freed_memory",
]
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".cpu.allocator": ("keep_freed_memory", "return_freed_memory"),
        ".optimize": ("BACKENDS", "optimize_for_inference"),
        ".precision": ("PRECISIONS", "check_precision"),
    },
)
