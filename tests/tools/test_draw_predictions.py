"""The demo's drawings: annotations and predictions side by side, at one size for all images."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, BoxMode, Instances

from resnest_d2.painting.colors import color_of

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from draw_predictions import GAP, SIDE, TEXT, annotated, compare


def objects(**options):
    one = {"bbox": [10, 20, 30, 40], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1, **options}
    return {"annotations": [one, {**one, "iscrowd": 1}]}


def test_annotations_become_instances():
    truth = annotated(objects(segmentation=[[10, 20, 40, 20, 40, 60, 10, 60]]), (160, 160))
    assert truth.gt_boxes.tensor.tolist() == [[10, 20, 40, 60]] and truth.gt_classes.tolist() == [1]
    assert truth.gt_masks.tensor[0, 20:60, 10:40].all() and truth.gt_masks.tensor.sum() == 1200
    assert not annotated(objects(), (160, 160)).has("gt_masks")
    assert len(annotated({"annotations": []}, (160, 160))) == 0


@pytest.mark.parametrize("size", [(160, 160), (120, 160), (1600, 1600)])
def test_both_sides_have_the_colours_of_the_classes(size):
    factor = SIDE / max(size)
    truth, found = annotated(objects(), size), Instances(size)
    found.pred_boxes = Boxes(torch.tensor([[80.0, 20, 100, 60]]))
    found.pred_classes, found.scores = torch.tensor([0]), torch.tensor([0.9])
    page = np.asarray(compare(np.full((*size, 3), 99, np.uint8), truth, found, Metadata()))
    width, height = round(size[1] * factor), round(size[0] * factor)
    assert page.shape == (2 * TEXT + height + GAP, 2 * width + 3 * GAP, 3)
    row = 2 * TEXT + round(40 * factor)
    assert tuple(page[row, GAP + round(10 * factor)]) == color_of(1)
    assert tuple(page[row, 2 * GAP + width + round(80 * factor)]) == color_of(0)
    assert tuple(page[row, 5]) == (255, 255, 255)
