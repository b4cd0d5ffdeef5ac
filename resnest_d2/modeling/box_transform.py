"""Box decoding that clamps a box's change of size on both sides, as mmdetection does.

detectron2 clamps it from above only (at a factor of 1000/16); with random or odd weights, boxes
that shrink further differ between the two. Shapes: N boxes, K classes (1 if class-agnostic).
"""

import math
from typing import Tuple  # noqa: UP035 (what TorchScript reads)

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import StandardROIHeads


@torch.jit.script
class TwoSidedBox2BoxTransform:
    """detectron2's Box2BoxTransform with dw and dh also clamped from below, at -log(1000/16).

    A class of its own and no subclass, because TorchScript classes cannot inherit.
    """

    def __init__(self, weights: Tuple[float, float, float, float]):  # noqa: UP006
        self.weights = weights
        self.one_sided = Box2BoxTransform(weights)

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """(N, 4) and (N, 4) to (N, 4); see :class:`Box2BoxTransform`."""
        return self.one_sided.get_deltas(src_boxes, target_boxes)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """(N, K*4) and (N, 4) to (N, K*4); see :class:`Box2BoxTransform`."""
        limit = math.log(1000.0 / 16)
        _, _, ww, wh = self.weights
        deltas = deltas.float().clone()
        deltas[:, 2::4] = deltas[:, 2::4].clamp(min=-limit * ww)
        deltas[:, 3::4] = deltas[:, 3::4].clamp(min=-limit * wh)
        return self.one_sided.apply_deltas(deltas, boxes)


@PROPOSAL_GENERATOR_REGISTRY.register()
class TwoSidedRPN(RPN):
    """detectron2's RPN with two-sided clamping."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Arguments of the constructor, as RPN's."""
        transform = TwoSidedBox2BoxTransform(cfg.MODEL.RPN.BBOX_REG_WEIGHTS)
        return {**super().from_config(cfg, input_shape), "box2box_transform": transform}


@ROI_HEADS_REGISTRY.register()
class TwoSidedROIHeads(StandardROIHeads):
    """detectron2's StandardROIHeads with two-sided clamping."""

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        parts = super()._init_box_head(cfg, input_shape)
        parts["box_predictor"].box2box_transform = TwoSidedBox2BoxTransform(
            cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        )
        return parts
