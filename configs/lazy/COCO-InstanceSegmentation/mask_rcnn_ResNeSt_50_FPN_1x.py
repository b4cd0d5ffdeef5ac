from ..common.data.coco_masks import dataloader
from ..common.models.mmdet_mask_rcnn import model
from ..common.optim import optimizer
from ..common.schedule import lr_multiplier
from ..common.train import train
