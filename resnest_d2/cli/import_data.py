"""``resnest-d2 import-data``: converts annotations of other formats to COCO JSON."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from .common import next_training, say
from .split import GroupBy, IgnoreDuplicates, Seed, Test, Val

if TYPE_CHECKING:
    from resnest_d2.data.validate import DataCheck, Finding


class Format(str, Enum):
    yolo = "yolo"
    voc = "voc"
    labelme = "labelme"
    cvat = "cvat"
    labelstudio = "labelstudio"
    roboflow = "roboflow"


_FORMATS = ", ".join(format.value for format in Format)


def import_data(
    format: Annotated[str, typer.Argument(help=f"Format of the annotations: {_FORMATS}.")],
    sources: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="SOURCE...", help="Files or folders with annotations."),
    ] = None,
    *,
    output: Annotated[
        str, typer.Option(help="A JSON file for one split, or a folder for several.")
    ],
    images: Annotated[
        Optional[str],
        typer.Option(
            metavar="FOLDER", help="Images of CVAT or Label Studio, if not beside the annotations."
        ),
    ] = None,
    categories: Annotated[
        Optional[str],
        typer.Option(metavar="JSON", help="COCO file with the classes and ids to use."),
    ] = None,
    val: Val = None,
    test: Test = 0.0,
    seed: Seed = 0,
    group_by: GroupBy = None,
    ignore_duplicates: IgnoreDuplicates = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Convert annotations to COCO JSON.

    The annotations are also checked. Images stay where they are. A source without a validation
    set is split by --val as by resnest-d2 split.
    Requires for --val: pip install 'resnest-d2[split]'

    Examples:
      resnest-d2 import-data yolo data/data.yaml --output data/coco
      resnest-d2 import-data voc VOC2007 --output data/coco
      resnest-d2 import-data labelme train val --output data/coco
      resnest-d2 import-data cvat annotations.xml --images images --val 0.2 --output data/coco
    """
    _check_usage(format, sources)
    from resnest_d2.data.convert import Plan
    from resnest_d2.data.convert import import_data as import_
    from resnest_d2.data.validate import check_data

    if val is None and (test or seed or group_by or ignore_duplicates):
        raise typer.BadParameter(
            "--test, --seed and the like need --val, the share to evaluate on."
        )
    plan = None
    if val is not None:
        plan = Plan(val=val, test=test, seed=seed, group_by=group_by)
        plan = plan._replace(max_distance=-1) if ignore_duplicates else plan
    done = import_(
        format,
        sources or [],
        output=output,
        images=images,
        categories=categories,
        plan=plan,
        overwrite=overwrite,
    )
    for file in done.files:
        say(f"{file.json_file}: {file.images} images, {file.objects} objects")
    check = check_data([(file.json_file, file.image_root) for file in done.files])
    if check.findings:
        say(_table(check.findings) + "\n")
    say(f"{done.table or check.class_table()}\n\n{check.summary()}")
    for note in done.notes:
        say(note)
    if not check.passes():
        raise typer.Exit(1)
    _print_next(done.files, check)


def _check_usage(format: str, sources: Sequence[str] | None) -> None:
    """Refuses an unknown format or no source; what is given in its place can show the right one.

    Raises:
        UserError: the first word is a path, of a format that is recognised.
        BadParameter: else.
    """
    from resnest_d2.data.convert import require_kind

    if format not in {one.value for one in Format}:
        if Path(format).exists():
            require_kind(Path(format), None)
        raise typer.BadParameter(f"{format!r} is no format of annotations; choose from {_FORMATS}.")
    if not sources:
        raise typer.BadParameter("Give the file or folder to import after the format.")


def _table(findings: Sequence["Finding"]) -> str:
    """Table with one row for all findings of a kind in a file, of their number and the first."""
    from tabulate import tabulate

    kinds: dict[tuple, list] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.kind, finding.file), []).append(finding)
    rows = []
    for key, found in kinds.items():
        entries = ", ".join(finding.entry for finding in found[:3])
        rows.append((*key, len(found), entries + " ..." * (len(found) > 3), found[0].reason))
    return tabulate(rows, ("severity", "kind", "file", "number", "entries", "reason of the first"))


def _print_next(files: Sequence, check: "DataCheck") -> None:
    by_split = {file.split: file for file in reversed(files)}
    train = by_split.get("train", files[0])
    rest = [file for file in files if file is not train and file.split != "test"]
    val = by_split.get("val") or next(iter(rest), None)
    pair = (val.json_file, val.image_root) if val and val is not train else None
    annotations = [a for f in check.files for a in f.data["annotations"]]
    masks = bool(annotations) and all(a.get("segmentation") for a in annotations)
    if pair is None:
        say(
            "\nThere is no validation set: import again with --val 0.2, or run "
            f"resnest-d2 split {train.json_file} {train.image_root} --val 0.2 --output FOLDER"
        )
    say("\n" + next_training((train.json_file, train.image_root), pair, masks=masks))
