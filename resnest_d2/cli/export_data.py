"""``resnest-d2 export-data``: converts COCO annotations to YOLO and Pascal VOC."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from .common import require_coco, say


class Format(str, Enum):
    yolo = "yolo"
    voc = "voc"


def export_data(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="JSON FOLDER [JSON [FOLDER]]...",
            help="COCO annotations and their image folder; one for each of train, val and test.",
        ),
    ],
    *,
    format: Annotated[Format, typer.Option(help="Format to write.")],
    output: Annotated[str, typer.Option(help="Folder to write.")],
    link: Annotated[
        bool, typer.Option("--link", help="Make symbolic links to the images, not copies.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Convert COCO annotations to YOLO or Pascal VOC.

    Images are copied. What the format cannot hold is listed with counts.

    Examples:
      resnest-d2 export-data data/train.json data/images --format voc --output data/voc
      resnest-d2 export-data data/train.json data/images data/val.json \\
          --format yolo --output data/yolo
    """
    from resnest_d2.data.convert import export_data as export
    from resnest_d2.data.validate import pair_paths

    for i, path in enumerate(map(Path, paths)):
        if i == 0 or not path.is_dir():
            require_coco(path)
    done = export(pair_paths(paths), format.value, output=output, link=link, overwrite=overwrite)
    say(f"{done.output}: {done.images} images, {done.objects} objects")
    for sentence in done.lost:
        say(f"  {sentence}")
