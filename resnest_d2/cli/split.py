"""``resnest-d2 split``: splits COCO annotations into training, validation and test sets."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from resnest_d2.errors import UserError

from .common import next_training, require_coco, say

Val = Annotated[
    Optional[float], typer.Option(help="Share of the images to evaluate on, such as 0.2.")
]
Test = Annotated[float, typer.Option(help="Share of the images for a last test.")]
Seed = Annotated[int, typer.Option(help="Seed; the same seed gives the same split.")]
GroupBy = Annotated[
    Optional[str],
    typer.Option(
        metavar="FIELD_OR_REGEX",
        help="Keep images together that agree in this field, or in what the expression matches in "
        "their file names, such as a video or a patient.",
    ),
]
IgnoreDuplicates = Annotated[
    bool,
    typer.Option("--ignore-duplicates", help="Do not look for near-duplicate images."),
]


def split(
    json_file: Annotated[Path, typer.Argument(metavar="JSON", help="COCO annotations.")],
    images: Annotated[Path, typer.Argument(metavar="FOLDER", help="Their images.")],
    *,
    output: Annotated[Path, typer.Option(help="Folder for train.json, val.json and so on.")],
    val: Val = None,
    test: Test = 0.0,
    folds: Annotated[
        Optional[int],
        typer.Option(help="Write fold_1/train.json, fold_1/val.json and so on for K folds."),
    ] = None,
    seed: Seed = 0,
    group_by: GroupBy = None,
    max_distance: Annotated[
        Optional[int],
        typer.Option(
            min=0,
            max=128,
            help="Bits of 256 by which the hashes of near-duplicates differ at most; default: 72.",
        ),
    ] = None,
    ignore_duplicates: IgnoreDuplicates = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Split COCO annotations into sets with equal shares of the classes.

    Near-duplicate images, such as frames of a video or resized copies, are kept in one set. Images
    stay where they are. The default is --val 0.2.
    Requires: pip install 'resnest-d2[split]'

    Examples:
      resnest-d2 split data/all.json data/images --val 0.2 --test 0.1 --output data/split
      resnest-d2 split data/all.json data/images --folds 5 --output data/folds
      resnest-d2 split data/all.json data/images --group-by patient --output data/split
    """
    from resnest_d2.data.convert import Plan, split_data

    if folds is not None and val is not None:
        raise UserError("--folds and --val are both given; each fold has its own share.")
    if folds == 0:
        raise UserError("--folds is 0; give at least 2.")
    if ignore_duplicates and max_distance is not None:
        raise UserError("--ignore-duplicates and --max-distance are both given; choose one.")
    require_coco(json_file)
    plan = Plan(
        val=0.2 if val is None else val, test=test, folds=folds or 0, seed=seed, group_by=group_by
    )
    if ignore_duplicates or max_distance is not None:
        plan = plan._replace(max_distance=-1 if max_distance is None else max_distance)
    done = split_data(str(json_file), str(images), plan, output=str(output), overwrite=overwrite)
    for note in done.notes:
        say(note)
    say(f"\nWritten: {', '.join(done.files)}\n\n{done.table}\n")
    train_file, val_file = done.files[:2]
    pairs = (train_file, str(images)), (val_file, str(images))
    say(next_training(*pairs, masks=done.masks))
