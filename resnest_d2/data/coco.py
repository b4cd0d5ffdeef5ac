"""Datasets in COCO format: reads, checks and registers them with detectron2.

Format: https://cocodataset.org/#format-data. :mod:`resnest_d2.data.validate` finds faults that
detectron2 would report hours later or never; detectron2's dictionaries are built from checked data.
"""

import logging
import os
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from resnest_d2.errors import UserError

from .annotations import load_annotations, release_annotations
from .validate.entries import check_entries, read_annotations
from .validate.findings import KINDS, SHOWN, Finding, listed
from .validate.rules import field_fault, has_usable_box, is_polygon


class CocoFacts(NamedTuple):
    """Facts about the dataset of an annotation file; classes are in the order of their ids.

    ``mask_format`` is detectron2's INPUT.MASK_FORMAT ("polygon" or "bitmask", which accepts RLE),
    or "" if some annotations have no mask. ``num_annotations`` counts those that can be trained on:
    no crowds, and no boxes that are empty or outside their image.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    mask_format: str
    num_annotations: int


def read_coco(json_file: str, image_root: str) -> CocoFacts:
    """Reads and checks an annotation file.

    Args:
        json_file: path of the file.
        image_root: folder of its images.

    Returns:
        Facts about the dataset, cached until the file changes.

    Raises:
        MissingFileError: no such file or folder.
        UserError: not COCO JSON, or entries that contradict each other; up to ten are listed.
    """
    mtime = os.stat(json_file).st_mtime_ns if os.path.exists(json_file) else 0
    return _read(json_file, image_root, mtime)


def read_categories(json_file: str) -> dict[int, str]:
    """Reads names of classes by id, in the order of the ids; nothing else in the file is checked.

    Raises:
        MissingFileError: no such file.
        UserError: not JSON, or without categories.
    """
    data = load_annotations(json_file)
    categories = data.get("categories") if isinstance(data, dict) else None
    if (
        not categories
        or not isinstance(categories, list)
        or any(field_fault("categories", category) for category in categories)
    ):
        raise UserError(f"{json_file} has no list of categories with ids and names.")
    return dict(sorted((c["id"], c["name"]) for c in categories))


@lru_cache(maxsize=16)
def _read(json_file: str, image_root: str, mtime: int) -> CocoFacts:
    del mtime  # only part of the cache key
    file = read_annotations(json_file, image_root, shared=True)
    findings = check_entries([file])
    if errors := [str(finding) for finding in findings if finding.severity == "error"]:
        more = f"\n  ... and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise UserError(
            f"{json_file} cannot be used for training or evaluation:\n  "
            + "\n  ".join(errors[:SHOWN])
            + more
        )
    _warn(json_file, findings)
    annotations = file.data["annotations"]
    categories = sorted(file.data["categories"], key=lambda category: category["id"])
    images = {image["id"]: image for image in file.data["images"]}
    usable = [a for a in annotations if has_usable_box(a, images[a["image_id"]])]
    kinds = {type(annotation.get("segmentation") or None) for annotation in annotations}
    return CocoFacts(
        classes=tuple(category["name"] for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        mask_format=_mask_format(kinds),
        num_annotations=sum(not annotation.get("iscrowd") for annotation in usable),
    )


def _mask_format(kinds: set[type]) -> str:
    if not kinds or type(None) in kinds:
        return ""
    return "bitmask" if dict in kinds else "polygon"


def _warn(json_file: str, findings: list[Finding]) -> None:
    """Logs one line for each kind of warning, also for what detectron2 ignores silently."""
    for kind, (severity, what) in KINDS.items():
        ids = [f.entry.rpartition(" ")[2] for f in findings if f.kind == kind]
        if severity == "warning" and ids:
            logging.getLogger(__name__).warning(
                f"{json_file}: {len(ids)} {what}: ids {listed(ids)}"
            )


def register_coco(name: str, json_file: str, image_root: str) -> CocoFacts:
    """Registers a dataset in COCO format; repeated calls with the same paths do nothing.

    Args:
        name: name for DATASETS.TRAIN and DATASETS.TEST.
        json_file: path of the annotation file.
        image_root: folder of its images.

    Returns:
        Facts about the dataset.

    Raises:
        MissingFileError: no such file or folder.
        UserError: the file has errors, or the name is in use for another dataset.
    """
    facts = read_coco(json_file, image_root)
    metadata = MetadataCatalog.get(name)
    if name in DatasetCatalog:
        before = (metadata.get("json_file"), metadata.get("image_root"))
        if before != (json_file, image_root):
            raise UserError(
                f"The dataset {name} is already registered as {before[0]} with {before[1]}, not as "
                f"{json_file} with {image_root}; give it another name."
            )
        return facts
    DatasetCatalog.register(name, lambda: load_images(json_file, image_root))
    metadata.set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(facts.classes),
        thing_dataset_id_to_contiguous_id={id_: i for i, id_ in enumerate(facts.category_ids)},
        # None without annotations: then no mask is missing.
        mask_format=facts.mask_format if facts.num_annotations else None,
    )
    return facts


def id_order(id_: Any) -> tuple[bool, Any]:
    """Key to sort image ids by: numbers before texts."""
    return isinstance(id_, str), id_


def load_images(json_file: str, image_root: str) -> list[dict]:
    """Loads a dataset in the form of detectron2's load_coco_json.

    https://detectron2.readthedocs.io/tutorials/datasets.html#standard-dataset-dicts

    Args:
        json_file: path of a file that :func:`read_coco` accepts.
        image_root: folder of its images.

    Returns:
        Dictionaries of the images, sorted by id; categories are numbered from 0 in the order of
        their ids. Polygons are arrays of doubles.
    """
    content = load_annotations(json_file)
    index = {id_: i for i, id_ in enumerate(sorted(c["id"] for c in content["categories"]))}
    records = {}
    for image in sorted(content["images"], key=lambda image: id_order(image["id"])):
        records[image["id"]] = {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [],
        }
    for annotation in content.get("annotations", ()):
        if (record := _object(annotation, index)) is not None:
            records[annotation["image_id"]]["annotations"].append(record)
    logging.getLogger(__name__).info(f"Loaded {len(records)} images of {json_file}.")
    return list(records.values())


def _object(annotation: dict, index: dict[int, int]) -> dict | None:
    """Converts an annotation to detectron2's form; None if it only has invalid polygons."""
    found = {key: annotation[key] for key in ("iscrowd", "bbox") if key in annotation}
    found["bbox_mode"] = BoxMode.XYWH_ABS
    found["category_id"] = index[annotation["category_id"]]
    mask = annotation.get("segmentation")
    if isinstance(mask, list) and mask:
        mask = [part for part in mask if is_polygon(part)]
        if not mask:
            return None
    elif mask and isinstance(mask["counts"], list):
        mask = mask_util.frPyObjects(mask, *mask["size"])
    if mask:
        found["segmentation"] = mask
    if points := annotation.get("keypoints"):  # pixel centres: shift x and y by half a pixel
        found["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(points)]
    return found


def release_datasets(names: Iterable[str]) -> None:
    """Frees the memory of registered datasets' files, which are parsed again if needed."""
    files = (MetadataCatalog.get(name).get("json_file") for name in names)
    release_annotations(file for file in files if file)
