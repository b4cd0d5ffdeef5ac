"""ResNeSt with detectron2's feature pyramid network.

Source: https://arxiv.org/abs/1612.03144; P6 and P7 as in https://arxiv.org/abs/1708.02002.
"""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from resnest_d2.layers import adapt_sync_norms

from .resnest import ResNeSt, build_resnest_backbone


def _build_fpn(cfg: CfgNode, bottom_up: ResNeSt, top_block: nn.Module) -> FPN:
    fpn = FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
    return adapt_sync_norms(fpn)


@BACKBONE_REGISTRY.register()
def build_resnest_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Builds a ResNeSt-FPN for R-CNNs, with p2 .. p6; p6 is a max pool of p5."""
    return _build_fpn(cfg, build_resnest_backbone(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_retinanet_resnest_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Builds a ResNeSt-FPN for RetinaNet and FCOS, with p3 .. p7; p6 and p7 are convolutions."""
    bottom_up = build_resnest_backbone(cfg, input_shape)
    res5 = bottom_up.output_shape()["res5"].channels
    return _build_fpn(cfg, bottom_up, LastLevelP6P7(res5, cfg.MODEL.FPN.OUT_CHANNELS))
