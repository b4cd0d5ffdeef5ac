"""Detectors in 8 bits: quantized now, or by the file beside their weights."""

import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from resnest_d2.errors import MissingFileError, UserError

from .exporting import export, fingerprint
from .file_detector import FileDetector, file_input

FILE = "int8.xml"  # beside the weights that it was made of, with its own in int8.bin


def quantized(model: Any, images: Sequence[torch.Tensor]) -> FileDetector:
    """A detector in 8 bits, in OpenVINO.

    Args:
        model: a GeneralizedRCNN in eval mode.
        images: some hundred images, (3, H, W), as the detector gets them.

    Raises:
        MissingPackageError: openvino, onnx or nncf is not installed.
        UserError: no images, or a detector that cannot be exported.
    """
    arrays = [file_input(image, resizes=False) for image in images]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        export(model, path, format="openvino", precision="int8", calibration=arrays)
        return FileDetector(path)


def quantized_beside(
    model: nn.Module, weights: str, *, score_threshold: float | None = None
) -> FileDetector:
    """The detector in the file beside its weights.

    Args:
        model: the detector with these weights.
        weights: path of the checkpoint.
        score_threshold: lowest score of a detection; None for the file's.

    Raises:
        MissingFileError: there is no such file.
        MissingPackageError: openvino is not installed.
        UserError: the file was made of other weights.
    """
    path = Path(weights).parent / FILE
    how = f"resnest-d2 export {path.parent} --precision int8 --calibration JSON"
    if not os.path.isfile(weights) or not path.is_file():
        raise MissingFileError(
            f"int8 needs a quantized file, and there is no {path}; write it with `{how}`."
        )
    detector = FileDetector(path, score_threshold=score_threshold)
    if detector.metadata.get("weights") != fingerprint(model):
        raise UserError(
            f"{path} was made of other weights than {weights}; write it again with `{how} "
            "--overwrite`."
        )
    logging.getLogger(__name__).info(f"8 bits: {path}.")
    return detector
