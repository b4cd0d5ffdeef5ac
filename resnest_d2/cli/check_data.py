"""``resnest-d2 check-data``: faults of annotation files and pictures, and a clean copy."""

from typing import Annotated, Optional

import typer

from resnest_d2.config import get_cfg
from resnest_d2.data.checking import Anchors, fix_data, pair_paths, repair_table
from resnest_d2.data.checking import check_data as check
from resnest_d2.model_zoo.configs import find_config


def check_data(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="JSON FOLDER [JSON [FOLDER]]...",
            help="COCO annotations and the folder of their pictures, those to train on first.",
        ),
    ],
    *,
    config: Annotated[
        Optional[str], typer.Option(help="Compare object sizes with the anchors of this config.")
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

    Fails (exit code 1) on errors, with --strict on warnings too. No input is ever changed.

    Examples:
      resnest-d2 check-data data/train.json data/images data/val.json
      resnest-d2 check-data data/train.json data/images --strict --fix data/clean.json
    """
    result = check(pair_paths(paths), anchors=_anchors(config) if config else None)
    if result.findings:
        typer.echo(result.table(show or None) + "\n")
    typer.echo(f"{result.class_table()}\n\n{result.summary()}")
    if fix:
        repairs = fix_data(result, fix, overwrite=overwrite)
        typer.echo(f"\n{repair_table(repairs)}\n\nWritten: {', '.join(fix)}")
    elif not result.passes(strict=strict):
        raise typer.Exit(1)


def _anchors(config: str) -> Anchors:
    """Of a config file, whose own data sets are not looked at."""
    cfg = get_cfg()
    cfg.merge_from_file(find_config(config), allow_unsafe=False)
    keys = cfg.MODEL.ANCHOR_GENERATOR
    return Anchors(keys.SIZES, keys.ASPECT_RATIOS, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
