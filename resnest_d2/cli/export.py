"""``resnest-d2 export``: writes a detector as a file for another engine."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .common import complete_config, keep_memory, prepare, say


class Format(str, Enum):
    onnx = "onnx"
    openvino = "openvino"
    torchscript = "torchscript"


class Preprocess(str, Enum):
    inside = "inside"
    outside = "outside"


_ONNX, _INSIDE = Format("onnx"), Preprocess("inside")


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A published detector, a run's folder, a checkpoint in it, or a config.",
            autocompletion=complete_config,
        ),
    ],
    *,
    output: Annotated[Path, typer.Option(help="File to write: .onnx, .xml or .pt.")],
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint; default: the model's own.")
    ] = None,
    format: Annotated[Format, typer.Option(help="Format of the file.")] = _ONNX,
    preprocess: Annotated[
        Preprocess, typer.Option(help="Resize images inside the file, or outside of it.")
    ] = _INSIDE,
    score_threshold: Annotated[
        float | None, typer.Option(help="Lowest score of a detection; default: the config's.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Export a detector, and check the file.

    Example:
      resnest-d2 export output/mine --format onnx --output output/mine.onnx

    The file is run in its own engine on three images of different sizes. It is kept only if its
    detections equal those of the detector.
    """
    from resnest_d2.api import export as export_detector

    prepare()
    keep_memory("cpu")
    report = export_detector(
        model,
        output,
        weights=weights,
        format=format.value,
        resize=preprocess is _INSIDE,
        score_threshold=score_threshold,
        overwrite=overwrite,
    )
    say(str(report))
