"""mmdetection's Faster R-CNN, as Base-MMDet-FPN-1x.yaml has it."""

from .rcnn import model
from .variants import match_as_mmdetection

match_as_mmdetection(model)
