from ..common.data.shapes import dataloader
from ..common.models.quick import add_quick_masks, model
from ..common.quick import lr_multiplier, optimizer, train

add_quick_masks(model)
dataloader.train.mapper.use_instance_mask = True
