from ..common.data.shapes import resize
from ..common.schedule import multi_step
from .mask_rcnn_ResNeSt_14_FPN_quick import dataloader, model, optimizer, train

model.backbone.bottom_up.update(res2_channels=128, width=32)
model.backbone.out_channels = 64
model.roi_heads.update(batch_size_per_image=32, positive_fraction=0.5)
model.roi_heads.mask_head.conv_dims = [64, 64, 64]
resize(dataloader, 160)
train.update(max_iter=700, checkpointer={"period": 350})
lr_multiplier = multi_step([560, 660], max_iter=700, warmup_iters=50)
