from ..common.data.shapes import resize
from ..common.schedule import multi_step
from .mask_rcnn_ResNeSt_14_FPN_quick import dataloader, model, optimizer, train

model.backbone.bottom_up.update(res2_channels=128, width=32)
model.backbone.out_channels = 64
model.roi_heads.update(batch_size_per_image=64, positive_fraction=0.5)
model.roi_heads.box_head.update(conv_dims=[64, 64], conv_norm="BN")
model.roi_heads.mask_head.conv_dims = [64, 64, 64]
resize(dataloader, 160)
train.update(max_iter=430, checkpointer={"period": 215})
lr_multiplier = multi_step([344, 410], max_iter=430, warmup_iters=50)
