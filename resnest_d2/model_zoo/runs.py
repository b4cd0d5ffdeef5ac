"""Detectors by name: a published detector, a config, a run's folder or a checkpoint in it."""

import difflib
import os
from typing import NamedTuple

from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.files import read_text
from resnest_d2.shipped import config_named, find_config, list_configs

from .table import find_model, models
from .zoo import get_config

RUN_WEIGHTS = ("model_best.pth", "model_final.pth")  # the first that exists
_CONFIGS, _CHECKPOINTS = (".yaml", ".yml"), (".pth", ".safetensors")


class Detector(NamedTuple):
    """A detector's config file, weights (None if there are none), and the run's folder, if any."""

    config: str
    weights: str | None = None
    run: str | None = None


def find_detector(name: str) -> Detector:
    """Finds a detector by name.

    Args:
        name: id or alias of a published detector, including the name of its config; path or name
            of a config, also without .yaml; folder of a run, whose best or else last checkpoint is
            used; or a checkpoint in it.

    Raises:
        MissingFileError: there is no such config, or the folder is not a run's.
        UserError: there is no detector of that name, or the file is of another kind.
    """
    if os.path.isdir(name):
        return Detector(*_find_run(name), run=name)
    if os.path.isfile(name):
        if name.endswith(_CONFIGS):
            return Detector(name)
        if not name.endswith(_CHECKPOINTS):
            raise UserError(
                f"{name} is neither a config ({', '.join(_CONFIGS)}) nor a checkpoint "
                f"({', '.join(_CHECKPOINTS)}) in a run's folder."
            )
        folder = os.path.dirname(name) or "."
        if not os.path.isfile(os.path.join(folder, "config.yaml")):
            raise MissingFileError(
                f"There is no config.yaml beside the checkpoint {name}; give its config, and the "
                "checkpoint as weights."
            )
        return Detector(_find_run(folder)[0], name, run=folder)
    try:
        model = find_model(name)
    except UserError:
        if name.endswith(_CONFIGS) or config_named(name):
            return Detector(find_config(name))
        raise UserError(
            f"There is no detector, config or run {name!r}; close names: "
            f"{', '.join(_close(name))}. `resnest-d2 list` shows all."
        ) from None
    weights = get_config(model.id, trained=True).MODEL.WEIGHTS  # refuses a backbone
    return Detector(find_config(model.config), weights)


def _close(name: str) -> list[str]:
    """Published detectors and configs with similar names."""
    ids = [model.id for model in models() if not model.is_backbone]
    stems = {os.path.basename(c).removesuffix(".yaml"): c for c in list_configs()}
    known = [*ids, *stems, *stems.values()]
    close = difflib.get_close_matches(name, known, n=4, cutoff=0.4) or ids[:3]
    return list(dict.fromkeys(stems.get(c, c) for c in close))[:3]


def find_weights(name: str) -> str:
    """Address of a checkpoint to start from.

    Args:
        name: folder of a run, whose best or else last checkpoint it is; a published detector; or
            a file or address, which is returned as it is.

    Raises:
        MissingFileError: the run has no checkpoint, or the folder is not a run's.
        UserError: there is no detector of that name.
    """
    if os.path.isdir(name):
        weights = _find_run(name)[1]
        if not weights:
            raise MissingFileError(f"{name} has no checkpoint to start from.")
        return weights
    if os.path.isfile(name) or name.endswith(_CHECKPOINTS) or "://" in name:
        return name
    return find_model(name).path


def _find_run(folder: str) -> tuple[str, str | None]:
    """Config file of a run and the checkpoint to use, if there is one."""
    config = os.path.join(folder, "config.yaml")
    if not os.path.isfile(config):
        raise MissingFileError(
            f"{folder} is a folder without config.yaml; give the OUTPUT_DIR of a run, a config "
            "file, or a name that `resnest-d2 list` shows."
        )
    names = list(RUN_WEIGHTS)
    last = os.path.join(folder, "last_checkpoint")
    if os.path.isfile(last):  # of a run that was stopped
        names.append(read_text(last).strip())
    files = (os.path.join(folder, name) for name in names)
    return config, next(filter(os.path.isfile, files), None)
