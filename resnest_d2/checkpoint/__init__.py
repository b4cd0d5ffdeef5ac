"""Checkpoints: safe reading, conversion between layouts, loading and saving."""

from .convert import Conversion, convert, convert_file, write_checkpoint
from .handlers import WeightsHandler
from .layouts import LAYOUTS, Layout, recognise
from .loading import LoadReport, ReportingCheckpointer
from .origins import WeightsOrigin, local_weights, set_published
from .reading import find_weights, read_checkpoint
from .saving import SavingCheckpointer

__all__ = [
    "LAYOUTS",
    "Conversion",
    "Layout",
    "LoadReport",
    "ReportingCheckpointer",
    "SavingCheckpointer",
    "WeightsHandler",
    "WeightsOrigin",
    "convert",
    "convert_file",
    "find_weights",
    "local_weights",
    "read_checkpoint",
    "recognise",
    "set_published",
    "write_checkpoint",
]
