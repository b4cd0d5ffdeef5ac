"""``resnest-d2 check-data``: checks annotations and images, and writes a clean copy."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from .common import complete_config, prepare, require_coco, say


def check_data(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="JSON FOLDER [JSON [FOLDER]]...",
            help="COCO annotations and their image folder; give the training set first.",
        ),
    ],
    *,
    config: Annotated[
        Optional[str],
        typer.Option(
            help="Compare objects with the anchors and limits of a config, detector or run.",
            autocompletion=complete_config,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    fix: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="OUT.JSON", help="Write a clean copy; give one for each JSON, in order."
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing files given by --fix.")
    ] = False,
    show: Annotated[
        int, typer.Option(min=0, help="Number of findings to show; 0 shows all.")
    ] = 100,
) -> None:
    """Check COCO annotations and their images before training.

    The exit code is 1 if there are errors, or with --strict also if there are warnings. With --fix,
    a clean copy is written in any case, and the exit code is 1 only with --strict. Input files are
    never changed.

    Examples:
      resnest-d2 check-data data/train.json data/images data/val.json
      resnest-d2 check-data data/train.json data/images --fix data/clean.json
    """
    from resnest_d2.data.validate import check_data as check
    from resnest_d2.data.validate import fix_data, pair_paths, repair_table

    for i, path in enumerate(map(Path, paths)):
        if i == 0 or not path.is_dir():
            require_coco(path)
    options = _of_config(config) if config else {}
    result = check(pair_paths(paths), **options)
    if result.findings:
        say(result.table(show or None) + "\n")
    say(f"{result.class_table()}\n\n{result.summary()}")
    if fix:
        repairs = fix_data(result, fix, overwrite=overwrite)
        say(f"\n{repair_table(repairs)}\n\nWritten: {', '.join(fix)}")
    if (strict or not fix) and not result.passes(strict=strict):
        raise typer.Exit(1)


def _of_config(config: str) -> dict[str, Any]:
    """Anchors and limit of detections of a config file, without reading its datasets."""
    from resnest_d2.config import load_config
    from resnest_d2.data.validate import Anchors
    from resnest_d2.model_zoo import find_detector

    prepare()
    cfg = load_config(find_detector(config).config)
    keys = cfg.MODEL.ANCHOR_GENERATOR
    sizes = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    anchors = Anchors(keys.SIZES, keys.ASPECT_RATIOS, *sizes)
    return {"anchors": anchors, "detections": cfg.TEST.DETECTIONS_PER_IMAGE}
