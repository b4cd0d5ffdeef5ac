"""Config files: YAML with the bases that it names."""

import os

import yaml
from detectron2.utils.file_io import PathManager

from resnest_d2.errors import MissingFileError, UserError


def read_files(path: str, below: tuple[str, ...] = ()) -> list[tuple[str, dict]]:
    """Reads a config file and its bases.

    Args:
        path: path of the file.
        below: files that have it for a base, for errors.

    Returns:
        Paths and contents in the order in which they are merged, the file itself last.

    Raises:
        MissingFileError: a base that does not exist.
        UserError: not YAML, not a mapping, or a file that is a base of itself.
    """
    if path in below:
        raise UserError(f"{path} is its own _BASE_: {' -> '.join((*below, path))}.")
    tree = _read(path, below)
    bases = tree.pop("_BASE_", [])
    found = []
    for base in bases if isinstance(bases, list) else [bases]:
        if not isinstance(base, str):
            raise UserError(f"{path}: _BASE_ is {base!r}; give the path of a config.")
        if "://" not in base:
            base = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        found += read_files(base, (*below, path))
    return [*found, (path, tree)]


def _read(path: str, below: tuple[str, ...]) -> dict:
    """Mapping in a YAML file."""
    if path.endswith(".py"):
        raise UserError(
            f"{path} is a Python config, as mmdetection uses; this package reads YAML. "
            "`resnest-d2 list configs` lists its configs of mmdetection's ResNeSt detectors, which "
            "load mmdetection's checkpoints unchanged (MODEL.WEIGHTS)."
        )
    try:
        with PathManager.open(path, "r") as file:
            tree = yaml.safe_load(file)  # safe: other YAML could run code
    except FileNotFoundError as error:
        raise MissingFileError(f"{below[-1]}: its _BASE_ {path} does not exist.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        what = "is empty" if tree is None else f"contains a {type(tree).__name__}"
        raise UserError(f"{path} {what}; a config is a mapping of keys, like MODEL: {{DEPTH: 50}}.")
    return tree
