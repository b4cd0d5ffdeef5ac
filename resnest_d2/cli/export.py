"""``resnest-d2 export``: writes a detector as a file for another engine."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Optional

import typer

from .arguments import JSON_FOLDER, Data
from .common import complete_config, keep_memory, prepare, say


class Format(str, Enum):
    onnx = "onnx"
    openvino = "openvino"
    torchscript = "torchscript"


class Precision(str, Enum):
    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class Preprocess(str, Enum):
    inside = "inside"
    outside = "outside"


_FP32, _INSIDE = Precision("fp32"), Preprocess("inside")


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A published detector, a run's folder, a checkpoint in it, or a config.",
            autocompletion=complete_config,
        ),
    ],
    *,
    output: Annotated[
        Optional[Path],
        typer.Option(
            help="File to write: .onnx, .xml or .pt; default with int8: RUN/int8.xml, for "
            "OpenVINO, where predict --precision int8 finds it."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint; default: the model's own.")
    ] = None,
    format: Annotated[
        Optional[Format],
        typer.Option(help="Format of the file; default: onnx, or openvino for RUN/int8.xml."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="fp16: weights in 16 bits. int8: quantized.")
    ] = _FP32,
    calibration: Annotated[
        Data,
        typer.Option(metavar=JSON_FOLDER, help="With int8: COCO annotations; their images."),
    ] = None,
    calibration_images: Annotated[
        int, typer.Option(metavar="N", help="With int8: images to calibrate with, at most.")
    ] = 300,
    check: Annotated[
        Data,
        typer.Option(metavar=JSON_FOLDER, help="Score the detector and the file on these."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="With int8 and --check: AP it may lose, in points.")
    ] = 0.7,
    preprocess: Annotated[
        Preprocess, typer.Option(help="Resize images inside the file, or outside of it.")
    ] = _INSIDE,
    score_threshold: Annotated[
        float | None, typer.Option(help="Lowest score of a detection; default: the config's.")
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="The file takes several images of one size.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Export a detector, and check the file.

    Examples:
      resnest-d2 export output/mine --format onnx --output output/mine.onnx
      resnest-d2 export output/mine --precision int8 --calibration train.json --check val.json

    The file is run in its own engine on three images of different sizes. In fp32 it is kept only
    if its detections equal those of the detector. --check prints the AP of both.
    """
    from resnest_d2.api import export as export_detector

    prepare()
    if output is None and precision is not Precision.int8:
        raise typer.BadParameter("--output is missing: the file to write.")
    keep_memory("cpu")
    report = export_detector(
        model,
        output,
        weights=weights,
        format=format and format.value,
        resize=preprocess is _INSIDE,
        score_threshold=score_threshold,
        batch=batch,
        precision=precision.value,
        calibration=calibration,
        calibration_images=calibration_images,
        check=check,
        max_drop=max_drop,
        overwrite=overwrite,
    )
    say(str(report))
