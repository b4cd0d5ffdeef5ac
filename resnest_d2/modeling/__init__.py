"""ResNeSt, its builders and heads. Importing this package registers them."""

from .archs import ARCHS, Arch, get_arch
from .block import ResNeStBottleneck
from .box_head import CheckpointConvFCHead
from .box_transform import TwoSidedBox2BoxTransform, TwoSidedROIHeads, TwoSidedRPN
from .fpn import build_resnest_fpn_backbone, build_retinanet_resnest_fpn_backbone
from .resnest import ResNeSt, build_resnest_backbone
from .roi_heads import CascadeMaskROIHeads, StageMaskHeads
from .stem import DeepStem

__all__ = [
    "ARCHS",
    "Arch",
    "CascadeMaskROIHeads",
    "CheckpointConvFCHead",
    "DeepStem",
    "ResNeSt",
    "ResNeStBottleneck",
    "StageMaskHeads",
    "TwoSidedBox2BoxTransform",
    "TwoSidedROIHeads",
    "TwoSidedRPN",
    "build_resnest_backbone",
    "build_resnest_fpn_backbone",
    "build_retinanet_resnest_fpn_backbone",
    "get_arch",
]
