from ..common.models.mmdet_cascade import make_mmdet_cascade
from .mask_rcnn_ResNeSt_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

make_mmdet_cascade(model, masks_per_stage=True)
