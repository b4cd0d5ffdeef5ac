from .cascade_mask_rcnn_ResNeSt_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

model.backbone.bottom_up.depth = 101
train.init_checkpoint = "resnest://imagenet/resnest101_detectron"
