"""Cascade heads of the published ResNeSt detectors.

Papers: https://arxiv.org/abs/1712.00726, https://arxiv.org/abs/1906.09756. Every difference between
mmdetection's cascades and detectron2's is one argument that is off by default.

Shapes: S stages, R regions of all images, K classes, C channels, P pooled size, M mask size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import CascadeROIHeads, fast_rcnn, select_foreground_proposals
from detectron2.structures import ImageList, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from torch import nn

from resnest_d2.config import with_defaults
from resnest_d2.errors import UserError

from .box_transform import TwoSidedBox2BoxTransform
from .matching import is_truth

Features = dict[str, torch.Tensor]  # maps by name
PerImage = list[Instances]
PerImageBoxes = Sequence[torch.Tensor]  # (R_i, 4) each
Predictions = tuple[torch.Tensor, torch.Tensor]  # class logits and box deltas


class StageMaskHeads(nn.ModuleList):
    """One mask head per stage. At test time their masks are averaged."""

    def forward(self, x: torch.Tensor, instances: list[Instances]) -> list[Instances]:
        """Sets ``pred_masks`` to the mean of the stages' sigmoid masks.

        Args:
            x: pooled features of the predicted boxes, (R, C, P, P).
            instances: predicted boxes and classes of each image.
        """
        stages = []
        for head in self:
            instances = head(x, instances)
            stages.append([i.pred_masks for i in instances])  # each (R_i, 1, M, M)
        for found, masks in zip(instances, zip(*stages, strict=True), strict=True):
            found.pred_masks = torch.stack(masks).mean(0)
        return instances


@ROI_HEADS_REGISTRY.register()
class CascadeMaskROIHeads(CascadeROIHeads):
    """CascadeROIHeads with each difference of mmdetection's cascades as an option.

    Boxes are class-agnostic, as in the base class.
    """

    proposal_matcher: Matcher

    @configurable
    def __init__(
        self,
        *,
        stage_loss_weights: Sequence[float] = (),
        resample: bool = False,
        average_logits: bool = False,
        scale_feature_gradients: bool = True,
        **kwargs: Any,
    ):
        """
        Args:
            stage_loss_weights: loss weight of each stage; () for 1 each.
            resample: resample regions for every stage with ground truth added, instead of passing
                on all refined boxes.
            average_logits: average the stages' class logits at test time instead of their
                probabilities.
            scale_feature_gradients: divide the box losses' gradient into the features by S.
            **kwargs: arguments of :class:`CascadeROIHeads`. Use :class:`StageMaskHeads` as
                ``mask_head`` for one mask head per stage.

        Raises:
            UserError: the number of weights is not the number of stages.
        """
        super().__init__(**kwargs)
        self.stage_loss_weights = tuple(stage_loss_weights) or (1.0,) * self.num_cascade_stages
        if len(self.stage_loss_weights) != self.num_cascade_stages:
            raise UserError(
                f"MODEL.ROI_BOX_CASCADE_HEAD.STAGE_LOSS_WEIGHTS {self.stage_loss_weights} has "
                f"{len(self.stage_loss_weights)} values; IOUS has {self.num_cascade_stages} stages."
            )
        self.resample = resample
        self.average_logits = average_logits
        self.scale_feature_gradients = scale_feature_gradients
        self.masks_per_stage = self.mask_on and isinstance(self.mask_head, StageMaskHeads)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        """Arguments from MODEL.ROI_BOX_CASCADE_HEAD, and those of the base class."""
        keys = (cfg := with_defaults(cfg)).MODEL.ROI_BOX_CASCADE_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "stage_loss_weights": keys.STAGE_LOSS_WEIGHTS,
            "resample": keys.RESAMPLE,
            "average_logits": keys.AVERAGE_LOGITS,
            "scale_feature_gradients": keys.SCALE_FEATURE_GRADIENTS,
        }

    @classmethod
    def _init_box_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        parts = super()._init_box_head(cfg, input_shape)
        keys = cfg.MODEL.ROI_BOX_CASCADE_HEAD
        if keys.TWO_SIDED_CLAMP:
            for predictor, weights in zip(
                parts["box_predictors"], keys.BBOX_REG_WEIGHTS, strict=True
            ):
                predictor.box2box_transform = TwoSidedBox2BoxTransform(tuple(weights))
        return parts

    @classmethod
    def _init_mask_head(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        keys = cfg.MODEL.ROI_MASK_HEAD
        if keys.PER_STAGE and not keys.POOLER_TYPE:
            raise UserError(
                "MODEL.ROI_MASK_HEAD.PER_STAGE needs pooled features, but POOLER_TYPE is empty; "
                "set it to ROIAlignV2, or PER_STAGE False."
            )
        parts = super()._init_mask_head(cfg, input_shape)
        if parts and keys.PER_STAGE:
            further = [
                super(CascadeMaskROIHeads, cls)._init_mask_head(cfg, input_shape)["mask_head"]
                for _ in cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS[1:]
            ]
            parts["mask_head"] = StageMaskHeads([parts["mask_head"], *further])
        return parts

    def forward(
        self,
        images: ImageList,
        features: Features,
        proposals: PerImage,
        targets: PerImage | None = None,
    ) -> tuple[PerImage, dict[str, torch.Tensor]]:
        """See :meth:`detectron2.modeling.ROIHeads.forward`."""
        if not self.training:
            return super().forward(images, features, proposals)
        first = self.label_and_sample_proposals(proposals, targets)
        losses = self._forward_box(features, first, targets)
        if not self.masks_per_stage:  # otherwise they are part of the stages' losses
            losses.update(self._forward_mask(features, first))
        losses.update(self._forward_keypoint(features, first))
        return first, losses

    def _forward_box(
        self, features: Features, proposals: PerImage, targets: PerImage | None = None
    ) -> Any:
        """Losses of all stages in training, the detections of each image at test time."""
        if self.training:
            losses: dict[str, torch.Tensor] = {}
            for stage, (predictions, sampled, _) in enumerate(
                self._run_stages(features, proposals, targets)
            ):
                stage_losses = self._stage_losses(features, predictions, sampled, stage)
                weight = self.stage_loss_weights[stage]
                losses.update({f"{k}_stage{stage}": weight * v for k, v in stage_losses.items()})
            return losses
        if not self.average_logits:
            return super()._forward_box(features, proposals)
        results = list(self._run_stages(features, proposals))
        logits = torch.stack([scores for (scores, _), _, _ in results]).mean(0)  # (R, K + 1)
        (_, deltas), proposals, boxes = results[-1]
        predictor = self.box_predictor[-1]
        return fast_rcnn.fast_rcnn_inference(
            boxes,
            predictor.predict_probs((logits, deltas), proposals),
            [p.image_size for p in proposals],
            predictor.test_score_thresh,
            predictor.test_nms_thresh,
            predictor.test_topk_per_image,
        )[0]

    def _run_stages(
        self, features: Features, proposals: PerImage, targets: PerImage | None = None
    ) -> Iterator[tuple[Predictions, PerImage, PerImageBoxes]]:
        """Yield every stage's predictions, the proposals they are for, and the boxes refined."""
        pyramid = [features[name] for name in self.box_in_features]
        boxes: PerImageBoxes = ()
        for stage, predictor in enumerate(self.box_predictor):
            if stage > 0:
                proposals = self._refined_proposals(boxes, proposals, targets, stage)
            predictions = self._run_stage(pyramid, proposals, stage)
            boxes = predictor.predict_boxes(predictions, proposals)
            yield predictions, proposals, boxes

    def _refined_proposals(
        self, boxes: PerImageBoxes, proposals: PerImage, targets: PerImage | None, stage: int
    ) -> PerImage:
        """Boxes of the stage before as proposals; in training labelled, and sampled if asked."""
        sizes = [p.image_size for p in proposals]
        if not self.training:
            return self._create_proposals_from_boxes(boxes, sizes)
        if not self.resample:
            refined = self._create_proposals_from_boxes(boxes, sizes)
            return self._match_and_label_boxes(refined, stage, targets)
        # Ground truth among the proposals is not refined: it is added again as it is.
        boxes = [b[~is_truth(p)] for b, p in zip(boxes, proposals, strict=True)]
        refined = self._create_proposals_from_boxes(boxes, sizes)
        for p in refined:  # needed for adding ground truth
            p.objectness_logits = p.proposal_boxes.tensor.new_zeros(len(p))
        first_matcher = self.proposal_matcher
        self.proposal_matcher = self.proposal_matchers[stage]
        try:
            with get_event_storage().name_scope(f"stage{stage}"):
                return self.label_and_sample_proposals(refined, targets)
        finally:
            self.proposal_matcher = first_matcher

    @torch.no_grad()
    def _match_and_label_boxes(
        self, proposals: PerImage, stage: int, targets: PerImage | None
    ) -> PerImage:
        proposals = super()._match_and_label_boxes(proposals, stage, targets)
        if targets and self.masks_per_stage:  # the base class has no use for them after stage 0
            for found, truth in zip(proposals, targets, strict=True):
                if len(truth):
                    overlaps = pairwise_iou(truth.gt_boxes, found.proposal_boxes)
                    found.gt_masks = truth.gt_masks[self.proposal_matchers[stage](overlaps)[0]]
        return proposals

    def _run_stage(
        self, features: list[torch.Tensor], proposals: PerImage, stage: int
    ) -> Predictions:
        if self.scale_feature_gradients or not self.training:
            return super()._run_stage(features, proposals, stage)
        pooled = self.box_pooler(features, [p.proposal_boxes for p in proposals])  # (R, C, P, P)
        return self.box_predictor[stage](self.box_head[stage](pooled))

    def _stage_losses(
        self, features: Features, predictions: Predictions, proposals: PerImage, stage: int
    ) -> dict[str, torch.Tensor]:
        with get_event_storage().name_scope(f"stage{stage}"):
            losses = self.box_predictor[stage].losses(predictions, proposals)
            if self.masks_per_stage:
                positives = select_foreground_proposals(proposals, self.num_classes)[0]
                maps = [features[name] for name in self.mask_in_features]
                pooled = self.mask_pooler(maps, [p.proposal_boxes for p in positives])
                losses.update(self.mask_head[stage](pooled, positives))
        return losses
