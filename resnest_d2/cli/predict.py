"""``resnest-d2 predict``: draws detections on images and videos, and writes them in formats."""

import glob
import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from resnest_d2.errors import UserError, printable
from resnest_d2.files import make_folder
from resnest_d2.outputs import free_folder, require_empty

from .common import complete_config, keep_memory, prepare, say


class Backend(str, Enum):
    eager = "eager"
    inductor = "inductor"
    openvino = "openvino"
    plain = "plain"


class Precision(str, Enum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"
    int8 = "int8"


class Shards(str, Enum):
    jsonl = "jsonl"
    parquet = "parquet"


_EAGER, _AUTO, _JSONL = Backend("eager"), Precision("auto"), Shards("jsonl")


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A published detector, a run's folder, a checkpoint in it, or a config.",
            autocompletion=complete_config,
        ),
    ],
    source: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, patterns, videos, addresses (http, rtsp), or a camera's number."
        ),
    ],
    *,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint; default: the model's own.")
    ] = None,
    score_threshold: Annotated[
        Optional[float],
        typer.Option(help="Lowest score of a detection, 0 to 1; default: the run's, or 0.5."),
    ] = None,
    classes: Annotated[
        Optional[str], typer.Option(metavar="NAMES", help="Keep only these: cat,dog.")
    ] = None,
    max_det: Annotated[
        Optional[int], typer.Option(metavar="N", help="Most detections per image.")
    ] = None,
    slice: Annotated[
        Optional[int],
        typer.Option(metavar="PIXELS", help="Cut images into slices, for small objects: 640."),
    ] = None,
    overlap: Annotated[float, typer.Option(help="Share by which slices overlap.")] = 0.2,
    every: Annotated[int, typer.Option(metavar="N", help="Take every n-th frame of videos.")] = 1,
    track: Annotated[
        bool, typer.Option("--track", help="Number the objects of videos through the frames.")
    ] = False,
    backend: Annotated[Backend, typer.Option(help="Backend; all give the same results.")] = _EAGER,
    precision: Annotated[
        Precision,
        typer.Option(help="bf16, fp16: 16 bits. int8: export --precision int8 came before."),
    ] = _AUTO,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, ...")] = "auto",
    output: Annotated[
        Optional[Path],
        typer.Option(help="Folder for the results; default: output/predict, or the next free one."),
    ] = None,
    draw: Annotated[
        Optional[bool], typer.Option(help="Write drawn images and videos; default: not with --ray.")
    ] = None,
    save_frames: Annotated[
        bool, typer.Option("--save-frames", help="Also write drawn frames of videos as images.")
    ] = False,
    save_json: Annotated[bool, typer.Option(help="Write COCO records to predictions.json.")] = True,
    save_csv: Annotated[
        bool, typer.Option("--save-csv", help="Write a table to predictions.csv.")
    ] = False,
    save_txt: Annotated[
        bool, typer.Option("--save-txt", help="Write YOLO labels with scores to labels/.")
    ] = False,
    save_crops: Annotated[
        bool, typer.Option("--save-crops", help="Write what is in each box to crops/CLASS/.")
    ] = False,
    save_labelme: Annotated[
        bool, typer.Option("--save-labelme", help="Write labelme's files, to correct by hand.")
    ] = False,
    save_coco: Annotated[
        bool, typer.Option("--save-coco", help="Write COCO annotations, to correct by hand.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    ray: Annotated[
        Optional[str],
        typer.Option(
            metavar="ADDRESS", help="Predict on a Ray cluster: its address, or local, or auto."
        ),
    ] = None,
    shards: Annotated[Shards, typer.Option(help="With --ray: format of the results.")] = _JSONL,
    shard_size: Annotated[int, typer.Option(help="With --ray: images per file.")] = 1000,
) -> None:
    """Detect objects in images, folders, videos and streams.

    Examples:
      resnest-d2 predict mask_rcnn_s50 holiday/ street.jpg --score-threshold 0.3
      resnest-d2 predict output/mine video.mp4 --track --every 2
      resnest-d2 predict output/mine photos/ --save-labelme --no-draw

    Drawn images, an annotated video for each video, and predictions.json are written to --output.
    Ctrl-C keeps the results so far; it is the end of a camera or stream.
    Images that cannot be read, or that there is not enough memory for, are listed at the end; the
    others are still processed, and the exit code is 1. Drawings of over 25 million pixels are
    reduced to that size. With --ray, results are shards of records, text files list images, too,
    and the same command continues a job that was stopped.
    """
    output = output or Path("output/predict" if ray else free_folder("output/predict"))
    _check_output(output, source)
    options: dict[str, Any] = {"weights": weights, "device": device, "backend": backend.value}
    options["precision"] = precision.value
    if classes is not None:
        options["only"] = [name.strip() for name in classes.split(",")]
    if max_det is not None:
        options["max_detections"] = max_det
    if slice is not None:
        options |= {"slice_size": slice, "overlap": overlap}
    saved = {"json": save_json, "csv": save_csv, "txt": save_txt, "crops": save_crops}
    saved |= {"labelme": save_labelme, "coco": save_coco}
    names = [name for name, wanted in saved.items() if wanted]
    if ray:
        if draw or overwrite or names != ["json"] or save_frames or track or every != 1:
            raise UserError(
                "--ray only writes shards of images' records; leave out --draw, the options "
                "--save, --no-save and --overwrite, and those of videos."
            )
    else:
        drawings = draw is not False
        require_empty(output, overwrite=overwrite or not (names or drawings))
    prepare()
    from resnest_d2.inference import choose_threshold

    chosen = choose_threshold(model, given=score_threshold, weights=weights)
    if score_threshold is None:
        say(chosen.note)
    options["score_threshold"] = chosen.value
    if ray:
        files = {"format": shards.value, "shard_size": shard_size}
        _predict_on_ray(model, source, output, address=ray, **files, **options)
        return
    keep_memory(device)
    frames = {"every": every, "track": track}
    _predict(model, source, output, names, frames, options, draw=drawings, stills=save_frames)


