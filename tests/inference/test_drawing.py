"""Names of classes are drawn as they are."""

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

from resnest_d2.inference import drawing
from resnest_d2.inference.drawing import draw


def drawn(name):
    found = Instances((80, 160))
    found.pred_boxes = Boxes(torch.tensor([[20.0, 30, 90, 70]]))
    found.scores, found.pred_classes = torch.tensor([0.9]), torch.tensor([0])
    np.random.seed(0)  # the Visualizer's colours
    metadata = Metadata(name="names", thing_classes=[name])
    return np.asarray(draw(np.full((80, 160, 3), 255, np.uint8), found, metadata))


@pytest.mark.parametrize("name", ["$$", "US$1 or US$5", "$x^2$", "a\\b_%s {0}"])
def test_a_name_is_no_formula(name):
    assert (drawn(name) != drawn("")).any()


def test_signs_of_a_formula_are_drawn():
    assert (drawn("$x^2$") != drawn("x2")).any()


@pytest.mark.parametrize(
    ("size", "limits", "scale", "expected"),
    [
        ((80, 160), (12_800, 160), 1.0, (80, 160)),
        ((80, 160), (3_200, 999), 1.0, (40, 80)),
        ((80, 160), (99_999, 40), 1.0, (20, 40)),
        ((80, 160), (3_200, 999), 2.0, (40, 80)),
        ((80, 160), (51_200, 240), 4.0, (120, 240)),
        ((2, 160), (99_999, 40), 1.0, (1, 40)),
    ],
)
def test_a_drawing_is_bounded(size, limits, scale, expected, monkeypatch):
    monkeypatch.setattr(drawing, "LARGEST", limits[0])
    monkeypatch.setattr(drawing, "LONGEST", limits[1])
    found = Instances(size)
    found.pred_boxes, found.scores = Boxes(torch.zeros(0, 4)), torch.zeros(0)
    found.pred_classes = torch.zeros(0, dtype=torch.long)
    image = draw(np.zeros((*size, 3), np.uint8), found, Metadata(name="none"), scale=scale)
    assert image.size[::-1] == expected


def test_what_is_reduced_stays_on_its_place():
    found = Instances((80, 160))
    found.pred_boxes = Boxes(torch.tensor([[20.0, 30, 90, 70]]))
    found.pred_masks = torch.zeros(1, 80, 160, dtype=torch.bool)
    found.pred_masks[0, 30:70, 20:90] = True
    found.pred_keypoints = torch.tensor([[[20.0, 30, 0.5]]])
    found.scores = torch.tensor([0.9])
    segments = found.pred_masks[0].int()
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[30:70, 20:90] = 200
    small, kept, panoptic = drawing._reduced(pixels, found, (segments, []), (40, 40))
    assert kept.image_size == (40, 40) and kept.scores.tolist() == found.scores.tolist()
    assert kept.pred_boxes.tensor.tolist() == [[5.0, 15.0, 22.5, 35.0]]
    assert kept.pred_keypoints.tolist() == [[[5.0, 15.0, 0.5]]]
    assert small.shape == (40, 40, 3) and (small[15:35, 5:22] == 200).all()
    assert kept.pred_masks[0, 15:35, 5:22].all() and kept.pred_masks.sum() <= 20 * 18
    assert torch.equal(panoptic[0], kept.pred_masks[0].int())
    assert found.pred_boxes.tensor.tolist() == [[20, 30, 90, 70]]
