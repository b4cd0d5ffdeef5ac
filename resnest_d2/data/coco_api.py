"""Annotation files as pycocotools' scoring needs them."""

import contextlib
import io

import pycocotools.mask as mask_util
from pycocotools.coco import COCO


def complete_annotations(api: COCO) -> None:
    """Fill in what many tools leave out, in place.

    ``info``, ``iscrowd`` and ``area`` mean nothing, 0, and the area of the mask, or of the box
    where there is none. Ids of annotations may begin at 0.
    """
    api.dataset.setdefault("info", {})
    if 0 in api.anns:  # the scoring code takes the id 0 for "matched with nothing"
        for annotation in api.dataset["annotations"]:
            annotation["id"] += 1
        with contextlib.redirect_stdout(io.StringIO()):
            api.createIndex()
    for annotation in api.anns.values():
        annotation.setdefault("iscrowd", 0)
        if "area" not in annotation:
            has_mask = bool(annotation.get("segmentation"))
            box = annotation["bbox"]
            annotation["area"] = (
                float(mask_util.area(api.annToRLE(annotation))) if has_mask else box[2] * box[3]
            )
