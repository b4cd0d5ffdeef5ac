"""Images and annotations of a COCO file in detectron2's form."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import pycocotools.mask as mask_util
from detectron2.structures import BoxMode

from .annotations import load_annotations
from .keypoints import keypoints_of, labelled
from .validate.masks import usable_mask
from .validate.rules import has_usable_box


def id_order(id_: Any) -> tuple[bool, Any]:
    """Key to sort image ids by: numbers before texts."""
    return isinstance(id_, str), id_


def load_images(
    json_file: str, image_root: str, index: Mapping[int, int] | None = None
) -> list[dict]:
    """Loads a dataset in the form of detectron2's load_coco_json.

    https://detectron2.readthedocs.io/tutorials/datasets.html#standard-dataset-dicts

    Args:
        json_file: path of a file that :func:`read_coco` accepts.
        image_root: folder of its images.
        index: category id -> class, from 0; annotations of other categories are left out. By
            default categories are numbered in the order of their ids.

    Returns:
        Dictionaries of the images, sorted by id. Polygons are arrays of doubles.
    """
    content = load_annotations(json_file)
    if index is None:
        index = {id_: i for i, id_ in enumerate(sorted(c["id"] for c in content["categories"]))}
    images = {image["id"]: image for image in content["images"]}
    annotations = content.get("annotations", ())
    number = len(keypoints_of(content["categories"], annotations).names)
    records = {}
    for image in sorted(content["images"], key=lambda image: id_order(image["id"])):
        records[image["id"]] = {
            "file_name": os.path.join(image_root, image["file_name"]),
            "height": image["height"],
            "width": image["width"],
            "image_id": image["id"],
            "annotations": [],
        }
    for annotation in annotations:
        image = images[annotation["image_id"]]
        if annotation["category_id"] not in index:
            continue
        if annotation.get("iscrowd") or has_usable_box(annotation, image):
            record = _object(annotation, image, index)
            if number:  # pixel centres: shift x and y by half a pixel
                points = labelled(annotation, number)
                record["keypoints"] = [v if i % 3 == 2 else v + 0.5 for i, v in enumerate(points)]
            records[annotation["image_id"]]["annotations"].append(record)
    logging.getLogger(__name__).info(f"Loaded {len(records)} images of {json_file}.")
    return list(records.values())


def _object(annotation: dict, image: dict, index: Mapping[int, int]) -> dict:
    """Converts an annotation to detectron2's form, without a mask that cannot be used."""
    found: dict[str, Any] = {
        "bbox": [float(value) for value in annotation["bbox"]]
    }  # NumPy refuses large ints
    if "iscrowd" in annotation:
        found["iscrowd"] = annotation["iscrowd"]
    found["bbox_mode"] = BoxMode.XYWH_ABS
    found["category_id"] = index[annotation["category_id"]]
    if mask := usable_mask(annotation, image):
        if isinstance(mask, dict) and isinstance(mask["counts"], list):
            mask = mask_util.frPyObjects(mask, *mask["size"])
        found["segmentation"] = mask
    return found
