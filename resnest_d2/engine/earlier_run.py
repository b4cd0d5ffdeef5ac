"""Keeps two runs in one folder apart.

Programs refuse a folder that holds a run (:func:`check_folder`). A :class:`Trainer` in a program of
the user's own moves the earlier run away instead (:func:`set_aside`).
"""

import itertools
import logging
import os
import shutil
from pathlib import Path

from resnest_d2.errors import UserError
from resnest_d2.outputs import free_folder

# What tells a run: a folder with a config.yaml or a log alone has trained nothing.
_SIGNS = ("metrics.json", "last_checkpoint", "model_*.pth")
_RESULTS = (
    "best.json",
    "results.json",
    "weights.json",
    "report.html",
    "threshold.json",
    "int8.*",
    "nonfinite_batch.pth",
    "inference*",
)
_WRITTEN_BEFORE = ("config.yaml", "environment.txt", "log.txt*", "events.out.tfevents.*")


def holds_run(output_dir: str) -> bool:
    """Whether a folder holds a run that has trained."""
    return any(path.stat().st_size for path in _found(output_dir, _SIGNS))


def check_folder(output_dir: str, *, overwrite: bool = False) -> None:
    """Checks that a new run does not write into the folder of another.

    Args:
        output_dir: folder of the new run.
        overwrite: delete the files of the other run.

    Raises:
        UserError: the folder holds a run; the message gives the choices.
    """
    if not holds_run(output_dir):
        return
    if not overwrite:
        raise UserError(
            f"{output_dir} holds a run. Continue it with --resume, choose another folder "
            f"({free_folder(output_dir.rstrip('/'))} is free), or replace it with --overwrite."
        )
    for path in _found(output_dir, (*_SIGNS, *_RESULTS, *_WRITTEN_BEFORE)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def set_aside(output_dir: str) -> None:
    """Moves an earlier run's results and checkpoints into a folder of their own, ``earlier_1``.

    Further ones go to ``earlier_2`` and so on. The log, config.yaml and TensorBoard's files stay,
    because the new run has already written them.

    Args:
        output_dir: folder of both runs.
    """
    if not holds_run(output_dir):
        return
    number = next(n for n in itertools.count(1) if not Path(output_dir, f"earlier_{n}").exists())
    folder = Path(output_dir, f"earlier_{number}")
    folder.mkdir()
    for path in _found(output_dir, (*_SIGNS, *_RESULTS)):
        if path.name == "metrics.json":  # its writer has it open, at its end
            shutil.copyfile(path, folder / path.name)
            os.truncate(path, 0)
        else:
            os.replace(path, folder / path.name)
    logging.getLogger(__name__).info(f"{output_dir} holds an earlier run: it is in {folder} now.")


def _found(output_dir: str, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in Path(output_dir).glob(pattern)})
