"""Stops a training whose validation AP no longer improves."""

import logging
from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from ..console import SHOWN
from .best_checkpoint import BestCheckpoint


class EarlyStop(BaseException):
    """Ends the trainer's loop; a BaseException, so that it is not logged as a failure."""


class EarlyStopping(HookBase):
    """Stops after ``patience`` evaluations that were not better than :class:`BestCheckpoint`'s.

    It must follow that hook, whose file keeps the count when a run is resumed.
    """

    def __init__(
        self,
        best: BestCheckpoint | None,
        *,
        patience: int,
        period: int,
        finish: Callable[[], None] = lambda: None,
    ):
        """
        Args:
            best: hook that tracks the best evaluation; None on all but the main process.
            patience: number of evaluations without improvement.
            period: iterations between evaluations.
            finish: called on all processes before the training ends.
        """
        self.finish = finish
        self.best = best
        self.patience = patience
        self.period = period

    def after_step(self) -> None:
        """Stops the training if the patience is used up.

        Raises:
            EarlyStop: on all processes.
        """
        done = self.trainer.iter + 1
        if done % self.period or done == self.trainer.max_iter:
            return
        since = 0
        if self.best is not None and self.best.iteration is not None:
            since = (done - self.best.iteration - 1) // self.period
        if comm.all_gather(since)[0] < self.patience:  # only the main process knows it
            return
        if self.best is not None:
            logging.getLogger(__name__).info(
                f"Stopped early after {done} iterations: the last {since} evaluations were not "
                f"better than {self.best.metric} {self.best.best:.2f} at iteration "
                f"{self.best.iteration}, saved as {self.best.weights_file}.",
                extra=SHOWN,
            )
        self.finish()
        raise EarlyStop


def build_early_stopping(
    cfg: CfgNode, best: BestCheckpoint | None, finish: Callable[[], None]
) -> EarlyStopping | None:
    """Builds the hook; returns None without SOLVER.EARLY_STOPPING.

    Args:
        cfg: config of the training.
        best: see :class:`EarlyStopping`.
        finish: see :class:`EarlyStopping`.
    """
    keys = cfg.SOLVER.EARLY_STOPPING
    if not keys.ENABLED:
        return None
    period = cfg.TEST.EVAL_PERIOD
    return EarlyStopping(best, patience=keys.PATIENCE, period=period, finish=finish)
