"""``resnest-d2 train``: trains a detector, with the data given as options."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from resnest_d2.errors import UserError

from .arguments import JSON_FOLDER, Data
from .common import Quiet, Verbose, complete_config, in_group, option, prepare

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
    quiet: Quiet = False,
    verbose: Verbose = False,
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
    from resnest_d2.engine import Training, launch

    prepare()
    if val_images:
        val = _with_images(val, val_images)
    request = Training(
        model=config,
        data=data,
        val=val,
        output=output,
        weights=weights,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        image_size=image_size,
        anchors=anchors,
        resume=resume,
        opts=opts or (),
    )
    args = request.arguments(option)
    args.overwrite, args.dry_run, args.num_gpus = overwrite, dry_run, num_gpus
    args.quiet, args.verbose = quiet, verbose
    launch(args)


def _with_images(val: Data, images: str) -> tuple[str, str]:
    """--val with the folder of --val-images.

    Raises:
        UserError: there is no --val, or it has a folder.
    """
    if not val:
        raise UserError("--val-images is given without --val, the annotations of its images.")
    if val[1]:
        raise UserError(f"--val has the folder {val[1]}, and --val-images another; give one.")
    return val[0], images
