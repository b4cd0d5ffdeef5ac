"""Exports detectors to a file that runs without this package: ONNX, OpenVINO, TorchScript."""

from .checking import Difference
from .exporting import ExportReport, export, files_of
from .formats import FORMATS
from .resizing import ShortestEdge

__all__ = ["FORMATS", "Difference", "ExportReport", "ShortestEdge", "export", "files_of"]
