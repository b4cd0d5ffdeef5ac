"""Checkpoints written whole or not at all: a full disk leaves what was there before."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import IO, Any

import torch
from detectron2.checkpoint import DetectionCheckpointer


class WriteError(OSError):
    """A file could not be written; what stood there before is unharmed."""


@contextlib.contextmanager
def whole_file(path: str, mode: str = "wb") -> Iterator[IO]:
    """A file that takes its place only when it is complete and on the disk.

    Raises:
        WriteError: naming the disk's free space; no part of the new file is left.
    """
    partial = path + ".partial"
    try:
        with open(partial, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.remove(partial)
        # torch.save makes a RuntimeError of its own out of a failing write.
        if not isinstance(error, OSError | RuntimeError):
            raise
        folder = os.path.dirname(path) or "."
        free = shutil.disk_usage(folder).free / 2**20 if os.path.isdir(folder) else 0
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise WriteError(
            f"{path} cannot be written ({reason}); its disk has {free:.1f} MB free. Free some, or "
            "write to another disk (OUTPUT_DIR, --output). Earlier checkpoints are unharmed; "
            "--resume goes on from the last one."
        ) from error


class SavingCheckpointer(DetectionCheckpointer):
    """detectron2's checkpointer, whose files are whole and whose weights are finite."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write the model and the state of the training, and note it as the last checkpoint.

        Args:
            name: of the file in ``save_dir``, without ``.pth``.
            **kwargs: more to be saved.

        Raises:
            FloatingPointError, WriteError: as :meth:`save_weights`.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        state = {key: part.state_dict() for key, part in self.checkpointables.items()}
        self.save_weights(os.path.join(self.save_dir, f"{name}.pth"), **state, **kwargs)
        self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, path: str, **kwargs: Any) -> None:
        """Write the model.

        Args:
            path: of the file.
            **kwargs: more to be saved.

        Raises:
            FloatingPointError: weights or running statistics that are infinite or NaN.
            WriteError: a full disk, a folder that is gone.
        """
        weights = self.model.state_dict()
        for name, tensor in weights.items():
            if tensor.is_floating_point() and not tensor.isfinite().all():
                raise FloatingPointError(f"{name} became infinite or NaN, and was not saved.")
        self.logger.info(f"Saving checkpoint to {path}")
        with whole_file(path) as file:
            torch.save({"model": weights, **kwargs}, file)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Note the name of the last checkpoint."""
        with whole_file(os.path.join(self.save_dir, "last_checkpoint"), "w") as file:
            file.write(last_filename_basename)
