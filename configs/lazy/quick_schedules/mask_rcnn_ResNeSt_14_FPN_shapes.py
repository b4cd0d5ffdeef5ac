from ..common.data.shapes import resize
from ..common.models.quick import narrow, set_anchors
from ..common.schedule import multi_step
from .mask_rcnn_ResNeSt_14_FPN_quick import dataloader, model, optimizer, train

narrow(model)
set_anchors(model, [[8, 11], [16, 23], [32, 45], [64, 91], [128, 181]], per_image=32)
model.roi_heads.update(batch_size_per_image=64, positive_fraction=0.5)
resize(dataloader, 160)
train.update(max_iter=430, checkpointer={"period": 215})
lr_multiplier = multi_step([344, 410], max_iter=430, warmup_iters=50)
