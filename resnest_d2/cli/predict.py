"""``resnest-d2 predict``: draws detections on images and writes COCO records."""

import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from resnest_d2.errors import UserError, printable
from resnest_d2.files import make_folder, whole_file
from resnest_d2.outputs import free_folder, free_name, require_empty, same_file

from .common import complete_config, keep_memory, prepare, say

if TYPE_CHECKING:
    from resnest_d2.inference import Prediction


class Backend(str, Enum):
    eager = "eager"
    inductor = "inductor"
    openvino = "openvino"
    plain = "plain"


class Shards(str, Enum):
    jsonl = "jsonl"
    parquet = "parquet"


_EAGER, _JSONL = Backend("eager"), Shards("jsonl")


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="A published detector, a run's folder, a checkpoint in it, or a config.",
            autocompletion=complete_config,
        ),
    ],
    source: Annotated[list[str], typer.Argument(help="Images, folders of images, videos.")],
    *,
    weights: Annotated[
        str | None, typer.Option(help="Checkpoint; default: the model's own.")
    ] = None,
    score_threshold: Annotated[
        float, typer.Option(help="Lowest score of a detection, 0 to 1.")
    ] = 0.5,
    backend: Annotated[Backend, typer.Option(help="Backend; all give the same results.")] = _EAGER,
    device: Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1, ...")] = "auto",
    output: Annotated[
        Optional[Path],
        typer.Option(help="Folder for the results; default: output/predict, or the next free one."),
    ] = None,
    save_json: Annotated[bool, typer.Option(help="Write COCO records to predictions.json.")] = True,
    draw: Annotated[
        Optional[bool], typer.Option(help="Write drawn images; default: not with --ray.")
    ] = None,
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
    """Detect objects in images, folders and videos.

    Example:
      resnest-d2 predict mask_rcnn_s50 holiday/ street.jpg --score-threshold 0.3

    Drawn images and predictions.json are written to --output. Ctrl-C keeps the records so far.
    Images that cannot be read, or that there is not enough memory for, are listed at the end; the
    others are still processed, and the exit code is 1. Drawings of over 25 million pixels are
    reduced to that size. With --ray, results are shards of records, text files list images, too,
    and the same command continues a job that was stopped.
    """
    from resnest_d2.inference import Failure, Predictor, costs_one_image, failure_of

    output = output or Path("output/predict" if ray else free_folder("output/predict"))
    _check_output(output, source)
    options: dict[str, Any] = {"weights": weights, "device": device, "backend": backend.value}
    options["score_threshold"] = score_threshold
    if ray:
        if draw or overwrite or not save_json:
            raise UserError(
                "--ray only writes shards; leave out --draw, --no-save-json and --overwrite."
            )
        files = {"format": shards.value, "shard_size": shard_size}
        _predict_on_ray(model, source, output, address=ray, **files, **options)
        return
    draw = draw is not False
    require_empty(output, overwrite=overwrite or not (save_json or draw))
    prepare()
    keep_memory(device)
    predictor = Predictor(model, **options)
    stream = predictor.stream(source)
    make_folder(output)
    records: list[dict] = []
    names: set[str] = set()
    number = 0
    try:
        for number, prediction in enumerate(stream, 1):
            try:
                found = prediction.to_coco(number) if save_json else ()
                records += [{**record, "file_name": _file_name(prediction)} for record in found]
                drawn = prediction.draw() if draw else None
            except Exception as error:
                if not costs_one_image(error):
                    raise
                failure = failure_of(prediction.image, error)
                reason = f"it cannot be {'drawn' if draw else 'recorded'}, {failure.reason}"
                stream.failed.append(Failure(_file_name(prediction), reason))
                continue
            if drawn is not None:
                with whole_file(output / _drawing(prediction.name, names)) as file:
                    drawn.save(file, "JPEG", quality=95)
    finally:
        if save_json:
            with whole_file(output / "predictions.json", "w") as file:
                json.dump(records, file)
        say(f"{number} images processed; the results are in {output}.")
    if stream.failed:
        name, reason = stream.failed[0]
        more = f" and {len(stream.failed) - 1} more images" if len(stream.failed) > 1 else ""
        raise UserError(printable(f"{name}{more} could not be done: {reason}"))


def _predict_on_ray(model: str, source: list[str], output: Path, **options: Any) -> None:
    """Predicts on a Ray cluster; raises as a prediction on this machine."""
    from resnest_d2.inference.on_ray import predict_on_ray

    prepare()
    done = predict_on_ray(model, source, output, **options)
    say(f"{done} The results are in {output}.")
    if done.failed:
        raise UserError(f"{done.failed} images could not be read; their records say why.")


def _check_output(output: Path, sources: list[str]) -> None:
    """Raises an error if a drawing could overwrite a source image."""
    for source in sources:
        folder = source if os.path.isdir(source) else os.path.dirname(source)
        if same_file(folder or ".", output):
            raise UserError(
                f"--output is {output}, the folder of the source {source}; drawings could "
                "overwrite its images. Choose another folder."
            )


def _file_name(prediction: "Prediction") -> str:
    """Its path as given; ``folder/video.mp4#12`` of a frame."""
    return os.path.join(os.path.dirname(prediction.path or ""), prediction.name)


def _drawing(name: str, taken: set[str]) -> str:
    """Unused name of a drawing: ``a.jpg`` for ``a.png``, ``a_2.jpg`` for a second image ``a``."""
    stem = name.replace("#", "_") if "#" in name else Path(name).stem
    return free_name(stem, ".jpg", taken)
