"""Names of classes are drawn as they are."""

import numpy as np
import pytest
import torch
from detectron2.data.catalog import Metadata
from detectron2.structures import Boxes, Instances

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
