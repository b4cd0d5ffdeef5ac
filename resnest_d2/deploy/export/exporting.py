"""Exports a detector to a file and checks the file."""

import copy
import hashlib
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.modeling import GeneralizedRCNN
from torch import nn
from torch.jit import TracerWarning

from resnest_d2.errors import UserError
from resnest_d2.files import make_folder, writing
from resnest_d2.layers import DeformConv2d
from resnest_d2.outputs import require_new
from resnest_d2.version import __version__

from .checking import ExportReport, check
from .formats import FORMATS, Graph
from .quantizing import import_quantizer, quantize
from .resizing import ShortestEdge
from .tracing import EagerDetector, WholeDetector, example, traceable

_CHECKED_SIZES = ((240, 320), (352, 256), (200, 360))


def export(
    model: nn.Module,
    path: str | os.PathLike,
    *,
    format: str = "onnx",
    resize: ShortestEdge | None = None,
    class_names: Sequence[str] = (),
    config: str = "",
    score_threshold: float | None = None,
    batch: bool = False,
    precision: str = "fp32",
    calibration: Sequence[np.ndarray] = (),
    exact: str = "",
    overwrite: bool = False,
) -> ExportReport:
    """Exports a detector to one file, runs the file in its own engine, and compares.

    The file takes one image of any size, and a score threshold. Inputs: ``image``, (H, W, 3), uint8
    with a resize inside, else (3, H, W), float32, 0 to 255, already resized; channels in the order
    of ``model.input_format``; ``score_threshold``, float32 scalar. Outputs: ``boxes`` (R, 4) in
    pixels of ``image``, ``scores`` (R,), ``classes`` (R,), int64, and with a mask head ``masks``
    (R, M, M), probabilities inside the boxes. Pixels are always normalized inside the file.
    With ``batch`` it takes N images of one size, (N, H, W, 3) or (N, 3, H, W), and returns
    ``images`` (R,), int64, too: the number of each detection's image, from 0.

    Args:
        model: a GeneralizedRCNN in eval mode; it is not changed.
        path: path of the file: .onnx, .xml (OpenVINO; with its weights in a .bin file next to it)
            or .pt (TorchScript).
        format: one of :data:`FORMATS`.
        resize: resize inside the file; None if its inputs are already resized.
        class_names: names in the order of the classes, for the metadata.
        config: name of the config, for the metadata.
        score_threshold: threshold in the metadata, and the default of an ONNX file; None for the
            model's.
        batch: whether the file takes several images of one size.
        precision: "fp32"; "fp16" stores weights in 16 bits, which halves the file; "int8" computes
            in 8 bits, which is several times faster on many processors. Not with TorchScript.
        calibration: for "int8", some hundred images like those that the detector will see, as
            inputs of the file, one by one.
        exact: for "int8", see :func:`resnest_d2.deploy.export.quantizing.quantize`.
        overwrite: replace existing files.

    Returns:
        The differences on three images of different sizes, one without detections.

    Raises:
        MissingPackageError: the format's packages are not installed.
        OutputExistsError: the file exists.
        UserError: unknown format or precision, wrong suffix, a model that cannot be exported, no
            calibration images, or a file in fp32 whose detections differ; it is then removed.
        ValueError: the model is in training mode.
        WriteError: the folder cannot be written to.
    """
    path = Path(path)
    _check_arguments(model, path, format=format, class_names=class_names)
    _check_precision(precision, format=format, images=len(calibration))
    require_new(files_of(path), overwrite=overwrite)
    model = copy.deepcopy(model).cpu()
    heads: Any = model.roi_heads
    predictors: Any = heads.box_predictor
    last: Any = predictors[-1] if isinstance(predictors, nn.ModuleList) else predictors
    threshold = last.test_score_thresh if score_threshold is None else score_threshold
    metadata = {
        "class_names": list(class_names),
        "input_format": model.input_format,
        "preprocess": "outside" if resize is None else "inside",
        **({} if resize is None else vars(resize)),
        "batch": batch,
        "score_threshold": threshold,
        "config": config,
        "precision": precision,
        "weights": fingerprint(model),
        "resnest_d2_version": __version__,
    }
    kind = FORMATS[format]
    module, inputs = traceable(model, resize, batch=batch)
    images = [example(resize, *size) for size in _CHECKED_SIZES]
    make_folder(path.parent)
    with writing(path), tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder) / path.name
        outputs = ["boxes", "scores", "classes"]
        outputs += ["masks"] * heads.mask_on + ["images"] * batch
        with warnings.catch_warnings():  # wrong constants in the trace would fail the check
            warnings.simplefilter("ignore", TracerWarning)
            kind.write(Graph(module, inputs, outputs, metadata, precision == "fp16"), file)
            if precision == "int8":
                inputs_of_file = _Batches(calibration) if batch else calibration
                quantize(file, inputs_of_file, format=format, exact=exact)
        detector = WholeDetector(EagerDetector(model), resize)
        report = ExportReport(
            path, tuple(check(kind.open(file), detector, images, threshold=threshold, batch=batch))
        )
        exactly = precision == "fp32"
        if exactly and not all(difference.small for difference in report.differences):
            raise UserError(f"The {format} file differs too much, and was not kept. {report}")
        for written in Path(folder).iterdir():
            os.replace(written, path.parent / written.name)
    return report


class _Batches(Sequence):
    """Images as batches of one, which are read when they are asked for."""

    def __init__(self, images: Sequence[np.ndarray]):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: Any) -> Any:
        return self.images[index][None]


def files_of(path: str | os.PathLike) -> list[Path]:
    """The files of an export: OpenVINO keeps the weights in a .bin file beside its .xml."""
    path = Path(path)
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def fingerprint(model: nn.Module) -> str:
    """A hash of a model's weights, by which a file is known to be theirs."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check_precision(precision: str, *, format: str, images: int) -> None:
    known = FORMATS[format].precisions
    if precision not in known:
        raise UserError(f"The {format} format has no precision {precision!r}; choose from {known}.")
    if precision == "int8":
        if not images:
            raise UserError("int8 needs calibration images: some of the training or validation.")
        import_quantizer(format)


def _check_arguments(
    model: nn.Module, path: Path, *, format: str, class_names: Sequence[str]
) -> None:
    """Checks that the model can be exported, before any work starts."""
    if format not in FORMATS:
        raise UserError(f"There is no format {format!r}; choose from {tuple(FORMATS)}.")
    if path.suffix != FORMATS[format].suffix:
        raise UserError(
            f"The {format} format writes files named *{FORMATS[format].suffix}; got {path}."
        )
    heads: Any = getattr(model, "roi_heads", None)
    if type(model) is not GeneralizedRCNN or not hasattr(heads, "mask_on") or heads.keypoint_on:
        raise UserError(
            f"A {type(model).__name__} cannot be exported, only a GeneralizedRCNN with boxes and "
            "optionally masks: Faster, Mask, Cascade and Cascade Mask R-CNN."
        )
    if model.training:
        raise ValueError("export takes a model in eval mode: call model.eval().")
    if class_names and len(class_names) != heads.num_classes:
        raise UserError(
            f"{len(class_names)} class names were given, the model has {heads.num_classes} classes."
        )
    if format != "torchscript" and any(isinstance(m, DeformConv2d) for m in model.modules()):
        raise UserError(
            f"The model has deformable convolutions, which torch cannot write as {format}; "
            "choose the format torchscript."
        )
