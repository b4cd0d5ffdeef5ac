"""Quantizes an exported file to 8 bits: OpenVINO's by NNCF, ONNX files by ONNX Runtime.

Ranges of activations are those seen on calibration images; weights have a scale per output channel.
The stem, whose rounding of the image's values costs AP, the attention, which is small, and the last
layers (class scores, box deltas, objectness, masks) stay in float32, and all outside of backbone,
RPN and heads: the resizing, the boxes and RoIAlign, whose products look like layers.

NNCF does not quantize our ONNX files: it wants the range of every RoIAlign, also of a level of the
pyramid to which no calibration image sends a box.

Source: https://github.com/openvinotoolkit/nncf, https://onnxruntime.ai
"""

import logging
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from resnest_d2.compat.openvino import openvino_core
from resnest_d2.deploy.precision import LAST
from resnest_d2.errors import MissingPackageError, UserError
from resnest_d2.progress import counted

# Layers that always stay in float32.
_LAYERS = (r"/bottom_up/stem/", r"/conv2/(fc1|fc2)/", *LAST)
# Operations of no layer, whose own names begin with a capital: of the file, the detector, its RPN
# and heads, and all of the poolers.
_OTHERS = r"/(detector/)?((proposal_generator|roi_heads|roi_heads/mask_head[\d.]*)/)?[A-Z]\w*"
_POOLERS = r".*_pooler\b.*"
_THRESHOLD = np.array(0.05, np.float32)  # the score threshold while calibrating
# What else stays in float32: the next one is tried if a file loses too much AP.
EXACT = ("", r"/roi_heads/", r"/roi_heads/|/fpn_|/rpn_head/")


def quantize(path: Path, images: Sequence[np.ndarray], *, format: str, exact: str = "") -> None:
    """Quantizes a file in place.

    Args:
        path: file of :func:`resnest_d2.deploy.export.export`, in float32.
        images: inputs of the file.
        format: "openvino" or "onnx".
        exact: pattern of the names of further operations that stay in float32, as in :data:`EXACT`.

    Raises:
        MissingPackageError: nncf, or onnxruntime, is not installed.
        UserError: there are no images.
    """
    if not len(images):
        raise UserError("int8 needs calibration images, and there are none.")
    layers = f".*({'|'.join((*_LAYERS, exact) if exact else _LAYERS)}).*"
    _QUANTIZERS[format](path, images, f"({layers}|{_POOLERS}|{_OTHERS})$")


def import_quantizer(format: str) -> Any:
    """The package that quantizes a format.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        if format == "onnx":
            import onnxruntime.quantization as package
        else:
            os.environ.setdefault("NNCF_CI", "1")  # as it is imported: no telemetry is sent
            import nncf as package
    except ImportError as error:
        extra, name = ("onnx", "onnxruntime") if format == "onnx" else ("openvino", "nncf")
        raise MissingPackageError(
            f"int8 needs {name}: pip install 'resnest-d2[{extra}]'."
        ) from error
    return package


def _quantize_openvino(path: Path, images: Sequence[np.ndarray], pattern: str) -> None:
    import openvino

    nncf = import_quantizer("openvino")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    model = nncf.quantize(
        openvino_core().read_model(path),
        nncf.Dataset(images, lambda image: [image, _THRESHOLD]),
        subset_size=len(images),
        preset=nncf.QuantizationPreset.MIXED,
        ignored_scope=nncf.IgnoredScope(patterns=[pattern], validate=False),
    )
    openvino.save_model(model, path, compress_to_fp16=False)


def _quantize_onnx(path: Path, images: Sequence[np.ndarray], pattern: str) -> None:
    import onnx

    package: Any = import_quantizer("onnx")
    inputs = ({"image": x, "score_threshold": _THRESHOLD} for x in counted(images, "Calibration"))

    class Reader(package.CalibrationDataReader):  # type: ignore[name-defined]
        def get_next(self) -> dict | None:
            return next(inputs, None)

    graph = onnx.load(path).graph
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        quantized = Path(folder) / path.name
        package.quantize_static(
            str(path),
            str(quantized),
            Reader(),
            quant_format=package.QuantFormat.QDQ,
            per_channel=True,
            op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "Relu"],
            nodes_to_exclude=[n.name for n in graph.node if re.match(pattern, n.name)],
        )
        os.replace(quantized, path)


_QUANTIZERS: dict[str, Callable[[Path, Sequence[np.ndarray], str], None]] = {
    "openvino": _quantize_openvino,
    "onnx": _quantize_onnx,
}
