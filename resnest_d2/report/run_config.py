"""The config of a run's folder, which may be anybody's: read for the report, not for a detector."""

import os
from typing import TYPE_CHECKING

from resnest_d2.errors import UserError
from resnest_d2.files import read_yaml

if TYPE_CHECKING:
    from .gather import Run

_GROUPS = ("DATASETS", "MODEL", "SOLVER", "TEST")


def config_of(run: "Run") -> dict:
    """The run's config as nested dictionaries, empty without one.

    Raises:
        UserError: its config.yaml is not YAML, or no mapping.
    """
    path = os.path.join(run.folder, "config.yaml")
    keys = (read_yaml(path) or {}) if run.config else {}
    if not isinstance(keys, dict) or any(not isinstance(keys.get(g, {}), dict) for g in _GROUPS):
        raise UserError(f"{path} holds no keys; it is not the config of a run.")
    return keys


def entries_of(run: "Run") -> list[list[str]]:
    """DATASETS.COCO of the run's config, whose files are on this machine.

    Raises:
        UserError: an entry is none, or has an address, from which nothing is downloaded here.
    """
    entries = config_of(run).get("DATASETS", {}).get("COCO") or []
    for entry in entries if isinstance(entries, list) else [entries]:
        texts = isinstance(entry, list) and [type(value) for value in entry] == [str] * 3
        if not texts or any("://" in value for value in entry[1:]):
            raise UserError(
                f"{run.folder}: DATASETS.COCO of its config.yaml contains {entry!r}; each entry "
                'must be ["name", "annotation file", "image folder"] of files here.'
            )
    return entries
