"""Detectors made fast for inference."""

from .optimize import BACKENDS, optimize_for_inference

__all__ = ["BACKENDS", "optimize_for_inference"]
