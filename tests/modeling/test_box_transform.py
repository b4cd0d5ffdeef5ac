import math

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform

from resnest_d2.modeling import TwoSidedBox2BoxTransform

LIMIT = math.log(1000 / 16)
WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def test_sizes_are_clamped_on_both_sides():
    boxes = torch.tensor([[0.0, 0.0, 100.0, 40.0]])
    # per class: dw far below, dh far above; dw just inside, dh far below
    deltas = torch.tensor([[0.0, 0.0, -99.0, 99.0, 0.0, 0.0, -5 * (LIMIT - 0.1), -99.0]])
    decoded = TwoSidedBox2BoxTransform(WEIGHTS).apply_deltas(deltas, boxes).view(2, 2, 2)
    sizes = decoded[:, 1] - decoded[:, 0]
    expected = [[100 * 16 / 1000, 40 * 1000 / 16], [100 * math.exp(0.1 - LIMIT), 40 * 16 / 1000]]
    torch.testing.assert_close(sizes, torch.tensor(expected))
    assert deltas[0, 2] == -99  # the input is left alone


def test_equals_detectron2_within_the_limits():
    torch.manual_seed(0)
    ours, theirs = TwoSidedBox2BoxTransform(WEIGHTS), Box2BoxTransform(WEIGHTS)
    boxes = torch.rand(20, 4) * 50
    boxes[:, 2:] += boxes[:, :2] + 1
    deltas = torch.randn(20, 12)
    assert torch.equal(ours.apply_deltas(deltas, boxes), theirs.apply_deltas(deltas, boxes))
    shifted = boxes + 2
    assert torch.equal(ours.get_deltas(boxes, shifted), theirs.get_deltas(boxes, shifted))


def test_can_be_scripted():
    class Decode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.transform = TwoSidedBox2BoxTransform(WEIGHTS)

        def forward(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
            return self.transform.apply_deltas(deltas, boxes)

    deltas, boxes = torch.full((1, 4), -99.0), torch.tensor([[0.0, 0.0, 100.0, 40.0]])
    assert torch.equal(torch.jit.script(Decode())(deltas, boxes), Decode()(deltas, boxes))


@pytest.mark.parametrize("two_sided", [False, True])
def test_heads_and_rpn_by_name(two_sided, rcnn_cfg):
    if two_sided:
        rcnn_cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TwoSidedRPN"
        rcnn_cfg.MODEL.ROI_HEADS.NAME = "TwoSidedROIHeads"
    model = build_model(rcnn_cfg)
    boxes = torch.tensor([[0.0, 0.0, 100.0, 40.0]])
    expected = 1.6 if two_sided else 100 * math.exp(-9)
    for part, dw in ((model.proposal_generator, -9.0), (model.roi_heads.box_predictor, -45.0)):
        decoded = part.box2box_transform.apply_deltas(torch.tensor([[0.0, 0.0, dw, 0.0]]), boxes)
        assert (decoded[0, 2] - decoded[0, 0]).item() == pytest.approx(expected, rel=1e-3)
