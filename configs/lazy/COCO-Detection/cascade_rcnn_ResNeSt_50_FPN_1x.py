from ..common.models.mmdet_cascade import make_mmdet_cascade
from .faster_rcnn_ResNeSt_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

make_mmdet_cascade(model)
