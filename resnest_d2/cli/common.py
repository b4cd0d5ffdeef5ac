"""What the commands share: data by its files, options that set keys, completion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from resnest_d2.errors import UserError
from resnest_d2.model_zoo import list_configs, models


def complete_config(incomplete: str) -> list[str]:
    """Configs and published detectors that begin so; the shell completes files itself."""
    detectors = [model.id for model in models() if not model.is_backbone]
    return [name for name in (*list_configs(), *detectors) if name.startswith(incomplete)]


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
                raise UserError(f"{flag} and {key} both set {key}; leave one of them out.")
        for key, value in keys.items():
            # In quotes a folder named 2024 stays a text.
            opts += [key, repr(str(value)) if isinstance(value, str | Path) else str(value)]
    return opts
