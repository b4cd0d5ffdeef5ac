"""``resnest-d2 train``: trains a detector, with the data given as options."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from resnest_d2.errors import UserError

from .arguments import JSON_FOLDER, Data
from .common import complete_config, dataset, in_group, prepare, say, with_flags

Config = Annotated[
    str,
    typer.Argument(
        help="A config, a published detector to fine-tune, or with --resume a run's folder.",
        autocompletion=complete_config,
    ),
]
Opts = Annotated[
    Optional[list[str]],
    typer.Argument(
        metavar="[KEY VALUE]...", help="Config keys; put -- before values that begin with -."
    ),
]
Gpus = Annotated[int, typer.Option(help="Processes, one per GPU; on the CPU if there is none.")]


@in_group
def train(
    config: Config,
    opts: Opts = None,
    *,
    data: Annotated[
        Data, typer.Option(metavar=JSON_FOLDER, help="COCO annotations to train on; their images.")
    ] = None,
    val: Annotated[
        Data,
        typer.Option(metavar=JSON_FOLDER, help="The same to evaluate on; default: no evaluation."),
    ] = None,
    val_images: Annotated[
        Optional[str], typer.Option(hidden=True, help="Older form of the FOLDER of --val.")
    ] = None,
    output: Annotated[
        Optional[Path], typer.Option(help="Folder of the run; default: the config's OUTPUT_DIR.")
    ] = None,
    weights: Annotated[
        Optional[str],
        typer.Option(
            metavar="FILE|RUN|NAME",
            help="Initial weights: a checkpoint, the best of a run, or a published detector's.",
        ),
    ] = None,
    epochs: Annotated[
        Optional[int], typer.Option(help="Length of the training; default: suits the data.")
    ] = None,
    batch_size: Annotated[
        Optional[int], typer.Option(help="Images per iteration, over all processes.")
    ] = None,
    lr: Annotated[
        Optional[float], typer.Option(help="Learning rate; default: follows the batch size.")
    ] = None,
    image_size: Annotated[
        Optional[int],
        typer.Option(help="Shorter side of the images in pixels, in training and evaluation."),
    ] = None,
    anchors: Annotated[
        Optional[str],
        typer.Option(metavar="auto", help="Fit the anchors to the boxes, where that is better."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is in --output.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check data and config, print what the training would do, and stop."
        ),
    ] = False,
    num_gpus: Gpus = 1,
) -> None:
    """Train a detector on your own images.

    Without --data, the config's datasets are used. What you do not set follows from the data; see
    it with --dry-run. Ctrl-C saves a checkpoint. On several machines, start it with torchrun or
    srun.

    Examples:
      resnest-d2 train quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml \\
          --data data/train.json data/images --val data/val.json --output output/mine
      resnest-d2 train mask_rcnn_s50 --data data/train.json data/images \\
          --val data/val.json --output output/s50 --epochs 24 --dry-run
      resnest-d2 train output/mine --resume
    """
    from resnest_d2.engine import argument_parser, launch
    from resnest_d2.model_zoo import find_detector, find_weights

    prepare()
    path, start, run = find_detector(config)
    if run and not resume:
        raise UserError(
            f"{run} is a run: give --resume to continue it, or a config to start another."
        )
    if run and run != config:
        raise UserError(
            f"--resume continues from the last checkpoint of a run: give its folder, {run}."
        )
    flags = _data_flags(data, val, val_images)
    if output or run:
        flags["--output"] = {"OUTPUT_DIR": output or Path(config).absolute()}
    if run or config.endswith((".yaml", ".yml")):  # keep the config's own weights
        start = None
    if weights:
        flags["--weights"] = {"MODEL.WEIGHTS": find_weights(weights)}
    elif start and "MODEL.WEIGHTS" not in (opts or ()):
        flags["--weights"] = {"MODEL.WEIGHTS": start}
    if epochs is not None:
        flags["--epochs"] = {"SOLVER.EPOCHS": epochs}
    if batch_size is not None:
        flags["--batch-size"] = {"SOLVER.IMS_PER_BATCH": batch_size}
    if lr is not None:
        flags["--lr"] = {"SOLVER.BASE_LR": lr}
    if image_size is not None:
        flags["--image-size"] = _size_keys(image_size)
    if anchors is not None:
        flags["--anchors"] = _anchor_keys(anchors, resume=resume)
    args = argument_parser().parse_args(["--config-file", path, "--dist-url", "auto"])
    args.opts, args.resume, args.num_gpus = with_flags(opts, flags), resume, num_gpus
    args.overwrite, args.dry_run = overwrite, dry_run
    launch(args)


def _size_keys(size: int) -> dict[str, object]:
    """Keys of images with the given shorter side; the longer one is at most 5/3 of it, as for COCO.

    Raises:
        UserError: a size below 1.
    """
    if size < 1:
        raise UserError(f"--image-size is {size}; choose 1 or more pixels.")
    longest = max(size, 5 * size // 3)
    keys = {"MIN_SIZE_TRAIN": (size,), "MIN_SIZE_TRAIN_SAMPLING": "choice", "MIN_SIZE_TEST": size}
    keys |= {"MAX_SIZE_TRAIN": longest, "MAX_SIZE_TEST": longest}
    return {f"INPUT.{key}": value for key, value in keys.items()}


def _anchor_keys(anchors: str, *, resume: bool) -> dict[str, object]:
    """Key of anchors that are fitted to the boxes.

    Raises:
        UserError: another word than auto, or a run that is resumed.
    """
    if anchors != "auto":
        raise UserError(
            f"--anchors is {anchors!r}; give auto, or sizes as MODEL.ANCHOR_GENERATOR.SIZES."
        )
    if resume:
        raise UserError("--anchors and --resume exclude each other: a run keeps its anchors.")
    return {"MODEL.ANCHOR_GENERATOR.AUTO": True}


def _data_flags(
    data: tuple[str, str] | None, val: tuple[str, str] | None, val_images: str | None
) -> dict[str, dict]:
    """Config keys that --data, --val and --val-images set.

    Raises:
        UserError: --val without --data, or --val-images without --val or beside its folder.
    """
    if val and not data:
        raise UserError("--val is given without --data; the data to train on is missing.")
    if val_images and not val:
        raise UserError("--val-images is given without --val, the annotations of its images.")
    if val and val[1] and val_images:
        raise UserError(f"--val has the folder {val[1]}, and --val-images another; give one.")
    if not data:
        return {}
    sets = [dataset(*data)]
    if val:
        sets.append(dataset(val[0], val[1] or val_images or "", before=sets[0][2]))
        if sets[0][0] == sets[1][0] and sets[0] != sets[1]:  # train/instances, val/instances
            sets[0][0] += "_train"
            sets[1][0] += "_val"
    else:
        say("No --val: there is no evaluation; the result is model_final.pth.", err=True)
    names = [entry[0] for entry in sets]
    keys = {"COCO": sets, "TRAIN": tuple(names[:1]), "TEST": tuple(names[1:])}
    return {"--data": {f"DATASETS.{key}": value for key, value in keys.items()}}
