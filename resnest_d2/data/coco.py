"""One's own data in COCO format: read once and checked, then registered with detectron2.

Format: https://cocodataset.org/#format-data. :mod:`resnest_d2.data.validate` finds what detectron2
would only find hours later, or never say; its dictionaries are then made of what was checked.
"""

import logging
import os
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import pycocotools.mask as mask_util
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from resnest_d2.errors import UserError

from .annotations import load_annotations, release_annotations
from .validate.entries import check_entries, read_annotations
from .validate.findings import KINDS, SHOWN, Finding, listed
from .validate.rules import field_fault, has_usable_box, is_polygon


class CocoFacts(NamedTuple):
    """What an annotation file says of its data set; classes in the order of their ids.

    ``mask_format`` is detectron2's INPUT.MASK_FORMAT ("polygon" or "bitmask", which takes RLE), or
    "" when annotations without a mask are among them. ``num_annotations`` is of those that can be
    trained on: no crowds, and no boxes that are empty or outside their image.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    mask_format: str
    num_annotations: int


def read_coco(json_file: str, image_root: str) -> CocoFacts:
    """Read and check an annotation file.

    Args:
        json_file: path of the file.
        image_root: folder of its images.

    Returns:
        What the file says; read again only when the file has changed.

    Raises:
        MissingFileError: no such file or folder.
        UserError: not COCO JSON, or entries that contradict each other; up to ten are named.
    """
    mtime = os.stat(json_file).st_mtime_ns if os.path.exists(json_file) else 0
    return _read(json_file, image_root, mtime)


def read_categories(json_file: str) -> dict[int, str]:
    """Names of the classes by id, in the order of the ids; nothing else of the file is checked.

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
    del mtime  # part of the cache's key
    file = read_annotations(json_file, image_root, shared=True)
    findings = check_entries([file])
    if errors := [str(finding) for finding in findings if finding.severity == "error"]:
        more = f"\n  ... and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise UserError(
            f"{json_file} cannot be trained or evaluated on as it is:\n  "
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
    """One line for each kind of warning, with what detectron2 leaves out without a word."""
    for kind, (severity, what) in KINDS.items():
        ids = [f.entry.rpartition(" ")[2] for f in findings if f.kind == kind]
        if severity == "warning" and ids:
            logging.getLogger(__name__).warning(
                f"{json_file}: {len(ids)} {what}: ids {listed(ids)}"
            )


def register_coco(name: str, json_file: str, image_root: str) -> CocoFacts:
    """Register a data set in COCO format; again with the same paths, do nothing.

    Args:
        name: name for DATASETS.TRAIN and DATASETS.TEST.
        json_file: path of the annotation file.
        image_root: folder of its images.

    Returns:
        What the file says.

    Raises:
        MissingFileError: no such file or folder.
        UserError: a faulty file, or a name that stands for another data set already.
    """
    facts = read_coco(json_file, image_root)
    metadata = MetadataCatalog.get(name)
    if name in DatasetCatalog:
        before = (metadata.get("json_file"), metadata.get("image_root"))
        if before != (json_file, image_root):
            raise UserError(
                f"The data set {name} is registered as {before[0]} with {before[1]} already, not "
                f"as {json_file} with {image_root}; give it another name."
            )
        return facts
    DatasetCatalog.register(name, lambda: load_images(json_file, image_root))
    metadata.set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(facts.classes),
        thing_dataset_id_to_contiguous_id={id_: i for i, id_ in enumerate(facts.category_ids)},
        # None where nothing is annotated: no mask is missing then.
        mask_format=facts.mask_format if facts.num_annotations else None,
    )
    return facts


def load_images(json_file: str, image_root: str) -> list[dict]:
    """A data set as detectron2 trains and evaluates on it, as its load_coco_json gives it.

    https://detectron2.readthedocs.io/tutorials/datasets.html#standard-dataset-dicts

    Args:
        json_file: path of a file that :func:`read_coco` has found to be sound.
        image_root: folder of its images.

    Returns:
        Dictionaries of the images by ascending id; categories are numbered from 0 by theirs.
        Polygons are arrays of doubles.
    """
    content = load_annotations(json_file)
    index = {id_: i for i, id_ in enumerate(sorted(c["id"] for c in content["categories"]))}
    records = {}
    for image in sorted(content["images"], key=lambda image: image["id"]):
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
    """detectron2's form of an annotation; None where none of its polygons can be one."""
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
    if points := annotation.get("keypoints"):  # of pixels' centres: x and y half a pixel on
        found["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(points)]
    return found


def release_datasets(names: Iterable[str]) -> None:
    """Give back the memory of registered data sets' files; loaded again, they are parsed again."""
    files = (MetadataCatalog.get(name).get("json_file") for name in names)
    release_annotations(file for file in files if file)
