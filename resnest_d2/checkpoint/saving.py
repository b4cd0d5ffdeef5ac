"""Checkpointer that writes atomically: a full disk or a signal leaves the last checkpoint whole."""

import os
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer

from resnest_d2.files import whole_file
from resnest_d2.signals import signals_wait


class SavingCheckpointer(DetectionCheckpointer):
    """DetectionCheckpointer that writes atomically and refuses weights that are not finite."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Saves the model and the state of the training, and tags the file as last checkpoint.

        Args:
            name: name of the file in ``save_dir``, without ``.pth``.
            **kwargs: other values to save.

        Raises:
            FloatingPointError, WriteError: see :meth:`save_weights`.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        with signals_wait():
            state = {key: part.state_dict() for key, part in self.checkpointables.items()}
            self.save_weights(os.path.join(self.save_dir, f"{name}.pth"), **state, **kwargs)
            self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, path: str, **kwargs: Any) -> None:
        """Saves the model.

        Args:
            path: path of the file.
            **kwargs: other values to save.

        Raises:
            FloatingPointError: weights or running statistics are infinite or NaN.
            WriteError: the disk is full or the folder does not exist.
        """
        weights = self.model.state_dict()
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise FloatingPointError(f"{name} became infinite or NaN, and was not saved.")
        self.logger.info(f"Saving checkpoint to {path}")
        with signals_wait(), whole_file(path) as file:
            torch.save({"model": weights, **kwargs}, file)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Writes the name of the last checkpoint to ``last_checkpoint``."""
        with whole_file(os.path.join(self.save_dir, "last_checkpoint"), "w") as file:
            file.write(last_filename_basename)
