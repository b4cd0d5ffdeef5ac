"""The kinds of detectors, small."""

import pytest
from detectron2.modeling import build_model
from nets import randomise


@pytest.fixture(params=["faster", "mask", "cascade", "cascade mask", "agnostic mask", "GN"])
def detector(request, rcnn_cfg):
    cfg, kind = rcnn_cfg, request.param
    cfg.MODEL.MASK_ON = "mask" in kind
    cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = 2, 16
    cfg.MODEL.ROI_BOX_HEAD.NORM = cfg.MODEL.FPN.NORM = "GN" if kind == "GN" else "BN"
    cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = kind == "agnostic mask"
    if "cascade" in kind:
        cfg.MODEL.ROI_HEADS.NAME = "CascadeMaskROIHeads"
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
        cfg.MODEL.ROI_BOX_CASCADE_HEAD.AVERAGE_LOGITS = True
        cfg.MODEL.ROI_MASK_HEAD.PER_STAGE = True
    if kind == "GN":
        cfg.MODEL.ROI_BOX_HEAD.CONV_DIM = cfg.MODEL.FPN.OUT_CHANNELS = 32
    model = randomise(build_model(cfg))
    model.cfg = cfg
    return model
