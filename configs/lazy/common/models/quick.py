"""A small Faster R-CNN from scratch, as Base-ResNeSt-14-FPN-quick.yaml has it."""

from omegaconf import DictConfig

from .rcnn import model
from .variants import add_masks

model.backbone.bottom_up.update(depth=14, freeze_at=0, norm="BN")
model.backbone.update(out_channels=128, norm="BN")
model.proposal_generator.anchor_generator.sizes = [[8], [16], [32], [64], [128]]
model.proposal_generator.update(pre_nms_topk=[500, 1000], post_nms_topk=[500, 1000])
model.roi_heads.update(num_classes=3, batch_size_per_image=128)
model.roi_heads.box_head.update(conv_dims=[], fc_dims=[256, 256], conv_norm="")


def add_quick_masks(model: DictConfig) -> None:
    """A narrow mask head beside the box head."""
    add_masks(model)
    model.roi_heads.mask_head.update(conv_dims=[128, 128, 128, 128, 128], conv_norm="BN")


def narrow(model: DictConfig) -> None:
    """Half the width of the above, in a backbone, an FPN and heads of two convolutions."""
    model.backbone.bottom_up.update(res2_channels=128, width=32)
    model.backbone.out_channels = 64
    model.roi_heads.box_head.update(conv_dims=[64, 64], conv_norm="BN")
    model.roi_heads.mask_head.conv_dims = [64, 64, 64]


def set_anchors(model: DictConfig, sizes: list[list[int]], *, per_image: int) -> None:
    """Other sizes of the RPN's anchors, each in three shapes, and how many an image are trained."""
    model.proposal_generator.batch_size_per_image = per_image
    model.proposal_generator.head.num_anchors = 3 * len(sizes[0])
    model.proposal_generator.anchor_generator.sizes = sizes
