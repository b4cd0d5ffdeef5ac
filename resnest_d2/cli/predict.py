"""`resnest-d2 predict`: drawn pictures and COCO records of what a detector finds."""

import json
from pathlib import Path
from typing import Annotated

import typer

from resnest_d2.inference import Predictor


def predict(
    model: Annotated[
        str, typer.Argument(help="published detector, folder of a run, checkpoint in it, or config")
    ],
    source: Annotated[list[str], typer.Argument(help="pictures, folders of pictures, videos")],
    weights: Annotated[str | None, typer.Option(help="checkpoint; else the model's own")] = None,
    score_threshold: Annotated[float, typer.Option(help="lowest score kept, 0 to 1")] = 0.5,
    backend: Annotated[str, typer.Option(help="eager, inductor, openvino or plain")] = "eager",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path("output/predict"),
    save_json: Annotated[bool, typer.Option(help="write COCO records")] = True,
    draw: Annotated[bool, typer.Option(help="write drawn pictures")] = True,
) -> None:
    """Find objects on pictures, folders and videos.

    Example:
      resnest-d2 predict mask_rcnn_s50 holiday/ street.jpg --score-threshold 0.3

    Writes drawn pictures and predictions.json. Pictures that cannot be read are named at the end;
    the others are done all the same, and the exit code is 1.
    """
    predictor = Predictor(
        model, weights=weights, device=device, backend=backend, score_threshold=score_threshold
    )
    stream = predictor.stream(source)
    output.mkdir(parents=True, exist_ok=True)
    records, names, number = [], set(), 0
    for number, prediction in enumerate(stream, 1):
        for record in prediction.to_coco(number) if save_json else ():
            records.append({**record, "file_name": prediction.name})
        if draw:
            name = _free_name(prediction.name, names)
            prediction.draw().save(output / name, quality=95)
    if save_json:
        (output / "predictions.json").write_text(json.dumps(records))
    typer.echo(f"{number} pictures predicted; results in {output}.")
    if stream.failed:
        raise typer.Exit(1)  # the log has named them


def _free_name(name: str, taken: set[str]) -> str:
    """``a.jpg`` for ``a.png``; ``a_2.jpg`` for another picture of that name, of another folder."""
    stem = name.replace("#", "_") if "#" in name else Path(name).stem
    free, again = f"{stem}.jpg", 2
    while free in taken:
        free, again = f"{stem}_{again}.jpg", again + 1
    taken.add(free)
    return free
