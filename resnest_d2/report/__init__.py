"""One HTML file that shows an evaluated run, or two of them side by side."""

from .compare import write_comparison
from .gather import DataSet
from .html import write_report

__all__ = ["DataSet", "write_comparison", "write_report"]
