"""Writes splits of other formats as COCO JSON, with the same class ids in all splits."""

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from resnest_d2.data.validate.rules import area_of
from resnest_d2.errors import MissingFileError, MissingPackageError, UserError
from resnest_d2.files import OutputExistsError, make_folder, whole_file

from .readers import Split, read_labelme, read_voc, read_yolo

FORMATS = {"yolo": read_yolo, "voc": read_voc, "labelme": read_labelme}


class Imported(NamedTuple):
    """Written annotation file, folder of its images, and their numbers."""

    json_file: str
    image_root: str
    images: int
    objects: int


def import_data(
    format: str,
    sources: Sequence[str],
    *,
    output: str,
    categories: str | None = None,
    overwrite: bool = False,
) -> list[Imported]:
    """Converts annotations of another format to COCO JSON. Images are neither copied nor changed.

    Args:
        format: one of :data:`FORMATS`.
        sources: folders to read, or data.yaml files of YOLO. A source can have several splits.
        output: a JSON file for one split, or a folder for several; their files are named after the
            splits, such as train.json.
        categories: COCO file with the categories to use. By default, classes of all splits are
            numbered from 1 in YOLO's order or by name.
        overwrite: replace existing files.

    Raises:
        OutputExistsError: an output exists.
        MissingFileError: no such source.
        MissingPackageError: supervision is not installed.
        WriteError: an output cannot be written.
        UserError: an unknown format, a faulty annotation, or classes that disagree.
    """
    if format not in FORMATS:
        raise UserError(f"The format is {format!r}; choose from {', '.join(FORMATS)}.")
    if find_spec("supervision") is None:
        raise MissingPackageError(
            "import-data needs supervision, which is not installed: "
            "pip install 'resnest-d2[supervision]'"
        )
    splits: list[Split] = []
    for source in map(Path, sources):
        if not source.exists():
            raise MissingFileError(f"There is no {source} to import.")
        splits += FORMATS[format](source)
    targets = _targets(splits, output, overwrite=overwrite)
    ids = _number(splits)
    if categories:
        from resnest_d2.data.coco import read_categories  # brings torch

        ids = {name: id_ for id_, name in read_categories(categories).items()}
    for split in splits:
        found = {o.name for source in split.images for o in source.objects}
        if unknown := sorted(found - set(ids)):
            raise UserError(f"Classes {unknown} are not among the categories {list(ids)}.")
    written = []
    for split, target in zip(splits, targets, strict=True):
        data = _as_coco(split, ids)
        make_folder(os.path.dirname(target))
        with whole_file(target, "w") as file:
            json.dump(data, file)
        numbers = len(data["images"]), len(data["annotations"])
        written.append(Imported(target, str(split.folder), *numbers))
    return written


def _targets(splits: list[Split], output: str, *, overwrite: bool) -> list[str]:
    names = [split.name for split in splits]
    if output.endswith(".json"):
        if len(names) != 1:
            raise UserError(
                f"{output} is one file for the {len(names)} splits {', '.join(names)}; give a "
                "folder as output."
            )
        targets = [output]
    elif len(set(names)) < len(names):
        raise UserError(f"The splits {', '.join(names)} share names; import them one by one.")
    else:
        targets = [os.path.join(output, f"{name}.json") for name in names]
    for target in targets:
        if os.path.exists(target) and not overwrite:
            raise OutputExistsError(f"{target} exists; give another output or ask to overwrite it.")
    return targets


def _number(splits: list[Split]) -> dict[str, int]:
    given = {tuple(split.classes) for split in splits if split.classes}
    if len(given) > 1:
        raise UserError(f"The sources name their classes differently: {sorted(given)}.")
    found = {o.name for split in splits for p in split.images for o in p.objects}
    return {name: i for i, name in enumerate(next(iter(given), sorted(found)), 1)}


def _as_coco(split: Split, ids: dict[str, int]) -> dict:
    images: list[dict] = []
    annotations: list[dict] = []
    for source in split.images:
        image = {"id": len(images) + 1, "file_name": source.path}
        images.append(image | {"height": source.height, "width": source.width})
        for name, (left, top, right, bottom), polygons in source.objects:
            # Round to thousandths of a pixel; further digits are errors of 32-bit numbers.
            box = [round(v, 3) for v in (left, top, right - left, bottom - top)]
            annotation = {
                "id": len(annotations) + 1,
                "image_id": image["id"],
                "category_id": ids[name],
                "bbox": box,
                "iscrowd": 0,
            }
            if polygons:
                annotation["segmentation"] = [[round(v, 3) for v in part] for part in polygons]
            annotation["area"] = area_of(annotation, images[-1])
            annotations.append(annotation)
    categories = [{"id": id_, "name": name} for name, id_ in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}
