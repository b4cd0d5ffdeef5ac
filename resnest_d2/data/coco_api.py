"""Annotations as evaluation with pycocotools needs them.

They come from :mod:`resnest_d2.data.annotations`, which has parsed them for training already.
"""

import contextlib
import io
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pycocotools.coco import COCO

from .annotations import load_annotations
from .keypoints import keypoints_of, labelled
from .records import id_order
from .validate.masks import area_of, is_finite, usable_mask
from .validate.rules import has_usable_box

COCOS_LIMIT = 100
_ALL = 100_000  # stands for -1; more than any detector returns


def read_api(json_file: str) -> COCO:
    """pycocotools' COCO of a file, whose images and annotations may be changed.

    Args:
        json_file: path of the file.
    """
    content = load_annotations(json_file)
    api = COCO()
    api.dataset = {**content, "images": [dict(image) for image in content["images"]]}
    if "annotations" in content:  # otherwise the evaluator only writes the detections
        api.dataset["annotations"] = [_unpacked(a) for a in content["annotations"]]
    _create_index(api)
    return api


def _unpacked(annotation: dict) -> dict:
    mask = annotation.get("segmentation")
    if isinstance(mask, list):
        mask = [list(part) if isinstance(part, array) else part for part in mask]
    return {**annotation, "segmentation": mask} if mask else {**annotation}


def detection_limit(detections: int) -> str:
    """The limit of an evaluation in words.

    Args:
        detections: TEST.DETECTIONS_PER_IMAGE.
    """
    if detections < 0:
        return "with all detections of an image"
    return f"at up to {detections} detections per image"


def scored_detections(detections: int) -> int:
    """COCO's limit of detections per image and class in an evaluation.

    Args:
        detections: TEST.DETECTIONS_PER_IMAGE. A limit below COCO's 100 changes nothing there.
    """
    return _ALL if detections < 0 else max(detections, COCOS_LIMIT)


class Numbers(NamedTuple):
    """Numbers from 1 that stand for the ids of a file in the evaluation.

    Attributes:
        images: image id -> number.
        categories: category id -> number.
    """

    images: dict[Any, int]
    categories: dict[Any, int]


def number_ids(api: COCO, categories: dict[Any, int], names: Sequence[str]) -> Numbers:
    """Replaces all ids of an annotation file by numbers, in place.

    COCO's own scoring treats an annotation's id 0 as unmatched, and faster-coco-eval keeps ids as
    doubles and sorts them. Numbers are the same for both, for ids of any kind.

    Args:
        api: annotations, completed.
        categories: category id -> class of the detector, from 0.
        names: names of the classes.

    Returns:
        The numbers, to be set in the results too.
    """
    numbers = {id_: index + 1 for id_, index in categories.items()}
    for annotation in api.dataset["annotations"]:
        annotation["category_id"] = numbers[annotation["category_id"]]
    api.dataset["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
    return Numbers(number_images(api), numbers)


def number_images(api: COCO) -> dict[Any, int]:
    """Replaces the ids of images and annotations by numbers, in place, see :func:`number_ids`.

    Returns:
        Image id -> number.
    """
    # In detectron2's order, which decides between equal scores.
    ids = sorted((image["id"] for image in api.dataset["images"]), key=id_order)
    numbers = {id_: number for number, id_ in enumerate(ids, 1)}
    for image in api.dataset["images"]:
        image["id"] = numbers[image["id"]]
    for number, annotation in enumerate(api.dataset["annotations"], 1):
        annotation["id"] = number
        annotation["image_id"] = numbers[annotation["image_id"]]
    _create_index(api)
    return numbers


def _drop_unusable(api: COCO) -> None:
    kept = [
        annotation
        for annotation in api.dataset["annotations"]
        if annotation.get("iscrowd") or has_usable_box(annotation, api.imgs[annotation["image_id"]])
    ]
    if len(kept) < len(api.dataset["annotations"]):
        api.dataset["annotations"] = kept
        _create_index(api)


def _create_index(api: COCO) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()


def keep_categories(api: COCO, names: Mapping[Any, str]) -> None:
    """Removes all other categories of an annotation file and their annotations, in place.

    Args:
        api: annotations.
        names: category id -> name to give it.
    """
    data = api.dataset
    kept = [{**c, "name": names[c["id"]]} for c in data["categories"] if c["id"] in names]
    if kept == data["categories"]:
        return
    data["categories"] = kept
    if "annotations" in data:
        data["annotations"] = [a for a in data["annotations"] if a["category_id"] in names]
    _create_index(api)


def complete_annotations(api: COCO) -> None:
    """Fills in fields that many tools omit or write differently, in place.

    Defaults are an empty ``info``, an ``iscrowd`` of 0, and an ``area`` of the mask or else the
    box. Polygons that training skips are removed; an annotation without a usable mask gets its box.
    Objects whose box is empty or outside the image, which training skips, are removed.
    """
    api.dataset.setdefault("info", {})
    _drop_unusable(api)
    masks = any(annotation.get("segmentation") for annotation in api.dataset["annotations"])
    number = len(keypoints_of(api.dataset["categories"], api.dataset["annotations"]).names)
    for annotation in api.dataset["annotations"]:
        if number:
            annotation["keypoints"] = labelled(annotation, number)
            annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
        if annotation.get("iscrowd") not in (0, 1):
            annotation["iscrowd"] = 0
        image = api.imgs[annotation["image_id"]]
        if annotation.get("segmentation") or (masks and annotation["iscrowd"]):
            x, y, w, h = annotation["bbox"]
            box = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotation["segmentation"] = usable_mask(annotation, image) or box
        area = annotation.get("area")
        if not is_finite([area]) or area < 0:
            annotation["area"] = area_of(annotation, image)
