"""``resnest-d2 export``: writes a detector as a file for another engine."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from resnest_d2.outputs import require_new

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
    from resnest_d2.deploy.export import ShortestEdge, files_of
    from resnest_d2.deploy.export import export as export_detector
    from resnest_d2.inference import build_metadata, build_trained, prediction_config

    prepare()
    sources = [path for path in (model, weights) if path]
    require_new(files_of(output), overwrite=overwrite, sources=sources)
    keep_memory("cpu")
    cfg = prediction_config(
        model, weights=weights, device="cpu", score_threshold=score_threshold, opts=()
    )
    resize = ShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.RESIZE)
    report = export_detector(
        build_trained(cfg),
        output,
        format=format.value,
        resize=resize if preprocess is _INSIDE else None,
        class_names=build_metadata(cfg).get("thing_classes", ()),
        config=model,
        overwrite=overwrite,
    )
    say(str(report))
