import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage


def test_fpn_levels(cfg):
    cfg.MODEL.BACKBONE.NAME = "build_resnest_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    outputs = build_backbone(cfg).eval()(torch.rand(1, 3, 64, 96))
    sizes = {name: tuple(v.shape[2:]) for name, v in outputs.items()}
    assert sizes == {"p2": (16, 24), "p3": (8, 12), "p4": (4, 6), "p5": (2, 3), "p6": (1, 2)}
    torch.testing.assert_close(outputs["p6"], outputs["p5"][:, :, ::2, ::2])


def test_retinanet_trains_and_has_p6_and_p7_by_convolution(cfg):
    torch.manual_seed(0)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnest_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RETINANET.NUM_CLASSES = 2
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    model = build_model(cfg)
    assert list(model.backbone.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]
    assert model.backbone.top_block.p6.weight.shape[1] == 2048
    truth = Instances((64, 64), gt_boxes=Boxes([[8, 8, 40, 40]]), gt_classes=torch.tensor([1]))
    with EventStorage():
        losses = model([{"image": torch.zeros(3, 64, 64), "instances": truth}] * 2)
    sum(losses.values()).backward()
    assert model.backbone.top_block.p7.weight.grad.abs().max() > 0


def test_dilated_res5_has_no_place_in_an_fpn(cfg):
    cfg.MODEL.BACKBONE.NAME = "build_resnest_fpn_backbone"
    cfg.MODEL.FPN.IN_FEATURES = ["res4", "res5"]
    cfg.MODEL.RESNETS.RES5_DILATION = 2
    with pytest.raises(ValueError, match="RES5_DILATION"):
        build_backbone(cfg)


def test_unknown_in_feature(cfg):
    cfg.MODEL.BACKBONE.NAME = "build_resnest_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4"]
    with pytest.raises(ValueError, match="OUT_FEATURES"):
        build_backbone(cfg)
