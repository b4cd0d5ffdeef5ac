"""What names a detector: a published one, a config, a run's folder or a checkpoint in it."""

import os
from typing import NamedTuple

from resnest_d2.config import find_config
from resnest_d2.errors import MissingFileError

from .table import find_model
from .zoo import get_config

RUN_WEIGHTS = ("model_best.pth", "model_final.pth")  # the first that is there
_CONFIGS, _CHECKPOINTS = (".yaml", ".yml"), (".pth", ".safetensors")


class Detector(NamedTuple):
    """Path of its config; its weights, None if there are none yet; folder of the run it is of."""

    config: str
    weights: str | None = None
    run: str | None = None


def find_detector(name: str) -> Detector:
    """What a name stands for.

    Args:
        name: id or alias of a published detector, which the name of its config is too; path or
            name of a config; folder of a run, whose best or else last checkpoint is taken; or a
            checkpoint in it.

    Raises:
        FileNotFoundError: no such config, or a folder that is no run's.
        ValueError: no detector of that name.
    """
    if os.path.isdir(name):
        return Detector(*_find_run(name), run=name)
    if os.path.isfile(name):
        if not name.endswith(_CHECKPOINTS):
            return Detector(name)
        folder = os.path.dirname(name) or "."
        return Detector(_find_run(folder)[0], name, run=folder)
    try:
        model = find_model(name)
    except ValueError:
        if name.endswith(_CONFIGS):
            return Detector(find_config(name))
        raise
    weights = get_config(model.id, trained=True).MODEL.WEIGHTS  # refuses a backbone
    return Detector(find_config(model.config), weights)


def _find_run(folder: str) -> tuple[str, str | None]:
    """Config file of a run, and the checkpoint to take, if there is one."""
    config = os.path.join(folder, "config.yaml")
    if not os.path.isfile(config):
        raise MissingFileError(
            f"{folder} is a folder without config.yaml; give the OUTPUT_DIR of a run, a config "
            "file, or a name that `resnest-d2 list` shows."
        )
    names = list(RUN_WEIGHTS)
    last = os.path.join(folder, "last_checkpoint")
    if os.path.isfile(last):  # of a run that was stopped
        with open(last) as file:
            names.append(file.read().strip())
    files = (os.path.join(folder, name) for name in names)
    return config, next(filter(os.path.isfile, files), None)
