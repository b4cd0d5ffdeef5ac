"""Optimizer, schedule and settings of the quick ones: 300 iterations from scratch."""

from detectron2.config import LazyCall as L
from detectron2.solver.build import maybe_add_gradient_clipping

from .optim import optimizer
from .schedule import multi_step
from .train import train

_clip = {"ENABLED": True, "CLIP_TYPE": "norm", "CLIP_VALUE": 10.0, "NORM_TYPE": 2.0}
# The class itself is built: SGD that clips the gradient of each parameter before its step.
optimizer._target_ = L(maybe_add_gradient_clipping)(
    cfg={"SOLVER": {"CLIP_GRADIENTS": _clip}}, optimizer=optimizer._target_
)
optimizer.lr = 0.04
lr_multiplier = multi_step([240, 285], max_iter=300, warmup_iters=50)
train.update(init_checkpoint="", max_iter=300, checkpointer={"period": 100}, eval_period=0, seed=1)
