"""``resnest-d2 import-data``: converts YOLO, Pascal VOC and labelme annotations to COCO JSON."""

import shlex
from enum import Enum
from typing import Annotated, Optional

import typer


class Format(str, Enum):
    yolo = "yolo"
    voc = "voc"
    labelme = "labelme"


def import_data(
    format: Annotated[Format, typer.Argument(help="Format of the annotations.")],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="A data.yaml, or folders with annotations."),
    ],
    *,
    output: Annotated[
        str, typer.Option(help="A JSON file for one split, or a folder for several.")
    ],
    categories: Annotated[
        Optional[str],
        typer.Option(metavar="JSON", help="COCO file with the classes and ids to use."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Convert annotations to COCO JSON.

    The annotations are also checked. Images stay where they are.
    Requires: pip install 'resnest-d2[supervision]'

    Examples:
      resnest-d2 import-data yolo data/data.yaml --output data/coco
      resnest-d2 import-data voc VOC2007 --output data/coco
      resnest-d2 import-data labelme train val --output data/coco
    """
    from resnest_d2.data.convert import import_data as import_
    from resnest_d2.data.validate import check_data

    written = import_(
        format.value, sources, output=output, categories=categories, overwrite=overwrite
    )
    for done in written:
        typer.echo(f"{done.json_file}: {done.images} images, {done.objects} objects")
    check = check_data([(done.json_file, done.image_root) for done in written])
    if check.findings:
        typer.echo(check.table(100) + "\n")
    typer.echo(f"{check.class_table()}\n\n{check.summary()}")
    if not check.passes():
        raise typer.Exit(1)
    masks = all("segmentation" in a for f in check.files for a in f.data["annotations"])
    kind, train = "mask" if masks else "faster", written[0]
    command = ["resnest-d2", "train", f"quick_schedules/{kind}_rcnn_ResNeSt_14_FPN_quick.yaml"]
    command += ["--data", train.json_file, train.image_root]
    if len(written) > 1:
        command += ["--val", written[1].json_file, "--val-images", written[1].image_root]
    typer.echo(f"\nNext: {shlex.join([*command, '--output', 'output/mine'])}")
