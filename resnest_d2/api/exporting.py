"""Export of a detector by name, with calibration and scores on COCO files."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from resnest_d2.data.entries import Paths
from resnest_d2.deploy.export import ExportReport, ShortestEdge, files_of
from resnest_d2.deploy.export import export as export_module
from resnest_d2.deploy.export.int8 import FILE as INT8_FILE
from resnest_d2.engine.export_check import checked
from resnest_d2.engine.scored_data import Images, open_dataset
from resnest_d2.errors import UserError
from resnest_d2.inference import build_metadata, build_trained, prediction_config
from resnest_d2.model_zoo import find_detector
from resnest_d2.outputs import require_new


def export(
    model: str | os.PathLike,
    path: str | os.PathLike | None = None,
    *,
    weights: str | os.PathLike | None = None,
    format: str | None = None,
    resize: bool = True,
    score_threshold: float | None = None,
    batch: bool = False,
    precision: str = "fp32",
    calibration: Paths | None = None,
    calibration_images: int = 300,
    check: Paths | None = None,
    max_drop: float = 0.7,
    overwrite: bool = False,
) -> ExportReport:
    """Exports a detector to a file that runs without this package, and checks the file.

    Args:
        model: a published detector, a run, a checkpoint in it, or a config.
        path: file to write: .onnx, .xml (OpenVINO) or .pt (TorchScript); None for int8.xml in the
            run's folder, where :class:`Predictor` finds it.
        weights: path of a checkpoint; None for the model's own.
        format: one of :data:`resnest_d2.deploy.export.FORMATS`; None for "onnx", and for
            "openvino" without a path.
        resize: resize images inside the file as in the evaluation, not outside of it.
        score_threshold: lowest score of a detection; None for the config's.
        batch: whether the file takes several images of one size.
        precision: "fp32", "fp16" (weights in 16 bits) or "int8".
        calibration: for int8, COCO annotations, or these and the folder of their images, of the
            training or validation data.
        calibration_images: largest number of them.
        check: COCO annotations, or these and the folder of their images, to score the detector and
            the file on.
        max_drop: AP that int8 may lose in ``check``; layers that are sensitive stay in float32
            while it loses more.
        overwrite: replace existing files.

    Returns:
        The differences between the file's detections and the detector's, and both AP.

    Raises:
        MissingPackageError: the format's packages are not installed.
        OutputExistsError: the file exists.
        UserError: see :func:`resnest_d2.deploy.export.export`, which takes a module.
    """
    if path is None:
        path = _beside(model, weights, precision)
        if format not in (None, "openvino"):
            raise UserError(f"{path} is OpenVINO's; give a file to write for the format {format}.")
        format = "openvino"
    sources = [os.fspath(source) for source in (model, weights) if source]
    require_new(files_of(Path(path)), overwrite=overwrite, sources=sources)
    cfg = prediction_config(
        model, weights=weights, device="cpu", score_threshold=score_threshold, opts=()
    )
    size = ShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.RESIZE)
    name, given = os.fspath(model), None if weights is None else os.fspath(weights)
    detector = build_trained(cfg)
    images: Sequence = ()
    if calibration_images < 1:
        raise UserError(f"calibration_images is {calibration_images}; choose 1 or more.")
    if calibration is not None:
        if precision != "int8":
            raise UserError(f"calibration is for int8 alone, and precision is {precision!r}.")
        data = open_dataset(name, calibration, weights=given)
        images = Images(data, calibration_images, resizes=resize)
    write = functools.partial(
        export_module,
        detector,
        path,
        format=format or "onnx",
        resize=size if resize else None,
        class_names=build_metadata(cfg).get("thing_classes", ()),
        config=name,
        batch=batch,
        precision=precision,
        calibration=images,
        overwrite=overwrite,
    )
    if check is None:
        return write()
    data = open_dataset(name, check, weights=given)
    return checked(write, detector, data, max_drop=max_drop, precision=precision)


def _beside(model: str | os.PathLike, weights: str | os.PathLike | None, precision: str) -> Path:
    run = find_detector(os.fspath(model)).run
    if precision != "int8" or not run or weights:
        raise UserError("Give the file to write; only int8 of a run has a place of its own.")
    return Path(run) / INT8_FILE
