"""Keeps the results of an earlier run in the same output folder."""

import logging
import os
import shutil


def set_aside(output_dir: str) -> None:
    """Renames the files of an earlier run, so that a new run in its folder does not replace them.

    ``model_best.pth`` becomes ``model_best.old.pth``, and so on; numbered checkpoints are kept.

    Args:
        output_dir: folder of both runs.
    """
    names = ("metrics.json", "best.json", "model_best.pth", "model_final.pth", "last_checkpoint")
    for name in names:
        path = os.path.join(output_dir, name)
        if not os.path.isfile(path) or not os.path.getsize(path):
            continue
        old = "{}.old{}".format(*os.path.splitext(path))
        if name == "metrics.json":  # its writer has already opened it for appending
            shutil.copyfile(path, old)
            os.truncate(path, 0)
        else:
            os.replace(path, old)
        logging.getLogger(__name__).info(f"{path} is of an earlier run, renamed to {old}.")
