"""Exports detectors to a file that runs without this package: ONNX, OpenVINO, TorchScript."""

from .checking import Difference, ExportReport
from .exporting import export, files_of, fingerprint
from .file_detector import FileDetector, file_input, without_resizing
from .formats import FORMATS
from .resizing import ShortestEdge

__all__ = [
    "FORMATS",
    "Difference",
    "ExportReport",
    "FileDetector",
    "ShortestEdge",
    "export",
    "file_input",
    "files_of",
    "fingerprint",
    "without_resizing",
]
