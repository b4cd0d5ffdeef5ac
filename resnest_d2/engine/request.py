"""What a training is asked for in words, as arguments of a run.

The command line and :func:`resnest_d2.train` build it; ``KEY VALUE`` pairs come on top.
"""

import argparse
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnest_d2.config.pairs import with_keys
from resnest_d2.data.entries import Paths, dataset_entry
from resnest_d2.errors import UserError
from resnest_d2.model_zoo import find_detector, find_weights

from .logs import held_logs
from .run import run_arguments


@dataclass(frozen=True, kw_only=True)
class Training:
    """What to train, on what, and for how long; None is for what suits the data.

    Attributes:
        model: a config, a published detector to fine-tune, or the run to resume.
        data: COCO annotations, and the folder of their images, "" or left out to look for it.
        val: the same to evaluate on.
        output: folder of the run.
        weights: initial weights: a checkpoint, the best of a run, or a published detector's.
        epochs: length.
        batch_size: images per iteration, over all processes.
        lr: learning rate.
        image_size: shorter side of the images in pixels.
        anchors: "auto" fits them to the boxes.
        resume: whether to resume the run that ``model`` is.
        opts: ``[key, value, ...]``.
    """

    model: str
    data: Paths | None = None
    val: Paths | None = None
    output: str | os.PathLike | None = None
    weights: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    image_size: int | None = None
    anchors: str | None = None
    resume: bool = False
    opts: Sequence = ()

    @held_logs()
    def arguments(self, spelled: Callable[[str], str] = str) -> argparse.Namespace:
        """Arguments of :func:`resnest_d2.engine.launch`.

        Args:
            spelled: how the user writes the name of an attribute, for the errors.

        Raises:
            MissingFileError: there is no such config, run or file.
            UserError: what contradicts each other, or the data is not COCO's format.
        """
        path, start, run = find_detector(self.model)
        if run and not self.resume:
            raise UserError(
                f"{run} is a run: give {spelled('resume')} to continue it, or a config to start "
                "another."
            )
        if run and run != self.model:
            raise UserError(
                f"{spelled('resume')} continues from the last checkpoint of a run: give its "
                f"folder, {run}."
            )
        if run or self.model.endswith((".yaml", ".yml")):  # keep the config's own weights
            start = None
        flags = {"data": self._data_keys(spelled)}
        if self.output or run:
            flags["output"] = {"OUTPUT_DIR": Path(self.output or Path(self.model).absolute())}
        if self.weights:
            flags["weights"] = {"MODEL.WEIGHTS": find_weights(self.weights)}
        elif start and "MODEL.WEIGHTS" not in self.opts:
            flags["weights"] = {"MODEL.WEIGHTS": start}
        for name, key in _NUMBERS.items():
            if (value := getattr(self, name)) is not None:
                if isinstance(value, (int, float)) and not 0 < value < math.inf:
                    raise UserError(f"{spelled(name)} is {value}; choose a number above 0.")
                flags[name] = {key: value}
        if self.image_size is not None:
            flags["image_size"] = _size_keys(self.image_size, spelled)
        if self.anchors is not None:
            flags["anchors"] = _anchor_keys(self.anchors, self.resume, spelled)
        args = run_arguments(path, with_keys(self.opts, flags, spelled))
        args.resume = self.resume
        return args

    def _data_keys(self, spelled: Callable[[str], str]) -> dict[str, object]:
        if self.val and not self.data:
            raise UserError(
                f"{spelled('val')} is given without {spelled('data')}; the data to train on is "
                "missing."
            )
        if not self.data:
            return {}
        sets = [dataset_entry(self.data)]
        if self.val:
            sets.append(dataset_entry(self.val, before=sets[0][2]))
            if sets[0][0] == sets[1][0] and sets[0] != sets[1]:  # train/instances, val/instances
                sets[0][0] += "_train"
                sets[1][0] += "_val"
        else:
            logging.getLogger(__name__).warning(
                f"No {spelled('val')}: there is no evaluation; the result is model_final.pth."
            )
        names = [entry[0] for entry in sets]
        keys = {"COCO": sets, "TRAIN": tuple(names[:1]), "TEST": tuple(names[1:])}
        return {f"DATASETS.{key}": value for key, value in keys.items()}


_NUMBERS = {"epochs": "SOLVER.EPOCHS", "batch_size": "SOLVER.IMS_PER_BATCH", "lr": "SOLVER.BASE_LR"}


def _size_keys(size: int, spelled: Callable[[str], str]) -> dict[str, object]:
    """Keys of images with the given shorter side; the longer one is at most 5/3 of it, as for COCO.

    Raises:
        UserError: a size below 1.
    """
    if size < 1:
        raise UserError(f"{spelled('image_size')} is {size}; choose 1 or more pixels.")
    longest = max(size, 5 * size // 3)
    keys = {"MIN_SIZE_TRAIN": (size,), "MIN_SIZE_TRAIN_SAMPLING": "choice", "MIN_SIZE_TEST": size}
    keys |= {"MAX_SIZE_TRAIN": longest, "MAX_SIZE_TEST": longest}
    return {f"INPUT.{key}": value for key, value in keys.items()}


def _anchor_keys(anchors: str, resume: bool, spelled: Callable[[str], str]) -> dict[str, object]:
    """Key of anchors that are fitted to the boxes.

    Raises:
        UserError: another word than auto, or a run that is resumed.
    """
    if anchors != "auto":
        raise UserError(
            f"{spelled('anchors')} is {anchors!r}; give auto, or sizes as "
            "MODEL.ANCHOR_GENERATOR.SIZES."
        )
    if resume:
        raise UserError(
            f"{spelled('anchors')} and {spelled('resume')} exclude each other: a run keeps its "
            "anchors."
        )
    return {"MODEL.ANCHOR_GENERATOR.AUTO": True}
