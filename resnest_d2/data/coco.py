"""Datasets in COCO format: reads, checks and registers them with detectron2.

Format: https://cocodataset.org/#format-data. :mod:`resnest_d2.data.validate` finds faults that
detectron2 would report hours later or never; detectron2's dictionaries are built from checked data.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2.errors import UserError

from .annotations import load_annotations, release_annotations
from .keypoints import Keypoints, keypoints_of, names_of
from .normalise import shown
from .records import load_images
from .validate.entries import check_entries, read_annotations
from .validate.findings import KINDS, LOGGED, PARTIAL, SHOWN, Finding, listed
from .validate.images import check_headers
from .validate.masks import has_polygon_or_rle
from .validate.rules import field_fault, has_usable_box


class CocoFacts(NamedTuple):
    """Facts about the dataset of an annotation file; classes are in the order of their ids.

    ``mask_format`` is detectron2's INPUT.MASK_FORMAT ("polygon" or "bitmask", which accepts RLE),
    or "" if some annotations have no mask. ``num_annotations`` counts those that can be trained on:
    no crowds, and no boxes that are empty or outside their image. ``objects`` counts them by
    category id.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    mask_format: str
    num_annotations: int
    without_mask: str = ""
    keypoints: Keypoints = Keypoints()
    keypoint_fault: str = ""
    objects: Mapping[int, int] = {}

    @property
    def categories(self) -> dict[int, str]:
        """Names of the classes by category id, in the order of the ids."""
        return dict(zip(self.category_ids, self.classes, strict=True))


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
    findings = [*check_entries([file]), *check_headers(file)]
    errors = [str(f) for f in findings if f.severity == "error" and f.kind not in PARTIAL]
    if errors:
        more = f"\n  ... and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        raise UserError(
            f"{json_file} cannot be used for training or evaluation:\n  "
            + "\n  ".join(errors[:SHOWN])
            + more
        )
    _warn(json_file, findings)
    categories = sorted(file.data["categories"], key=lambda category: category["id"])
    images = {image["id"]: image for image in file.data["images"]}
    faulty = {f.where for f in findings if f.kind in ("not a mask", "empty mask")}
    objects = [
        (annotation, ("annotations", i) not in faulty and has_polygon_or_rle(annotation))
        for i, annotation in enumerate(file.data["annotations"])
        if is_trained(annotation, images[annotation["image_id"]])
    ]
    kinds = {type(a["segmentation"]) if usable else type(None) for a, usable in objects}
    without = [a["id"] for a, usable in objects if not usable]
    return CocoFacts(
        classes=tuple(category["name"] for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        mask_format=_mask_format(kinds),
        num_annotations=len(objects),
        without_mask=_without("mask", without, findings, len(objects)),
        keypoints=keypoints_of(categories, file.data["annotations"]),
        keypoint_fault=_keypoint_fault(categories, findings),
        objects=Counter(annotation["category_id"] for annotation, _ in objects),
    )


def is_trained(annotation: dict, image: dict) -> bool:
    """Whether training uses an annotation: no crowd, and a box with a part inside its image."""
    return not annotation.get("iscrowd") and has_usable_box(annotation, image)


def _mask_format(kinds: set[type]) -> str:
    if not kinds or type(None) in kinds:
        return ""
    return "bitmask" if dict in kinds else "polygon"


def _keypoint_fault(categories: list[dict], findings: list[Finding]) -> str:
    """Says why a detector of keypoints cannot use a file."""
    kinds = {names for category in categories if (names := names_of(category))}
    if len(kinds) > 1:
        first, second, *_ = sorted(kinds)
        return f"its categories have different keypoints, {shown(first)} and {shown(second)}"
    faults = [finding for finding in findings if finding.kind == "keypoints"]
    return f"{len(faults)} annotations have unusable keypoints: {faults[0]}" if faults else ""


def _without(part: str, ids: list, findings: list[Finding], number: int) -> str:
    """Says which annotations lack a mask or keypoints that can be used, and why the first does."""
    first = next((f"; {f}" for f in findings if PARTIAL.get(f.kind) == part), "")
    return f"{len(ids)} of {number} (ids {listed(ids)}{first})" if ids else ""


def _warn(json_file: str, findings: list[Finding]) -> None:
    """Logs one line for each kind of warning, also for what detectron2 ignores silently."""
    for kind, (severity, what) in KINDS.items():
        found = [f for f in findings if f.kind == kind]
        if not found or (severity != "warning" and kind not in {*PARTIAL, *LOGGED}):
            continue
        ids = [f.entry.rpartition(" ")[2] for f in found if f.entry]
        message = f"{len(ids)} {what}: ids {listed(ids)}" if ids else found[0].reason
        if kind in PARTIAL:
            message += (
                f". A detector without {PARTIAL[kind].rstrip('s')}s uses their boxes: {found[0]}"
            )
        logging.getLogger(__name__).warning(f"{json_file}: {message}")


def register_coco(name: str, json_file: str, image_root: str) -> CocoFacts:
    """Registers a dataset in COCO format; repeated calls with the same paths follow their changes.

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
    if name in DatasetCatalog:
        metadata = MetadataCatalog.get(name)
        before = [metadata.get(key) for key in ("json_file", "image_root")]
        if [path and os.path.abspath(path) for path in before] != [
            os.path.abspath(path) for path in (json_file, image_root)
        ]:
            raise UserError(
                f"The dataset {name} is already registered as {before[0]} with {before[1]}, not as "
                f"{json_file} with {image_root}; give it another name."
            )
        if not is_ours(name):
            raise UserError(
                f"{name} is a dataset that is built in or registered elsewhere; give {json_file} "
                "another name."
            )
        if metadata.get("facts") == facts:
            return facts
        forget_datasets([name])

    def load() -> list[dict]:
        index = MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id
        return load_images(json_file, image_root, index)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        facts=facts,
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        thing_classes=list(facts.classes),
        thing_dataset_id_to_contiguous_id={id_: i for i, id_ in enumerate(facts.category_ids)},
        # None without annotations: then no mask is missing.
        mask_format=facts.mask_format if facts.num_annotations else None,
        without_mask=facts.without_mask,
        keypoint_fault=facts.keypoint_fault,
        **(facts.keypoints.metadata() if facts.keypoints.names else {}),
    )
    return facts


def is_ours(name: str) -> bool:
    """Whether :func:`register_coco` registered a dataset."""
    return MetadataCatalog.get(name).get("keypoint_fault") is not None


def forget_datasets(names: Iterable[str]) -> None:
    """Takes back what :func:`register_coco` registered; other datasets stay."""
    for name in names:
        if name in DatasetCatalog and is_ours(name):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def release_datasets(names: Iterable[str]) -> None:
    """Frees the memory of registered datasets' files, which are parsed again if needed."""
    files = (MetadataCatalog.get(name).get("json_file") for name in names)
    release_annotations(file for file in files if file)
