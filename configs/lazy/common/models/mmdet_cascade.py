"""mmdetection's cascades, with and without masks, as Base-MMDet-Cascade-FPN-1x.yaml has them."""

from omegaconf import DictConfig

from .variants import make_cascade


def make_mmdet_cascade(model: DictConfig, *, masks_per_stage: bool = False) -> None:
    """Turn mmdetection's Faster or Mask R-CNN into its cascade, in place."""
    make_cascade(
        model,
        # 1 over mmdetection's stds of 0.033 and 0.067; detectron2 has 30 and 15
        third_weights=[30.303030303, 30.303030303, 14.925373134, 14.925373134],
        masks_per_stage=masks_per_stage,
    )
    model.proposal_generator.update(
        anchor_boundary_thresh=0,  # no training on anchors that leave the image
        post_nms_topk=[2000, 1000],
        smooth_l1_beta=0.1111111111,
    )
