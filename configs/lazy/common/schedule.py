"""Learning rate: a linear warm-up, then a tenth at each step.

A multiplier is relative to ``train.max_iter``: with another one, steps and warm-up move with it.
"""

from collections.abc import Sequence

from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler
from omegaconf import DictConfig


def multi_step(steps: Sequence[int], *, max_iter: int, warmup_iters: int) -> DictConfig:
    """Two steps in a training of ``max_iter`` iterations."""
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[1.0, 0.1, 0.01], milestones=list(steps), num_updates=max_iter
        ),
        warmup_factor=0.001,
        warmup_length=warmup_iters / max_iter,
    )


# mmdetection's 12 epochs of 7,330 iterations; of its 500 of warm-up the last has the whole rate
lr_multiplier = multi_step([58640, 80630], max_iter=87960, warmup_iters=499)
