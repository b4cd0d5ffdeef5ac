"""Small detectors of every kind with random weights, for tests that compare two forms of one."""

import shutil

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

KINDS = ("faster", "mask", "cascade", "cascade mask", "agnostic mask", "GN")
# Options of ResNeSt whose layers are optimized in different ways.
BACKBONES = [
    {},
    {"norm": "FrozenBN"},
    {"norm": "SyncBN"},
    {"norm": "GN"},
    {"norm": ""},
    {"radix": 0},
    {"radix": 1, "num_groups": 2},
    {"radix": 4, "num_groups": 2, "avd_first": True},
    {"deep_stem": False, "res5_dilation": 2},
    {"deform_on_per_stage": (False, True, True, True), "deform_modulated": True},
]


def set_kind(cfg: CfgNode, kind: str) -> CfgNode:
    """Makes the config of a Mask R-CNN, the fixture ``rcnn_cfg``, that of another kind."""
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
    return cfg


def randomise(model: nn.Module) -> nn.Module:
    """Statistics of norms, and heads that find something."""
    torch.manual_seed(0)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            torch.nn.init.uniform_(tensor, 0.6, 1.4)
        elif name.endswith(("running_mean", "bias")):
            torch.nn.init.normal_(tensor, std=0.1)
        elif "predictor" in name and name.endswith("weight"):
            torch.nn.init.normal_(tensor, std=0.05)
    return model.eval()


def images() -> list[dict]:
    """Two images of different sizes, as a detector takes them."""
    torch.manual_seed(3)
    sizes = ((64, 96), (80, 64))
    return [{"image": torch.rand(3, h, w) * 255, "height": h + 6, "width": w + 9} for h, w in sizes]


def require_backend(backend: str) -> None:
    """Skips a test without what a backend of ``optimize_for_inference`` needs."""
    if backend == "openvino":
        pytest.importorskip("openvino")
    if backend == "inductor" and not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler, and there is no g++")
