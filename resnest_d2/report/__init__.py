"""HTML reports of an evaluated run, or of two runs side by side."""

from .compare import write_comparison
from .gather import DataSet
from .html import write_report

__all__ = ["DataSet", "write_comparison", "write_report"]
