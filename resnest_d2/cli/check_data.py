"""``resnest-d2 check-data``: faults of annotation files and images, and a clean copy."""

from typing import Annotated, Optional

import typer

from resnest_d2.config import load_config
from resnest_d2.data.validate import Anchors, fix_data, pair_paths, repair_table
from resnest_d2.data.validate import check_data as check
from resnest_d2.model_zoo import find_detector

from .common import complete_config


def check_data(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="JSON FOLDER [JSON [FOLDER]]...",
            help="COCO annotations and the folder of their images, those to train on first.",
        ),
    ],
    *,
    config: Annotated[
        Optional[str],
        typer.Option(
            help="Compare object sizes with the anchors of a config, published detector or run.",
            autocompletion=complete_config,
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings, too.")] = False,
    fix: Annotated[
        Optional[list[str]],
        typer.Option(metavar="OUT.JSON", help="Write a clean copy; one for each JSON, in order."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what --fix names.")
    ] = False,
    show: Annotated[int, typer.Option(min=0, help="Lines in the table; 0 for all.")] = 100,
) -> None:
    """Check your own data before training on it.

    Fails (exit code 1) on errors, with --strict on warnings too. With --fix it does so only under
    --strict, the clean copy written all the same. No input is ever changed.

    Examples:
      resnest-d2 check-data data/train.json data/images data/val.json
      resnest-d2 check-data data/train.json data/images --fix data/clean.json
    """
    result = check(pair_paths(paths), anchors=_anchors(config) if config else None)
    if result.findings:
        typer.echo(result.table(show or None) + "\n")
    typer.echo(f"{result.class_table()}\n\n{result.summary()}")
    if fix:
        repairs = fix_data(result, fix, overwrite=overwrite)
        typer.echo(f"\n{repair_table(repairs)}\n\nWritten: {', '.join(fix)}")
    if (strict or not fix) and not result.passes(strict=strict):
        raise typer.Exit(1)


def _anchors(config: str) -> Anchors:
    """Of a config file, whose own data sets are not looked at."""
    cfg = load_config(find_detector(config).config)
    keys = cfg.MODEL.ANCHOR_GENERATOR
    return Anchors(keys.SIZES, keys.ASPECT_RATIOS, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
