"""``resnest-d2 eval``: evaluates a run or any checkpoint."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from resnest_d2.outputs import require_new

from .arguments import JSON_FOLDER, Data
from .common import Quiet, Verbose, complete_config, in_group, option, prepare
from .train import Gpus, Opts


@in_group
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_CONFIG",
            help="A run's folder, a checkpoint in it, a published detector, or a config with "
            "--weights.",
            autocompletion=complete_config,
        ),
    ],
    opts: Opts = None,
    *,
    weights: Annotated[
        Optional[str], typer.Option(help="Checkpoint; default: the run's best or last.")
    ] = None,
    data: Annotated[
        Data,
        typer.Option(metavar=JSON_FOLDER, help="COCO annotations to evaluate on; their images."),
    ] = None,
    output: Annotated[
        Optional[Path],
        typer.Option(help="Folder for the results; default: RUN/eval or the config's OUTPUT_DIR."),
    ] = None,
    num_gpus: Gpus = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files given by --output.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Evaluate a detector.

    Print a table of AP, and write results.json and report.html.

    Examples:
      resnest-d2 eval output/mine
      resnest-d2 eval output/mine --data data/val.json data/images
      resnest-d2 eval quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml \\
          --weights output/mine/model_final.pth --data data/val.json data/images
    """
    from resnest_d2.engine import Evaluation, launch

    prepare()
    if output:
        require_new([output / "results.json"], overwrite=overwrite)
    request = Evaluation(model=model, data=data, weights=weights, output=output, opts=opts or ())
    args = request.arguments(option)
    args.num_gpus, args.quiet, args.verbose = num_gpus, quiet, verbose
    launch(args)
