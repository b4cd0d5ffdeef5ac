"""Checkpoints: read safely, and with one line on what fitted."""

from .loading import LoadReport, ReportingCheckpointer

__all__ = ["LoadReport", "ReportingCheckpointer"]
