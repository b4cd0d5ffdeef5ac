"""ResNeSt, its blocks and its builders; importing this registers the builders."""

from .archs import ARCHS, Arch, get_arch
from .block import ResNeStBottleneck
from .fpn import build_resnest_fpn_backbone, build_retinanet_resnest_fpn_backbone
from .resnest import ResNeSt, build_resnest_backbone
from .stem import DeepStem

__all__ = [
    "ARCHS",
    "Arch",
    "DeepStem",
    "ResNeSt",
    "ResNeStBottleneck",
    "build_resnest_backbone",
    "build_resnest_fpn_backbone",
    "build_retinanet_resnest_fpn_backbone",
    "get_arch",
]
