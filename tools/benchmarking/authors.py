"""The authors' ResNeSt for detectron2, of a copy of their repository."""

import copy
import importlib
import sys
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import backbone
from fvcore.common.registry import Registry
from torch import nn

from resnest_d2.compat.replacing import replaced

from .measure import Skipped


def authors_backbone(folder: str, cfg: CfgNode) -> nn.Module:
    """Their ResNeSt, with random weights.

    Args:
        folder: a copy of https://github.com/zhanghang1989/ResNeSt, whose package ``resnest.d2`` is
            imported.
        cfg: config of a ResNeSt.

    Raises:
        Skipped: it is not there.
    """
    if not (Path(folder) / "resnest" / "d2").is_dir():
        raise Skipped(f"there is no resnest/d2 in {folder}")
    sys.path.insert(0, folder)
    try:
        with replaced(backbone, BACKBONE_REGISTRY=Registry("BACKBONE")):  # it uses our names
            authors = importlib.import_module("resnest.d2")
    finally:
        sys.path.remove(folder)
    return authors.build_resnest_backbone(cfg, ShapeSpec(channels=3))


def with_authors_backbone(model: nn.Module, folder: str, cfg: CfgNode) -> nn.Module:
    """A copy of a detector with their ResNeSt, which has the weights of ours.

    Raises:
        Skipped: see :func:`authors_backbone`.
    """
    theirs = authors_backbone(folder, cfg)
    theirs.load_state_dict(model.backbone.bottom_up.state_dict())
    model = copy.deepcopy(model)
    model.backbone.bottom_up = theirs.eval()
    return model
