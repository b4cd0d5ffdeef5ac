"""The length of a training, and the time between evaluations, in passes over the images."""

import logging
import math

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.utils import comm

from .guards import load_training_images


def with_epochs(cfg: CfgNode) -> CfgNode:
    """SOLVER.EPOCHS and TEST.EVAL_EPOCHS turned into iterations.

    Args:
        cfg: config whose data sets are registered; it is not changed.

    Returns:
        The config itself where neither key is set. Else another, scaled to the number of processes,
        with MAX_ITER, STEPS (at the same fractions of the run) and EVAL_PERIOD to match.

    Raises:
        ValueError: as :func:`load_training_images`.
    """
    epochs, eval_epochs = cfg.SOLVER.EPOCHS, cfg.TEST.EVAL_EPOCHS
    if not epochs and not eval_epochs:
        return cfg
    frozen = cfg.is_frozen()
    cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size()).clone()
    cfg.defrost()
    images = len(load_training_images(cfg))
    one = images / cfg.SOLVER.IMS_PER_BATCH  # iterations of an epoch
    if epochs:
        length = math.ceil(epochs * one)
        factor = length / cfg.SOLVER.MAX_ITER
        cfg.SOLVER.STEPS = tuple(sorted({round(step * factor) for step in cfg.SOLVER.STEPS}))
        cfg.SOLVER.MAX_ITER = length
    if eval_epochs:
        cfg.TEST.EVAL_PERIOD = math.ceil(eval_epochs * one)
    if comm.is_main_process():
        logging.getLogger(__name__).info(
            f"An epoch is {one:.1f} iterations ({images} images, SOLVER.IMS_PER_BATCH "
            f"{cfg.SOLVER.IMS_PER_BATCH}): MAX_ITER {cfg.SOLVER.MAX_ITER}, STEPS "
            f"{cfg.SOLVER.STEPS}, TEST.EVAL_PERIOD {cfg.TEST.EVAL_PERIOD}."
        )
    if frozen:
        cfg.freeze()
    return cfg
