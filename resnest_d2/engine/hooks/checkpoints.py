"""Saves checkpoints of a training, by iterations and by time, and deletes old ones."""

import re
import time
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from resnest_d2.checkpoint import ReportingCheckpointer

_NUMBERED = re.compile(r"model_(\d{7})\.pth")


class Checkpoints(HookBase):
    """Saves ``model_0000099.pth`` and so on, and ``model_final.pth`` at the end."""

    def __init__(
        self, checkpointer: ReportingCheckpointer, *, period: int, minutes: float, keep: int
    ):
        """
        Args:
            checkpointer: saves them, on the main process.
            period: number of iterations between two checkpoints.
            minutes: a checkpoint is saved if the last one is older than this; 0 for never.
            keep: number of numbered checkpoints that are kept; 0 for all.
        """
        self.checkpointer = checkpointer
        self.period, self.minutes, self.keep = period, minutes, keep
        self._saved = time.monotonic()

    def before_train(self) -> None:
        """Starts the clock."""
        self._saved = time.monotonic()

    def after_step(self) -> None:
        """Saves, if it is time; before the evaluations, which could fail."""
        iteration = self.trainer.iter
        if iteration + 1 >= self.trainer.max_iter:
            self.checkpointer.save("model_final", iteration=iteration)
            return
        late = self.minutes and time.monotonic() - self._saved >= 60 * self.minutes
        if (iteration + 1) % self.period == 0 or late:
            self.checkpointer.save(f"model_{iteration:07d}", iteration=iteration)
            self._delete_old()
            self._saved = time.monotonic()

    def _delete_old(self) -> None:
        # By name, because a resumed run also deletes those from before.
        if self.keep:
            files = Path(self.checkpointer.save_dir).glob("model_*.pth")
            for path in sorted(p for p in files if _NUMBERED.fullmatch(p.name))[: -self.keep]:
                path.unlink()


def build_checkpoints(cfg: CfgNode, checkpointer: ReportingCheckpointer) -> Checkpoints | None:
    """The hook as SOLVER says, on the main process; None on others."""
    if not comm.is_main_process():
        return None
    return Checkpoints(
        checkpointer,
        period=cfg.SOLVER.CHECKPOINT_PERIOD,
        minutes=cfg.SOLVER.CHECKPOINT_MINUTES,
        keep=cfg.SOLVER.CHECKPOINTS_TO_KEEP,
    )
