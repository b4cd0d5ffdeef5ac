"""What turns the Faster R-CNN of rcnn.py into the other detectors, each in place."""

from collections.abc import Sequence
from copy import deepcopy

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from omegaconf import DictConfig

from resnest_d2.modeling import (
    CascadeMaskROIHeads,
    StageMaskHeads,
    TwoSidedBox2BoxTransform,
    TwoSidedROIHeads,
    TwoSidedRPN,
)
from resnest_d2.modeling.matching import BestMatchesMatcher


def add_masks(model: DictConfig) -> None:
    """A mask head beside the box head."""
    heads = model.roi_heads
    heads.mask_in_features = "${.box_in_features}"
    heads.mask_pooler = L(ROIPooler)(
        output_size=14, scales="${..box_pooler.scales}", sampling_ratio=0, pooler_type="ROIAlignV2"
    )
    heads.mask_head = L(MaskRCNNConvUpsampleHead)(
        input_shape=L(ShapeSpec)(channels="${....backbone.out_channels}", height=14, width=14),
        num_classes="${..num_classes}",
        conv_dims=[256, 256, 256, 256, 256],  # the last one's is the deconvolution
        conv_norm="SyncBN",
    )


def match_as_mmdetection(model: DictConfig) -> None:
    """mmdetection's decoding of boxes everywhere, and its matching of anchors."""
    model.proposal_generator.update(
        _target_=TwoSidedRPN,
        anchor_matcher=L(BestMatchesMatcher)(
            matcher=L(Matcher)(thresholds=[0.3, 0.7], labels=[0, -1, 1]), floor=0.3
        ),
        skip_padding=True,
    )
    model.proposal_generator.box2box_transform._target_ = TwoSidedBox2BoxTransform
    model.roi_heads._target_ = TwoSidedROIHeads
    model.roi_heads.box_predictor.box2box_transform._target_ = TwoSidedBox2BoxTransform


def match_proposals_as_mmdetection(model: DictConfig) -> None:
    """mmdetection's matching of proposals too, which only its Mask R-CNN has."""
    model.roi_heads.proposal_matcher = L(BestMatchesMatcher)(
        matcher=L(Matcher)(thresholds=[0.5], labels=[0, 1]), floor=0.5, objects_last=True
    )


def make_cascade(
    model: DictConfig,
    *,
    third_weights: Sequence[float] = (30.0, 30.0, 15.0, 15.0),
    masks_per_stage: bool = False,
) -> None:
    """mmdetection's cascade of three stages, each with the box head that the model has.

    Args:
        model: changed in place; with masks, if it is to have them.
        third_weights: of the box regression in the third stage.
        masks_per_stage: a mask head a stage.
    """
    heads = model.roi_heads
    head, predictor = heads.pop("box_head"), heads.pop("box_predictor")
    del heads["proposal_matcher"]
    # one dot more each: the stages are in a list
    head.input_shape.channels = "${.....backbone.out_channels}"
    predictor.update(
        num_classes="${...num_classes}", cls_agnostic_bbox_reg=True, smooth_l1_beta=1.0
    )
    predictor.input_shape.channels = "${....box_heads[0].fc_dims[0]}"
    predictor.box2box_transform._target_ = TwoSidedBox2BoxTransform
    predictors = [deepcopy(predictor) for _ in range(3)]
    predictors[1].box2box_transform.weights = [20.0, 20.0, 10.0, 10.0]
    predictors[2].box2box_transform.weights = list(third_weights)
    heads.update(
        _target_=CascadeMaskROIHeads,
        box_heads=[deepcopy(head) for _ in range(3)],
        box_predictors=predictors,
        proposal_matchers=[L(Matcher)(thresholds=[iou], labels=[0, 1]) for iou in (0.5, 0.6, 0.7)],
        stage_loss_weights=[1.0, 0.5, 0.25],
        resample=True,
        average_logits=True,
        scale_feature_gradients=False,
    )
    if masks_per_stage:
        mask_head = heads.pop("mask_head")
        mask_head.input_shape.channels = "${......backbone.out_channels}"
        mask_head.num_classes = "${....num_classes}"
        heads.mask_head = L(StageMaskHeads)(modules=[deepcopy(mask_head) for _ in range(3)])
