"""Writes splits of other formats as COCO JSON, with the same class ids in all splits."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from resnest_d2.data.validate.masks import area_of
from resnest_d2.data.validate.rules import outside_folder
from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import write_json_files
from resnest_d2.outputs import require_new

from .cvat import read_cvat
from .duplicates import require_imagehash
from .faults import Faults
from .kinds import require_kind
from .labelled import Split
from .labelme import read_labelme
from .labelstudio import read_labelstudio
from .roboflow import read_roboflow
from .sides import describe, side_table
from .splitting import Plan, assign, select
from .voc import read_voc
from .yolo import read_yolo

FORMATS: dict[str, Callable[[Path, Faults], Iterator[Split]]] = {
    "yolo": read_yolo,
    "voc": read_voc,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "labelstudio": read_labelstudio,
    "roboflow": read_roboflow,
}
_JSON_FILES = {"labelme": "*.json", "roboflow": "**/_annotations.coco.json"}  # in their folders
_APART = ("cvat", "labelstudio")  # whose images can be in any folder


class Imported(NamedTuple):
    """Written annotation file, folder of its images, their numbers, and which split it is.

    ``split`` is train, val, test, or "" for all of a source.
    """

    json_file: str
    image_root: str
    images: int
    objects: int
    split: str = ""


class Import(NamedTuple):
    """Written files; of a source that was split, the table of classes and notes on the split."""

    files: list[Imported]
    table: str = ""
    notes: tuple[str, ...] = ()


def import_data(
    format: str,
    sources: Sequence[str],
    *,
    output: str,
    categories: str | None = None,
    images: str | None = None,
    plan: Plan | None = None,
    overwrite: bool = False,
) -> Import:
    """Converts annotations of another format to COCO JSON. Images are neither copied nor changed.

    Args:
        format: one of :data:`FORMATS`.
        sources: folders or files to read. A source can have several splits.
        output: a JSON file for one split, or a folder for several; their files are named after
            source and split, such as cells_train.json.
        categories: COCO file with the categories to use. By default, classes of all splits are
            numbered from 1 in the format's order or by name.
        images: folder of the images of CVAT or Label Studio, if it is not beside the file.
        plan: how to split a source that has no splits, or only one to train on.
        overwrite: replace existing files.

    Raises:
        OutputExistsError: an output exists.
        MissingFileError: no such source.
        MissingPackageError: for a plan, imagehash is not installed.
        WriteError: an output cannot be written; then none is.
        UserError: an unknown format, faulty annotations, classes that disagree, a source of another
            format, or a plan for sources that have splits.
    """
    splits = _read(format, sources, images)
    _warn_of_images(splits)
    inputs = list(_inputs(format, sources, categories))
    if plan is not None and (len(splits) > 1 or splits[0].name not in ("", "train")):
        found = ", ".join(_name(split) for split in splits)
        raise UserError(
            f"--val splits a single set to train on, but there are {found}. Import them without "
            "--val; resnest-d2 split divides a COCO file."
        )
    ids = _number(splits)
    if categories:
        from resnest_d2.data.coco import read_categories  # brings torch

        ids = {name: id_ for id_, name in read_categories(categories).items()}
    for split in splits:
        found_names = {o.name for image in split.images for o in image.objects}
        if unknown := sorted((found_names | set(split.classes if split.coco else ())) - set(ids)):
            raise UserError(f"Classes {unknown} are not among the categories {list(ids)}.")
    if plan is None:
        targets = _targets([_name(split) for split in splits], output)
        require_new(targets, overwrite=overwrite, sources=inputs)
        contents = [_as_coco(split, ids) for split in splits]
        names = [split.name for split in splits]
        return Import(_write(list(zip(targets, contents, splits, names, strict=True))))
    if plan.max_distance >= 0:
        require_imagehash()
    (split,), names = splits, list(plan.sides())
    targets = _targets([f"{split.source}_{n}" for n in names], output)
    require_new(targets, overwrite=overwrite, sources=inputs)
    data = _as_coco(split, ids)
    sides = assign(data, str(split.folder), plan)
    contents = [select(data, sides.of_image == i) for i in range(len(names))]
    files = _write(list(zip(targets, contents, [split] * len(names), names, strict=True)))
    return Import(files, side_table(data, sides), tuple(describe(data, sides)))


def _read(format: str, sources: Sequence[str], images: str | None) -> list[Split]:
    if format not in FORMATS:
        raise UserError(f"The format is {format!r}; choose from {', '.join(FORMATS)}.")
    read: Callable[..., Iterator[Split]] = FORMATS[format]
    if images is not None:
        if format not in _APART:
            raise UserError(
                f"--images is for {' and '.join(_APART)}; {format} says where they are."
            )
        if not os.path.isdir(images):
            raise MissingFileError(f"There is no folder {images} with the images.")
        read = partial(read, folder=Path(images))
    splits: list[Split] = []
    faults = Faults()
    for source in map(Path, sources):
        if not source.exists():
            raise MissingFileError(f"There is no {source} to import.")
        require_kind(source, format)
        splits += read(source, faults)
    faults.finish()
    return splits


def _name(split: Split) -> str:
    return f"{split.source}_{split.name}" if split.name else split.source


def _targets(names: list[str], output: str) -> list[str]:
    if output.endswith(".json"):
        if len(names) != 1:
            raise UserError(
                f"{output} is one file for the {len(names)} splits {', '.join(names)}; give a "
                "folder as output."
            )
        return [output]
    if len(set(names)) < len(names):
        raise UserError(f"The splits {', '.join(names)} share names; import them one by one.")
    return [os.path.join(output, f"{name}.json") for name in names]


def _warn_of_images(splits: list[Split]) -> None:
    for split in splits:
        names = [i["file_name"] for i in split.coco["images"]] if split.coco else None
        names = names or [image.path for image in split.images]
        if reason := outside_folder(names, split.folder):
            logging.getLogger(__name__).warning(f"{_name(split)}: {reason}.")


def _inputs(format: str, sources: Sequence[str], categories: str | None) -> Iterator[str | Path]:
    """Files that are read, of those that an output could replace."""
    yield from [*sources, *([categories] if categories else [])]
    if pattern := _JSON_FILES.get(format):
        for source in sources:
            yield from Path(source).glob(pattern)


def _number(splits: list[Split]) -> dict[str, int]:
    given = {tuple(split.classes) for split in splits if split.classes}
    if len(given) > 1:
        raise UserError(f"The sources name their classes differently: {sorted(given)}.")
    found = {o.name for split in splits for image in split.images for o in image.objects}
    return {name: i for i, name in enumerate(next(iter(given), sorted(found)), 1)}


def _write(parts: list[tuple[str, dict, Split, str]]) -> list[Imported]:
    write_json_files({target: data for target, data, *_ in parts})
    return [
        Imported(target, str(split.folder), len(data["images"]), len(data["annotations"]), name)
        for target, data, split, name in parts
    ]


def _as_coco(split: Split, ids: dict[str, int]) -> dict:
    categories = [{"id": id_, "name": name} for name, id_ in ids.items()]
    if split.coco is not None:
        return _renumbered(split.coco, categories)
    images: list[dict] = []
    annotations: list[dict] = []
    for source in split.images:
        image = {"id": len(images) + 1, "file_name": source.path}
        images.append(image | {"height": source.height, "width": source.width})
        for name, (left, top, right, bottom), mask in source.objects:
            # Round to thousandths of a pixel; further digits are errors of 32-bit numbers.
            box = [round(v, 3) for v in (left, top, right - left, bottom - top)]
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": ids[name],
                "bbox": box,
                "iscrowd": 0,
            }
            if isinstance(mask, dict):
                annotation["segmentation"] = mask
            elif mask:
                annotation["segmentation"] = [[round(v, 3) for v in part] for part in mask]
            annotation["area"] = area_of(annotation, images[-1])
            annotations.append(annotation)
    return {"images": images, "annotations": annotations, "categories": categories}


def _renumbered(data: dict, categories: list[dict]) -> dict:
    """A COCO file with other ids of its categories, whose further fields are kept."""
    fields = {category["name"]: category for category in data["categories"]}
    names = {category["id"]: category["name"] for category in data["categories"]}
    ids = {category["name"]: category["id"] for category in categories}
    annotations = [
        {**annotation, "category_id": ids[names[annotation["category_id"]]]}
        for annotation in data["annotations"]
    ]
    found = [{**fields.get(c["name"], {}), **c} for c in categories]
    return {**data, "annotations": annotations, "categories": found}
