"""The config files that ship with the package: where they are and which there are.

In a checkout they are in ``configs/`` at the top, in an installed package in
``resnest_d2/configs``. Nothing here imports torch, because tab completion waits for it.
"""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from resnest_d2.errors import MissingFileError

_PLACES = (Path(__file__).parents[1] / "configs", Path(__file__).parent / "configs")


def config_dir() -> Path:
    """Folder of the config files that ship with the package."""
    for place in _PLACES:
        if (place / "Base-ResNeSt-FPN.yaml").is_file():
            return place
    raise MissingFileError(
        f"The config files are missing, looked in {' and '.join(map(str, _PLACES))}; "
        "install resnest_d2 again."
    )


def list_configs() -> list[str]:
    """Names of the configs that ship with the package, base files left out, sorted."""
    folder = config_dir()
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if not os.path.basename(name).startswith("Base-"))


def find_config(name: str) -> str:
    """Path of a config file.

    Args:
        name: a path, or one of :func:`list_configs`, also without its suffix or its folder.

    Raises:
        MissingFileError: neither; the closest names are given.
    """
    shipped = None if os.path.isfile(name) else config_named(name)
    return find_shipped(shipped or name, config_dir(), list_configs(), what="config file")


def config_named(name: str) -> str | None:
    """The config of :func:`list_configs` that a name means: with or without folder and suffix."""
    configs = list_configs()
    for same in (str, lambda config: Path(config).name):
        alike = [c for c in configs if name in (same(c), same(c).removesuffix(".yaml"))]
        if len(alike) == 1:
            return alike[0]
    return None


def find_shipped(name: str, folder: Path, names: Sequence[str], *, what: str) -> str:
    """Path of a file of the user's, or of one that ships with the package.

    Args:
        name: a path, or one of ``names``.
        folder: where the package's files are.
        names: files of the package, for the error; other paths below ``folder`` are found too.
        what: kind of file, for the error.

    Raises:
        MissingFileError: neither; the closest names are given.
    """
    for path in (Path(name), folder / name):
        if path.is_file():
            return str(path)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.3) or names[:3]
    raise MissingFileError(
        f"There is no {what} {name}, here or in the package; close names: {', '.join(close)}."
    )
