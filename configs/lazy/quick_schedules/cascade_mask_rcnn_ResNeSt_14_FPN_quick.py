from ..common.models.variants import make_cascade
from .mask_rcnn_ResNeSt_14_FPN_quick import dataloader, lr_multiplier, model, optimizer, train

make_cascade(model, masks_per_stage=True)
