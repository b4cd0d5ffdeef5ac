"""`resnest-d2 predict`: drawn images and COCO records of what a detector finds."""

import json
import os
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnest_d2.errors import UserError
from resnest_d2.files import make_folder, whole_file

from .common import complete_config, keep_memory, prepare

if TYPE_CHECKING:
    from resnest_d2.inference import Prediction

Backend = Enum("Backend", {n: n for n in ("eager", "inductor", "openvino", "plain")}, type=str)
_EAGER = Backend("eager")


def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="published detector, folder of a run, checkpoint in it, or config",
            autocompletion=complete_config,
        ),
    ],
    source: Annotated[list[str], typer.Argument(help="images, folders of images, videos")],
    *,
    weights: Annotated[str | None, typer.Option(help="checkpoint; else the model's own")] = None,
    score_threshold: Annotated[float, typer.Option(help="lowest score kept, 0 to 1")] = 0.5,
    backend: Annotated[Backend, typer.Option(help="what computes; same results")] = _EAGER,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path("output/predict"),
    save_json: Annotated[bool, typer.Option(help="write COCO records")] = True,
    draw: Annotated[bool, typer.Option(help="write drawn images")] = True,
) -> None:
    """Find objects on images, folders and videos.

    Example:
      resnest-d2 predict mask_rcnn_s50 holiday/ street.jpg --score-threshold 0.3

    Writes drawn images and predictions.json, that one also of what was done before Ctrl-C.
    Images that cannot be read are named at the end; the others are done all the same, and the
    exit code is 1.
    """
    from resnest_d2.inference import Failure, Predictor

    _check_output(output, source)
    prepare()
    keep_memory(device)
    predictor = Predictor(
        model,
        weights=weights,
        device=device,
        backend=backend.value,
        score_threshold=score_threshold,
    )
    stream = predictor.stream(source)
    make_folder(output)
    records, names, number = [], set(), 0
    try:
        for number, prediction in enumerate(stream, 1):
            for record in prediction.to_coco(number) if save_json else ():
                records.append({**record, "file_name": _file_name(prediction)})
            if draw:
                try:
                    drawn = prediction.draw()
                except UserError as error:  # the file is gone since; a full disk fails below
                    reason = f"it cannot be drawn, {error}"
                    stream.failed.append(Failure(_file_name(prediction), reason))
                    continue
                with whole_file(output / _free_name(prediction.name, names)) as file:
                    drawn.save(file, "JPEG", quality=95)
    finally:
        if save_json:
            with whole_file(output / "predictions.json", "w") as file:
                json.dump(records, file)
        typer.echo(f"{number} images predicted; results in {output}.")
    if stream.failed:
        name, reason = stream.failed[0]
        more = f" and {len(stream.failed) - 1} more images" if len(stream.failed) > 1 else ""
        raise UserError(f"{name}{more} could not be done: {reason}")


def _check_output(output: Path, sources: list[str]) -> None:
    """Refuse to write among the sources: a drawing would replace an image of its name."""
    for source in sources:
        folder = source if os.path.isdir(source) else os.path.dirname(source)
        if os.path.realpath(folder) == os.path.realpath(output):
            raise UserError(
                f"--output is {output}, the folder of the source {source}, whose images the "
                "drawings could replace; choose another folder."
            )


def _file_name(prediction: "Prediction") -> str:
    """Its path as given; ``folder/video.mp4#12`` of a frame."""
    return os.path.join(os.path.dirname(prediction.path), prediction.name)


def _free_name(name: str, taken: set[str]) -> str:
    """``a.jpg`` for ``a.png``; ``a_2.jpg`` for another image of that name, of another folder."""
    stem = name.replace("#", "_") if "#" in name else Path(name).stem
    free, again = f"{stem}.jpg", 2
    while free in taken:
        free, again = f"{stem}_{again}.jpg", again + 1
    taken.add(free)
    return free
