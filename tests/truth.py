"""The objects of a data set as the detections of a perfect detector."""

import numpy as np
import pycocotools.mask as coco_masks
import torch
from detectron2.structures import Boxes, BoxMode, Instances


def as_detections(record: dict, *, masks: bool = True) -> Instances:
    """The objects of a record in detectron2's format; those without a mask have an empty one."""
    size = height, width = record["height"], record["width"]
    objects = [a for a in record["annotations"] if not a.get("iscrowd")]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects]
    found = Instances(size)
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.scores = torch.linspace(0.9, 0.5, len(objects))
    found.pred_classes = torch.tensor([a["category_id"] for a in objects], dtype=torch.int64)
    if masks:
        pixels = np.zeros((len(objects), height, width), bool)
        for mask, annotation in zip(pixels, objects, strict=True):
            if segmentation := annotation.get("segmentation"):
                mask[:] = _decode(segmentation, height, width)
        found.pred_masks = torch.from_numpy(pixels)
    return found


def _decode(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, list):
        segmentation = coco_masks.merge(coco_masks.frPyObjects(segmentation, height, width))
    return coco_masks.decode(segmentation)
