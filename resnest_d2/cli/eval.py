"""``resnest-d2 eval``: evaluates a run or any checkpoint."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from resnest_d2.errors import MissingFileError
from resnest_d2.outputs import require_new

from .arguments import JSON_FOLDER, Data
from .common import complete_config, dataset, in_group, prepare, say, with_flags
from .train import Gpus, Opts


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
) -> None:
    """Evaluate a detector.

    Print a table of AP, and write results.json and report.html.

    Examples:
      resnest-d2 eval output/mine
      resnest-d2 eval output/mine --data data/val.json data/images
      resnest-d2 eval quick_schedules/faster_rcnn_ResNeSt_14_FPN_quick.yaml \\
          --weights output/mine/model_final.pth --data data/val.json data/images
    """
    prepare()
    if output:
        require_new([output / "results.json"], overwrite=overwrite)
    _score(model, opts, weights=weights, data=data, output=output, num_gpus=num_gpus)


@in_group
def _score(
    model: str,
    opts: list[str] | None,
    *,
    weights: str | None,
    data: tuple[str, str] | None,
    output: Path | None,
    num_gpus: int,
) -> None:
    """Evaluates a run, a published detector, or a config with weights.

    Raises:
        MissingFileError: the run has no checkpoint.
        UserError: see :func:`resnest_d2.engine.evaluate`; or an option and a pair set the same key.
    """
    from resnest_d2.engine import argument_parser, launch
    from resnest_d2.model_zoo import find_detector

    path, found, run = find_detector(model)
    flags: dict[str, dict[str, Any]] = {}
    if data:
        entry = dataset(*data)
        keys = {"COCO": [entry], "TRAIN": (), "TEST": (entry[0],)}
        flags["--data"] = {f"DATASETS.{key}": value for key, value in keys.items()}
        given = weights or _value_of("MODEL.WEIGHTS", opts)
        source = path if run or not given else _config_beside(given)
        if not _value_of("DATASETS.CLASSES", opts):
            own = opts if source == path else None
            flags["--data"].update(_classes(source, own, trained=bool(run or given or found)))
    if run and not (found or weights or "MODEL.WEIGHTS" in (opts or ())):
        raise MissingFileError(
            f"{model} has no checkpoint; give one with --weights, or resume the run with "
            "`resnest-d2 train --resume`."
        )
    if output:
        flags["--output"] = {"OUTPUT_DIR": output}
    elif run and "OUTPUT_DIR" not in (opts or ()):
        flags["--output"] = {"OUTPUT_DIR": Path(run).absolute() / "eval"}
    if weights or (found and "MODEL.WEIGHTS" not in (opts or ())):
        flags["--weights"] = {"MODEL.WEIGHTS": weights or found}
    args = argument_parser().parse_args(["--config-file", path, "--dist-url", "auto"])
    args.opts, args.eval_only, args.num_gpus = with_flags(opts, flags), True, num_gpus
    launch(args)


def _value_of(key: str, opts: list[str] | None) -> str | None:
    pairs = iter(opts or ())
    return dict(zip(pairs, pairs, strict=False)).get(key)


def _config_beside(weights: str) -> str | None:
    """config.yaml of the run that a checkpoint is in."""
    path = Path(weights).parent / "config.yaml"
    return str(path) if path.is_file() else None


def _classes(config: str | None, opts: list[str] | None, *, trained: bool) -> dict[str, Any]:
    """Keys that give a detector's classes, which the categories of --data are matched to.

    Args:
        config: config that the detector was trained with, if it is known.
        opts: KEY VALUE pairs to apply to it.
        trained: whether there are weights; otherwise the config's own are the only ones.
    """
    from resnest_d2.config import given_keys, load_config
    from resnest_d2.data.registration import learn_classes

    if config is None:
        say(
            "The names of the detector's classes are unknown: the categories of --data are taken "
            "as its classes, in the order of their ids. DATASETS.CLASSES sets the names.",
            err=True,
        )
        return {}
    cfg = load_config(config, opts or ())
    if not (trained or cfg.MODEL.WEIGHTS):
        return {}
    learn_classes(cfg, given=given_keys(config, opts or ()))
    keys = {"CLASSES": list(cfg.DATASETS.CLASSES), "CATEGORY_IDS": list(cfg.DATASETS.CATEGORY_IDS)}
    known = {f"DATASETS.{key}": value for key, value in keys.items() if value}
    return {key: value for key, value in known.items() if not _value_of(key, opts)}