def _predict(
    model: str,
    source: list[str],
    output: Path,
    names: Sequence[str],
    frames: dict[str, Any],
    options: dict[str, Any],
    *,
    draw: bool,
    stills: bool,
) -> None:
    """Predicts and writes on this machine."""
    from resnest_d2.inference import Predictor
    from resnest_d2.inference.saving import SAVERS, Drawings, Tally, save_all

    stream = Predictor(model, **options).stream(source, **frames)
    for note in stream.source.notes:
        say(note)
    make_folder(output)
    savers = [SAVERS[name](output) for name in names]
    savers += [Drawings(output, frames=stills)] if draw else []
    tally = Tally()
    try:
        save_all(stream, savers, tally)
    except KeyboardInterrupt:
        if not stream.source.endless:
            raise
    finally:
        for note in tally.notes:
            say(note)
        say(f"{tally}; the results are in {output}.")
    if stream.failed:
        name, reason = stream.failed[0]
        others = len(stream.failed) - 1
        more = f" and {others} more image{'s' * (others > 1)}" if others else ""
        raise UserError(printable(f"{name}{more} could not be done: {reason}"))


def _predict_on_ray(model: str, source: list[str], output: Path, **options: Any) -> None:
    """Predicts on a Ray cluster; raises as a prediction on this machine."""
    from resnest_d2.inference.on_ray import predict_on_ray

    done = predict_on_ray(model, source, output, **options)
    say(f"{done} The results are in {output}.")
    if done.failed:
        raise UserError(f"{done.failed} images could not be read; their records say why.")


def _check_output(output: Path, sources: list[str]) -> None:
    """Raises an error if a result could overwrite a source image, or be read as one."""
    real = os.path.realpath(output)
    for source in sources:
        whole = os.path.isdir(source) or "**" in source
        folder = source if os.path.isdir(source) else os.path.dirname(source)
        while glob.has_magic(folder) and not os.path.exists(folder):
            folder = os.path.dirname(folder)
        within = os.path.realpath(folder or ".")
        if real == within:
            raise UserError(
                f"--output is {output}, the folder of the source {source}; drawings could "
                "overwrite its images. Choose another folder."
            )
        if whole and os.path.commonpath([real, within]) == within:
            raise UserError(
                f"--output is {output}, inside of the source {source}; the next prediction would "
                "take its drawings for images. Choose another folder."
            )
