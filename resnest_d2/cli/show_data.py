"""``resnest-d2 show-data``: draws batches as the detector sees them, with their truth."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from resnest_d2.files import make_folder, whole_file
from resnest_d2.outputs import require_new

from .arguments import JSON_FOLDER, Data
from .common import complete_config, prepare, say
from .train import Opts


class Split(str, Enum):
    train = "train"
    val = "val"


_TRAIN = Split("train")


def show_data(
    config: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CONFIG",
            help="A run's folder, a config, or a published detector.",
            autocompletion=complete_config,
        ),
    ],
    opts: Opts = None,
    *,
    data: Annotated[
        Data, typer.Option(metavar=JSON_FOLDER, help="COCO annotations; their images.")
    ] = None,
    split: Annotated[
        Split, typer.Option(help="Training images, augmented, or those of the evaluation.")
    ] = _TRAIN,
    batches: Annotated[int, typer.Option(min=1, help="Number of batches.")] = 2,
    output: Annotated[Path, typer.Option(help="Folder for the drawings.")] = Path("output/data"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Draw batches as the detector sees them, with their truth.

    The images are cropped, resized and augmented as in the training; those of --split val only
    resized. With SEED, the drawings are always the same.

    Examples:
      resnest-d2 show-data output/mine
      resnest-d2 show-data mask_rcnn_s50 --data data/train.json data/images \\
          INPUT.AUG.ROTATION 180 INPUT.AUG.SCALE_JITTER "(0.5, 2.0)"
    """
    from detectron2.data import MetadataCatalog

    from resnest_d2.config.pairs import with_keys
    from resnest_d2.data.augment import describe_augmentations
    from resnest_d2.engine.preview import preview_batches
    from resnest_d2.model_zoo import find_detector
    from resnest_d2.painting.items import skeleton_of
    from resnest_d2.report.batches import draw_batch

    prepare()
    paths = [output / f"{split.value}_{number}.jpg" for number in range(1, batches + 1)]
    require_new(paths, overwrite=overwrite)
    path = find_detector(config).config
    keys = with_keys(opts or (), {"--data": _data_keys(data)} if data else {})
    shown = preview_batches(path, keys, split=split.value, number=batches)
    line = "Resized only"
    if split is Split.train:
        line = f"Augmentations: {describe_augmentations(shown.cfg)}"
    skeleton = skeleton_of(MetadataCatalog.get(shown.datasets[0]))
    make_folder(output)
    written = []
    for number, (target, batch) in enumerate(zip(paths, shown.batches, strict=False), 1):
        title = f"{split.value} batch {number} of {', '.join(shown.datasets)}. {line}"
        order, names = shown.cfg.INPUT.FORMAT, shown.classes
        drawn = draw_batch(batch, order=order, names=names, title=title, skeleton=skeleton)
        with whole_file(target) as file:
            drawn.save(file, "JPEG", quality=90)
        written.append(str(target))
    say(f"{line}.\nWritten: {', '.join(written)}")


def _data_keys(data: tuple[str, str]) -> dict[str, object]:
    """Keys of one dataset, shown as either split."""
    from resnest_d2.data.entries import dataset_entry

    entry = dataset_entry(data)
    keys = {"COCO": [entry], "TRAIN": (entry[0],), "TEST": (entry[0],)}
    return {f"DATASETS.{key}": value for key, value in keys.items()}
