"""Annotations as evaluation with pycocotools needs them.

They come from :mod:`resnest_d2.data.annotations`, which has parsed them for training already.
"""

import contextlib
import io

from pycocotools.coco import COCO

from .annotations import load_annotations
from .validate.rules import area_of, is_polygon


def read_api(json_file: str) -> COCO:
    """pycocotools' COCO of a file, whose annotations may be changed.

    Args:
        json_file: path of the file.
    """
    content = load_annotations(json_file)
    api = COCO()
    api.dataset = {**content, "annotations": [_unpacked(a) for a in content.get("annotations", ())]}
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    return api


def _unpacked(annotation: dict) -> dict:
    mask = annotation.get("segmentation")
    if isinstance(mask, list):
        mask = [list(part) for part in mask]
    return {**annotation, "segmentation": mask} if mask else {**annotation}


def complete_annotations(api: COCO) -> None:
    """Fills in fields that many tools omit or write differently, in place.

    Defaults are an empty ``info``, an ``iscrowd`` of 0, and an ``area`` of the mask or else the
    box. Polygons that training skips are removed; an annotation without other polygons gets its box
    as mask. Ids of annotations may start at 0.
    """
    api.dataset.setdefault("info", {})
    if 0 in api.anns:  # to COCOeval the id 0 means unmatched
        for annotation in api.dataset["annotations"]:
            annotation["id"] += 1
        with contextlib.redirect_stdout(io.StringIO()):
            api.createIndex()
    for annotation in api.anns.values():
        if annotation.get("iscrowd") not in (0, 1):
            annotation["iscrowd"] = 0
        mask = annotation.get("segmentation")
        if mask and isinstance(mask, list):
            mask = [part for part in mask if is_polygon(part)]
            if not mask:
                x, y, w, h = annotation["bbox"]
                mask = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotation["segmentation"] = mask
        area = annotation.get("area")
        if not isinstance(area, int | float) or not area >= 0:  # nor NaN
            annotation["area"] = area_of(annotation, api.imgs[annotation["image_id"]])
