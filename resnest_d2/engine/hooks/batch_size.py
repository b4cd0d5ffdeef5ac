"""Watches over the number of images in an iteration where a run is resumed."""

import logging

from detectron2.engine import HookBase
from detectron2.utils import comm


class BatchSize(HookBase):
    """Keeps the number with the checkpoints; a run resumed with another one gets a warning.

    The iterations that are done and MAX_ITER would count different things, as happens where
    --num-gpus changes and SOLVER.REFERENCE_WORLD_SIZE scales the batch.
    """

    def __init__(self, images: int):
        """
        Args:
            images: in an iteration of this run, of all processes.
        """
        self.images = images

    def state_dict(self) -> dict:
        """The number."""
        return {"images": self.images}

    def load_state_dict(self, state: dict) -> None:
        """Compare with the number of the run that is resumed."""
        before = state["images"]
        if before != self.images and comm.is_main_process():
            logging.getLogger(__name__).warning(
                f"The {self.trainer.iter + 1} iterations of the checkpoint have {before} images "
                f"each, and SOLVER.IMS_PER_BATCH is {self.images} now: the length of the run and "
                "its learning rate are of other iterations. To go on as before, resume the run's "
                f"config.yaml with SOLVER.REFERENCE_WORLD_SIZE 0, or set IMS_PER_BATCH {before}."
            )
