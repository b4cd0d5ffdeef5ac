from ..common.data.shapes import dataloader, resize
from ..common.models.quick import model
from ..common.quick import lr_multiplier, optimizer, train

model.proposal_generator.anchor_generator.sizes = [[16], [32], [64], [128], [256]]
resize(dataloader, 240)
