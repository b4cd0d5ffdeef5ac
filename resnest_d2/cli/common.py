"""Helpers of the commands: datasets from files, options that set config keys, completion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from resnest_d2.errors import UserError
from resnest_d2.model_zoo import list_configs, models


def complete_config(incomplete: str) -> list[str]:
    """Configs and published detectors that start with the text; the shell completes files."""
    detectors = [model.id for model in models() if not model.is_backbone]
    return [name for name in (*list_configs(), *detectors) if name.startswith(incomplete)]


def dataset(json_file: Path, images: Path) -> list[str]:
    """Entry of DATASETS.COCO, named after file and folder: cells/val.json becomes cells_val."""
    json_file = json_file.absolute()
    name = f"{json_file.parent.name}_{json_file.stem}"
    return [name, str(json_file), str(images.absolute())]


def with_flags(opts: Sequence[str] | None, flags: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Appends the keys set by options of a command to its KEY VALUE pairs.

    Args:
        opts: pairs from the command line.
        flags: option -> key that it sets -> value, for every option that was given.

    Raises:
        UserError: an option and a pair set the same key.
    """
    opts = list(opts or ())
    for flag, keys in flags.items():
        for key in keys:
            if key in opts[::2]:
                raise UserError(f"{flag} and {key} both set {key}; leave one of them out.")
        for key, value in keys.items():
            # Quotes keep a folder named 2024 a string.
            opts += [key, repr(str(value)) if isinstance(value, str | Path) else str(value)]
    return opts
