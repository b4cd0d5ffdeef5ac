"""RPN and RoI heads with mmdetection's box decoding and, as an option, its matching.

mmdetection clamps the size change of a box on both sides, detectron2 only from above (at a factor
of 1000/16). Results differ for boxes that shrink further.

Shapes: N boxes, K classes (1 if class-agnostic), A anchors of all feature maps.
"""

import math
from typing import Any, Tuple  # noqa: UP035 (what TorchScript reads)

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import StandardROIHeads
from detectron2.structures import Boxes, Instances

from resnest_d2.config import with_defaults

from .matching import BestMatchesMatcher, outside_padding


@torch.jit.script
class TwoSidedBox2BoxTransform:
    """Box2BoxTransform that also clamps dw and dh from below, at -log(1000/16).

    It is not a subclass, because TorchScript classes cannot inherit.
    """

    def __init__(self, weights: Tuple[float, float, float, float]):  # noqa: UP006
        self.weights = weights
        self.one_sided = Box2BoxTransform(weights)

    def get_deltas(self, src_boxes: torch.Tensor, target_boxes: torch.Tensor) -> torch.Tensor:
        """Deltas (N, 4) from boxes (N, 4) to boxes (N, 4), see :class:`Box2BoxTransform`."""
        return self.one_sided.get_deltas(src_boxes, target_boxes)

    def apply_deltas(self, deltas: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Applies deltas (N, K*4) to boxes (N, 4), see :class:`Box2BoxTransform`."""
        limit = math.log(1000.0 / 16)
        _, _, ww, wh = self.weights
        # Not in place: TorchScript would never free the graph of a training step.
        dx, dy, dw, dh = deltas.float().reshape(-1, 4).unbind(1)
        dw, dh = dw.clamp(min=-limit * ww), dh.clamp(min=-limit * wh)
        clamped = torch.stack([dx, dy, dw, dh], dim=1).reshape(deltas.shape)
        return self.one_sided.apply_deltas(clamped, boxes)


@PROPOSAL_GENERATOR_REGISTRY.register()
class TwoSidedRPN(RPN):
    """RPN with two-sided clamping and, as options, mmdetection's matching and choice of anchors."""

    @configurable
    def __init__(self, *, skip_padding: bool = False, **kwargs: Any):
        """
        Args:
            skip_padding: do not train on anchors in the padding beyond the image's own.
            **kwargs: arguments of :class:`RPN`. With a :class:`BestMatchesMatcher` as
                ``anchor_matcher``, anchors that cross the image border by more than
                ``anchor_boundary_thresh`` are not matched either, as in mmdetection.
        """
        super().__init__(**kwargs)
        self.skip_padding = skip_padding

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Arguments from MODEL.RPN."""
        cfg = with_defaults(cfg)
        args = super().from_config(cfg, input_shape)
        args["box2box_transform"] = TwoSidedBox2BoxTransform(cfg.MODEL.RPN.BBOX_REG_WEIGHTS)
        args["skip_padding"] = cfg.MODEL.RPN.SKIP_PADDING
        if cfg.MODEL.RPN.LOW_QUALITY_MATCHES == "mmdetection":
            thresholds = cfg.MODEL.RPN.IOU_THRESHOLDS
            args["anchor_matcher"] = BestMatchesMatcher(
                Matcher(thresholds, cfg.MODEL.RPN.IOU_LABELS), floor=thresholds[0]
            )
        return args

    @torch.jit.unused
    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Labels (A,) and boxes (A, 4) of each image, see :meth:`RPN.label_and_sample_anchors`."""
        inside_first = isinstance(self.anchor_matcher, BestMatchesMatcher)
        all_anchors = Boxes.cat(anchors)
        labels, boxes = [], []
        for instances in gt_instances:
            trained = torch.ones_like(all_anchors.tensor[:, 0], dtype=torch.bool)
            if self.skip_padding:
                trained &= outside_padding(all_anchors, instances.image_size)
            if inside_first and self.anchor_boundary_thresh >= 0:
                limit = self.anchor_boundary_thresh
                trained &= all_anchors.inside_box(instances.image_size, limit)
            (label,), (box,) = super().label_and_sample_anchors([all_anchors[trained]], [instances])
            labels.append(label.new_full(trained.shape, -1).masked_scatter(trained, label))
            boxes.append(torch.zeros_like(all_anchors.tensor).index_put((trained,), box))
        return labels, boxes


@ROI_HEADS_REGISTRY.register()
class TwoSidedROIHeads(StandardROIHeads):
    """StandardROIHeads with two-sided clamping and, as an option, mmdetection's matching."""

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Arguments from MODEL.ROI_HEADS."""
        cfg = with_defaults(cfg)
        args = super().from_config(cfg, input_shape)
        if cfg.MODEL.ROI_HEADS.LOW_QUALITY_MATCHES == "mmdetection":
            args["proposal_matcher"] = BestMatchesMatcher(
                args["proposal_matcher"],
                floor=cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS[-1],
                objects_last=args["proposal_append_gt"],
            )
        return args

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        parts = super()._init_box_head(cfg, input_shape)
        parts["box_predictor"].box2box_transform = TwoSidedBox2BoxTransform(
            cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS
        )
        return parts
