"""The schedule of a new training, fitted to its data.

A recipe is written for its own data, batch and length. What the user sets is taken as it is; the
other keys of the schedule follow from the recipe by :data:`RULES`, one rule a key.
"""

import logging
from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.utils import comm

from resnest_d2.config.keys import get_key, set_key

from .scaling import check_batch, log_schedule
from .schedule_rules import RULES, SHORT, Training

# Keys in epochs, and those in iterations that they make: set, they leave those nothing.
_MADE_BY = {"SOLVER.MAX_ITER": "SOLVER.EPOCHS", "TEST.EVAL_PERIOD": "TEST.EVAL_EPOCHS"}


def fit_schedule(
    cfg: CfgNode, recipe: CfgNode, *, images: int, processes: int, given: Collection[str]
) -> CfgNode:
    """The config of a new training with the schedule that runs, logged in one line.

    Args:
        cfg: config of the training; it is not changed.
        recipe: config of the shipped files that it is based on, see
            :func:`resnest_d2.config.load_recipe`.
        images: number of images that are trained on.
        processes: number of processes.
        given: keys that the user set, see :func:`resnest_d2.config.given_keys`.

    Returns:
        A copy, frozen if ``cfg`` is. Its REFERENCE_WORLD_SIZE is the number of processes.

    Raises:
        UserError: a batch that the processes cannot share.
    """
    new = cfg.clone()
    new.defrost()
    run = Training(recipe, new, images, processes, given)
    for rule in RULES:
        if not is_given(rule.key, new, given):
            set_key(new, rule.key, rule.value(run))
    if new.SOLVER.REFERENCE_WORLD_SIZE:
        new.SOLVER.REFERENCE_WORLD_SIZE = processes
    check_batch(new, processes)
    if comm.is_main_process():
        log_schedule(new, [rule.key for rule in RULES], images=images, processes=processes)
        _log_frozen_norms(run)
        _log_jitter(run)
    if cfg.is_frozen():
        new.freeze()
    return new


def is_given(key: str, cfg: CfgNode, given: Collection[str]) -> bool:
    """Whether the user set a key of :data:`RULES`, and not the epochs that replace it."""
    made_by = _MADE_BY.get(key)
    return key in given and not (made_by in given and made_by and get_key(cfg, made_by))


def _log_frozen_norms(run: Training) -> None:
    norm, before = (cfg.MODEL.RESNETS.NORM for cfg in (run.cfg, run.recipe))
    if norm == "FrozenBN" != before and "MODEL.RESNETS.NORM" not in run.given:
        logging.getLogger(__name__).info(
            "The backbone's norms are frozen, because a batch has "
            f"{run.cfg.SOLVER.IMS_PER_BATCH} images; MODEL.RESNETS.NORM {before} trains them."
        )


def _log_jitter(run: Training) -> None:
    keys = ("INPUT.AUG.SCALE_JITTER", "INPUT.AUG.COLOR_JITTER")
    left_out = [key for key in keys if get_key(run.recipe, key) and not get_key(run.cfg, key)]
    if left_out := [key for key in left_out if key not in run.given]:
        logging.getLogger(__name__).info(
            f"Left out: {' and '.join(left_out)} of the config, as the training starts from random "
            f"weights and shows {run.shown} images, fewer than {SHORT}; set them to have them."
        )


def warn_of_low_peak(cfg: CfgNode) -> None:
    """Log a warning where the learning rate never reaches BASE_LR."""
    solver = cfg.SOLVER
    end = min([solver.MAX_ITER, *solver.STEPS])
    if solver.WARMUP_ITERS > end and solver.WARMUP_FACTOR < 1:
        logging.getLogger(__name__).warning(
            f"The learning rate never reaches SOLVER.BASE_LR {solver.BASE_LR:g}: the warm-up takes "
            f"{solver.WARMUP_ITERS} iterations, and the "
            f"{'run ends' if end == solver.MAX_ITER else 'first decay is'} at {end}. Set "
            "SOLVER.WARMUP_ITERS lower."
        )
