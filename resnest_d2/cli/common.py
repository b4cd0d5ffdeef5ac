"""What the commands share: a detector by config, name or run, data by its files, completion."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from resnest_d2.model_zoo import (
    find_config,
    find_model,
    find_run,
    get_config,
    list_configs,
    list_models,
    models,
)


def complete_config(incomplete: str) -> list[str]:
    """Configs and published detectors that begin so; the shell completes files itself."""
    detectors = [model.id for model in models() if not model.is_backbone]
    return [name for name in (*list_configs(), *detectors) if name.startswith(incomplete)]


def complete_model(incomplete: str) -> list[str]:
    """Published detectors and backbones that begin so."""
    return [name for name in list_models() if name.startswith(incomplete)]


def config_and_weights(name: str) -> tuple[str, str]:
    """The config file that a name stands for, and the weights that belong to it.

    Args:
        name: a config file or the name of one, a published detector, or the folder of a run.

    Returns:
        Path of the config, and what MODEL.WEIGHTS should be: a published detector's weights, the
        best or else the last checkpoint of a run; "" for a config, which has its own.

    Raises:
        FileNotFoundError: no such config, or a folder that is no run's.
        ValueError: no detector of that name.
    """
    if os.path.isdir(name):
        path, checkpoint = find_run(name)
        return path, checkpoint or ""
    if os.path.isfile(name) or name.endswith((".yaml", ".yml")):
        return find_config(name), ""
    weights = get_config(name, trained=True).MODEL.WEIGHTS
    return find_config(find_model(name).config), weights


def dataset(json_file: Path, images: Path) -> list[str]:
    """An entry of DATASETS.COCO, named after the file and its folder: cells/val.json, cells_val."""
    json_file = json_file.absolute()
    name = f"{json_file.parent.name}_{json_file.stem}"
    return [name, str(json_file), str(images.absolute())]


def with_flags(opts: Sequence[str] | None, flags: Mapping[str, Mapping[str, object]]) -> list[str]:
    """KEY VALUE pairs, and those that options of the command stand for.

    Args:
        opts: pairs from the command line.
        flags: option -> keys that it sets -> their values; options that were not given left out.

    Raises:
        ValueError: an option and a pair set the same key.
    """
    opts = list(opts or ())
    for flag, keys in flags.items():
        for key in keys:
            if key in opts[::2]:
                raise ValueError(f"{flag} and {key} both set {key}; leave one of them out.")
        opts += [str(part) for pair in keys.items() for part in pair]
    return opts
