"""Checks that a resumed run has the same number of images per iteration."""

import logging

from detectron2.engine import HookBase
from detectron2.utils import comm


class BatchSize(HookBase):
    """Saves the batch size with the checkpoints; logs a warning if a resumed run has another one.

    The iterations done and MAX_ITER would then count different batches. This happens if --num-gpus
    changes and SOLVER.REFERENCE_WORLD_SIZE scales the batch.
    """

    def __init__(self, images: int):
        """
        Args:
            images: images per iteration of this run, over all processes.
        """
        self.images = images

    def state_dict(self) -> dict:
        """Returns the number of images per iteration."""
        return {"images": self.images}

    def load_state_dict(self, state: dict) -> None:
        """Compares with the batch size of the run that is resumed."""
        before = state["images"]
        if before != self.images and comm.is_main_process():
            logging.getLogger(__name__).warning(
                f"The {self.trainer.iter + 1} iterations of the checkpoint have {before} images "
                f"each, but SOLVER.IMS_PER_BATCH is now {self.images}, so that the length of the "
                "run and its learning rate no longer fit. To continue as before, resume the run's "
                f"config.yaml with SOLVER.REFERENCE_WORLD_SIZE 0, or set IMS_PER_BATCH {before}."
            )
