"""A complete schedule scaled to the images and processes that run it.

A config may be written for another number of processes (SOLVER.REFERENCE_WORLD_SIZE), and may have
its length in epochs (SOLVER.EPOCHS, TEST.EVAL_EPOCHS). :func:`scale_schedule` turns both into the
iterations that run, as detectron2 does. For the same images and processes its result stays as it
is, so that a run's config.yaml can be run again. New trainings get theirs from
:mod:`resnest_d2.engine.schedule`.
"""

import logging
import math
from collections.abc import Callable, Collection, Sequence
from fractions import Fraction
from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.utils import comm

from resnest_d2.config.keys import get_key, set_key
from resnest_d2.errors import UserError


def _rate(value: float, factor: Fraction) -> float:
    return float(value * factor)


def _count(value: int, factor: Fraction) -> int:
    return max(1, round(value * factor)) if value > 0 else value  # 0 is off


def _counts(values: tuple[int, ...], factor: Fraction) -> tuple[int, ...]:
    return tuple(sorted({_count(value, factor) for value in values}))


class Row(NamedTuple):
    """How a key follows the schedule.

    ``processes`` is the power of the number of processes that the key grows with, as in detectron2
    (Goyal et al., https://arxiv.org/abs/1706.02677); ``length`` is whether it keeps its fraction
    of the run where SOLVER.EPOCHS sets another length, or stays.
    """

    key: str
    multiply: Callable
    processes: int
    length: bool


ROWS = (
    Row("SOLVER.IMS_PER_BATCH", _count, 1, False),
    Row("SOLVER.BASE_LR", _rate, 1, False),
    Row("SOLVER.MAX_ITER", _count, -1, True),
    Row("SOLVER.STEPS", _counts, -1, True),
    Row("SOLVER.WARMUP_ITERS", _count, -1, False),
    Row("SOLVER.CHECKPOINT_PERIOD", _count, -1, False),
    Row("TEST.EVAL_PERIOD", _count, -1, False),
)


def scale_schedule(
    cfg: CfgNode, *, images: int, processes: int, given: Collection[str] = ()
) -> CfgNode:
    """The config with the schedule that runs.

    EPOCHS stays beside the MAX_ITER that it makes: with other data, or another number of processes,
    it makes another.

    Args:
        cfg: config of a training; it is not changed.
        images: number of images that are trained on.
        processes: number of processes.
        given: keys that the user has just set; they are not scaled.

    Returns:
        The config itself where it is resolved already, else another, frozen if the given one is.

    Raises:
        UserError: a batch that cannot be shared by the processes.
    """
    new = cfg.clone()
    new.defrost()
    _fit_processes(new, processes, given)
    _fit_epochs(new, images)
    if new == cfg:
        return cfg
    if comm.is_main_process():
        log_schedule(new, [row.key for row in ROWS], images=images, processes=processes)
    if cfg.is_frozen():
        new.freeze()
    return new


def check_batch(cfg: CfgNode, processes: int) -> None:
    """Checks that the processes can share a batch.

    Raises:
        UserError: its number of images is not a multiple of theirs.
    """
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {processes} processes "
            f"(--num-gpus) cannot share; choose a multiple of {processes}."
        )


def log_schedule(cfg: CfgNode, keys: Sequence[str], *, images: int, processes: int) -> None:
    """Logs the schedule that runs in one line, with the values of its keys."""
    values = ", ".join(f"{key} {get_key(cfg, key)}" for key in keys)
    logging.getLogger(__name__).info(
        f"Schedule for {images} images and {processes} process{'es' * (processes > 1)}: an epoch "
        f"is {images / cfg.SOLVER.IMS_PER_BATCH:.1f} iterations; {values}."
    )


def _fit_processes(cfg: CfgNode, processes: int, given: Collection[str]) -> None:
    batch, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference and batch % reference:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch}, which SOLVER.REFERENCE_WORLD_SIZE {reference} does "
            f"not divide; choose a multiple of {reference}, or set REFERENCE_WORLD_SIZE 0 to keep "
            "the batch for any number of processes."
        )
    if reference:
        rows = [(row, row.processes) for row in ROWS if row.key not in given]
        _apply(cfg, rows, Fraction(processes, reference))
        cfg.SOLVER.REFERENCE_WORLD_SIZE = processes
    else:
        check_batch(cfg, processes)


def _fit_epochs(cfg: CfgNode, images: int) -> None:
    one = Fraction(images, cfg.SOLVER.IMS_PER_BATCH)  # iterations of an epoch
    if cfg.SOLVER.EPOCHS:
        length = math.ceil(cfg.SOLVER.EPOCHS * one)
        factor = Fraction(length, cfg.SOLVER.MAX_ITER)
        _apply(cfg, [(row, 1) for row in ROWS if row.length], factor)
    if cfg.TEST.EVAL_EPOCHS:
        cfg.TEST.EVAL_PERIOD = math.ceil(cfg.TEST.EVAL_EPOCHS * one)


def _apply(cfg: CfgNode, rows: list[tuple[Row, int]], factor: Fraction) -> None:
    """Multiply the keys of the rows by powers of a factor."""
    if factor == 1:
        return
    for row, power in rows:
        set_key(cfg, row.key, row.multiply(get_key(cfg, row.key), factor**power))
