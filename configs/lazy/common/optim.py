"""SGD of 8 GPUs x 2 images; norms decay like every other parameter."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver.build import get_default_optimizer_params

optimizer = L(torch.optim.SGD)(
    params=L(get_default_optimizer_params)(  # its model is set by the training program
        base_lr="${..lr}", weight_decay_norm="${..weight_decay}"
    ),
    lr=0.02,
    momentum=0.9,
    weight_decay=0.0001,
    foreach=True,
)
