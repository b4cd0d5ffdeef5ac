"""A training step of the published detectors is mmdetection's: same weights, images and samples."""

import math
import re

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from resnest_d2.model_zoo import get_config

# mmdetection's part: ours
PARTS = {
    "backbone.layer2": "backbone.bottom_up.res3",
    "backbone.layer3": "backbone.bottom_up.res4",
    "backbone.layer4": "backbone.bottom_up.res5",
    "neck": "backbone.fpn_",
    "rpn": "proposal_generator",
    "bbox_head.fc_cls": "roi_heads.box_predictor.cls_score",
    "bbox_head.fc_reg": "roi_heads.box_predictor.bbox_pred",
    "bbox_head.shared_convs": "roi_heads.box_head.conv",
    "bbox_head.shared_fcs": "roi_heads.box_head.fc",
    "mask_head.convs": "roi_heads.mask_head.mask_fcn",
    "mask_head.upsample": "roi_heads.mask_head.deconv",
    "mask_head.conv_logits": "roi_heads.mask_head.predictor",
    **{
        f"{kind}_head.{stage}": f"roi_heads.{part}.{stage}."
        for stage in range(3)
        for kind, part in (("mask", "mask_head"), ("bbox", "box_(head|predictor)"))
    },
}
LOSSES = {
    "loss_rpn_cls": "loss_rpn_cls",
    "loss_rpn_bbox": "loss_rpn_loc",
    "loss_cls": "loss_cls",
    "loss_bbox": "loss_box_reg",
    "loss_mask": "loss_mask",
}


def our_loss(name):
    """``s1.loss_cls`` to ``loss_cls_stage1``."""
    stage, _, loss = name.rpartition(".")
    return LOSSES[loss] + (f"_stage{stage[1:]}" if stage else "")


def octagon(box):
    """A polygon inside a box: its corners are 45 degrees apart, the first to the right."""
    center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    angles = [math.radians(45 * k) for k in range(8)]
    return np.concatenate([center + half * (math.cos(a), math.sin(a)) for a in angles])


def batch(oracle, oracles, masks):
    """The fixture's eight images with their objects, as detectron2's models take them."""
    height, width, first = (int(v) for v in oracle["picture"])
    inputs = []
    for number in range(8):
        image = oracles.image({"picture": (height, width, first + number)})
        of_image = oracle["image_of"] == number
        boxes = oracle["boxes"][of_image].astype(np.float64)
        truth = Instances((height, width))
        truth.gt_boxes = Boxes(torch.from_numpy(boxes).float())
        truth.gt_classes = torch.from_numpy(oracle["labels"][of_image]).long()
        if masks:
            truth.gt_masks = PolygonMasks([[octagon(box)] for box in boxes])
        tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
        inputs.append({"image": tensor, "instances": truth})
    return inputs


def build_trained(cfg, oracle, oracles, path):
    """The detector in training mode, with the fixture's weights."""
    torch.save({"meta": {}, "state_dict": oracles.weights(oracle, seed=0)}, path)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.NORM = "BN"  # what SyncBN is in one process
    cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.ROI_MASK_HEAD.NORM = "BN"
    model = build_model(cfg).train()
    DetectionCheckpointer(model).load(f"resnest+file://{path}")
    return model


def assert_losses(losses, oracle):
    expected = {
        our_loss(key.removeprefix("loss/")): float(value)
        for key, value in oracle.items()
        if key.startswith("loss/") and not key.endswith("acc")
    }
    assert {name: loss.item() for name, loss in losses.items()} == pytest.approx(expected, rel=1e-4)


def assert_gradients(model, oracle):
    """The sum of the squares of each part's gradients."""
    squares = {
        name: p.grad.double().square().sum().item()
        for name, p in model.named_parameters()
        if p.grad is not None
    }
    parts = [key.removeprefix("grad/") for key in oracle if key.startswith("grad/")]
    sums = {
        part: sum(v for name, v in squares.items() if re.match(PARTS[part], name)) for part in parts
    }
    assert sums == pytest.approx({p: float(oracle[f"grad/{p}"]) for p in parts}, rel=1e-3)


@pytest.fixture
def first_samples(monkeypatch):
    """Every random choice takes the first ones, as in the fixtures."""
    monkeypatch.setattr(torch, "randperm", lambda n, **kwargs: torch.arange(n))


@pytest.mark.parametrize("name", ["faster_rcnn_s50", "mask_rcnn_s50"])
def test_a_step_is_mmdetections(name, oracles, tmp_path, first_samples):
    oracle = oracles.load(f"mmdet_train/{name}")
    model = build_trained(get_config(name), oracle, oracles, tmp_path / "weights.pth")
    with EventStorage():
        losses = model(batch(oracle, oracles, model.roi_heads.mask_on))
    assert_losses(losses, oracle)
    sum(losses.values()).backward()
    assert_gradients(model, oracle)


def test_a_step_of_both_cascades_is_mmdetections(oracles, tmp_path, first_samples):
    """Without its mask losses, a step of Cascade Mask R-CNN is one of Cascade R-CNN."""
    plain, masked = (
        oracles.load(f"mmdet_train/{name}")
        for name in ("cascade_rcnn_s50", "cascade_mask_rcnn_s50")
    )
    cfg = get_config("cascade_mask_rcnn_s50")
    model = build_trained(cfg, masked, oracles, tmp_path / "weights.pth")
    with EventStorage():
        losses = model(batch(masked, oracles, True))
    of_masks = {name: loss for name, loss in losses.items() if "mask" in name}
    of_boxes = {name: loss for name, loss in losses.items() if "mask" not in name}
    assert_losses(of_boxes, plain)
    assert_losses(losses, masked)
    sum(of_boxes.values()).backward(retain_graph=True)
    assert_gradients(model, plain)
    sum(of_masks.values()).backward()
    assert_gradients(model, masked)


@pytest.mark.parametrize("depth", [50, 101])
def test_the_cascades_differ_by_their_masks_alone(depth):
    plain, masked = get_config(f"cascade_rcnn_s{depth}"), get_config(f"cascade_mask_rcnn_s{depth}")
    plain.MODEL.MASK_ON = plain.MODEL.ROI_MASK_HEAD.PER_STAGE = True
    plain.INPUT = masked.INPUT.clone()
    assert plain == masked


@pytest.mark.parametrize("depth", [101])
@pytest.mark.parametrize(
    "detector", ["faster_rcnn", "mask_rcnn", "cascade_rcnn", "cascade_mask_rcnn"]
)
def test_other_depths_differ_by_the_backbone_alone(detector, depth):
    cfg, other = get_config(f"{detector}_s50"), get_config(f"{detector}_s{depth}")
    cfg.MODEL.WEIGHTS = other.MODEL.WEIGHTS
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = depth, 128
    assert cfg == other
