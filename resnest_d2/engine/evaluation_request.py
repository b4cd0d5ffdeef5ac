"""What an evaluation is asked for in words, as arguments of a run.

The command line and :func:`resnest_d2.evaluate` build it; ``KEY VALUE`` pairs come on top.
"""

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnest_d2.config import given_keys, load_config
from resnest_d2.config.pairs import with_keys
from resnest_d2.data.entries import Paths, dataset_entry
from resnest_d2.data.registration import learn_classes
from resnest_d2.errors import MissingFileError
from resnest_d2.model_zoo import find_detector

from .logs import held_logs
from .run import run_arguments


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What to evaluate, and on what; None is for the model's own.

    Attributes:
        model: a run, a checkpoint in it, a published detector, or a config with ``weights``.
        data: COCO annotations, and the folder of their images, "" or left out to look for it.
        weights: path of a checkpoint.
        output: folder for the results; None for RUN/eval or the config's OUTPUT_DIR.
        opts: ``[key, value, ...]``.
    """

    model: str
    data: Paths | None = None
    weights: str | None = None
    output: str | os.PathLike | None = None
    opts: Sequence = ()

    @held_logs()
    def arguments(self, spelled: Callable[[str], str] = str) -> argparse.Namespace:
        """As :meth:`Training.arguments`.

        Raises:
            MissingFileError: the run has no checkpoint, or there is no such config or file.
            UserError: an argument and a pair set the same key, or data of another format.
        """
        path, found, run = find_detector(self.model)
        flags: dict[str, dict[str, Any]] = {}
        pairs = dict(zip(self.opts[::2], self.opts[1::2], strict=False))
        if self.data:
            entry = dataset_entry(self.data)
            keys = {"COCO": [entry], "TRAIN": (), "TEST": (entry[0],)}
            flags["data"] = {f"DATASETS.{key}": value for key, value in keys.items()}
            given = self.weights or pairs.get("MODEL.WEIGHTS")
            source = path if run or not given else _config_beside(given)
            if not pairs.get("DATASETS.CLASSES"):
                own = self.opts if source == path else ()
                known = _classes(source, own, trained=bool(run or given or found))
                flags["data"] |= {key: v for key, v in known.items() if not pairs.get(key)}
        if run and not (found or self.weights or "MODEL.WEIGHTS" in pairs):
            raise MissingFileError(
                f"{self.model} has no checkpoint; give one with {spelled('weights')}, or resume "
                "the run with `resnest-d2 train --resume`."
            )
        if self.output:
            flags["output"] = {"OUTPUT_DIR": Path(self.output)}
        elif run and "OUTPUT_DIR" not in pairs:
            flags["output"] = {"OUTPUT_DIR": Path(run).absolute() / "eval"}
        if self.weights or (found and "MODEL.WEIGHTS" not in pairs):
            flags["weights"] = {"MODEL.WEIGHTS": self.weights or found}
        args = run_arguments(path, with_keys(self.opts, flags, spelled))
        args.eval_only = True
        return args


def _config_beside(weights: str) -> str | None:
    """config.yaml of the run that a checkpoint is in."""
    path = Path(weights).parent / "config.yaml"
    return str(path) if path.is_file() else None


def _classes(config: str | None, opts: Sequence, *, trained: bool) -> dict[str, Any]:
    """Keys that give a detector's classes, which the categories of the data are matched to.

    Args:
        config: config that the detector was trained with, if it is known.
        opts: KEY VALUE pairs to apply to it.
        trained: whether there are weights; otherwise the config's own are the only ones.
    """
    if config is None:
        logging.getLogger(__name__).warning(
            "The names of the detector's classes are unknown: the categories of the data are taken "
            "as its classes, in the order of their ids. DATASETS.CLASSES sets the names."
        )
        return {}
    cfg = load_config(config, opts)
    if not (trained or cfg.MODEL.WEIGHTS):
        return {}
    learn_classes(cfg, given=given_keys(config, opts))
    keys = {"CLASSES": list(cfg.DATASETS.CLASSES), "CATEGORY_IDS": list(cfg.DATASETS.CATEGORY_IDS)}
    return {f"DATASETS.{key}": value for key, value in keys.items() if value}
