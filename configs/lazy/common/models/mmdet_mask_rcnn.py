"""mmdetection's Mask R-CNN, as Base-MMDet-Mask-FPN-1x.yaml has it."""

from .mmdet_rcnn import model
from .variants import add_masks, match_proposals_as_mmdetection

add_masks(model)
match_proposals_as_mmdetection(model)
