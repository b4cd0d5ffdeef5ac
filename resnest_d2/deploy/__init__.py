"""Detectors made fast for inference."""

from .cpu.allocator import keep_freed_memory, return_freed_memory
from .optimize import BACKENDS, optimize_for_inference

__all__ = ["BACKENDS", "keep_freed_memory", "optimize_for_inference", "return_freed_memory"]
