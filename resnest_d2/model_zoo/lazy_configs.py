"""LazyConfig files by name: detectron2's configs in Python, in ``lazy/`` beside the YAML files."""

from pathlib import Path

from detectron2.config import LazyConfig
from omegaconf import DictConfig

from resnest_d2.errors import UserError
from resnest_d2.shipped import config_dir, find_shipped

from .table import find_model

_SHARED = "common"  # folder of what the configs import


def lazy_config_dir() -> Path:
    """Folder of the LazyConfig files that ship with the package."""
    return config_dir() / "lazy"


def list_lazy_configs() -> list[str]:
    """Names of the LazyConfig files that ship with the package, shared parts left out, sorted."""
    folder = lazy_config_dir()
    paths = [path.relative_to(folder) for path in folder.rglob("*.py")]
    return sorted(path.as_posix() for path in paths if path.parts[0] != _SHARED)


def find_lazy_config(name: str) -> str:
    """Path of a LazyConfig file, e.g. for tools/lazyconfig_train_net.py's ``--config-file``.

    Args:
        name: a path, or one of :func:`list_lazy_configs`.

    Raises:
        MissingFileError: neither; the closest names are given.
    """
    return find_shipped(name, lazy_config_dir(), list_lazy_configs(), what="LazyConfig file")


def get_lazy_config(name: str, *, trained: bool = False) -> DictConfig:
    """LazyConfig of a detector, with model, dataloader, optimizer, lr_multiplier and train.

    A LazyConfig file is a Python program, which this runs: use only files that you trust.

    Args:
        name: as in :func:`find_lazy_config`.
        trained: set ``train.init_checkpoint`` to the published detector's weights; else they are
            those that a training starts from.

    Raises:
        MissingFileError: no config file of that name.
        UserError: a config without published weights where they are asked for, or a file that is
            no Python: detectron2 runs the tags in a LazyConfig's YAML, unseen.
    """
    path = find_lazy_config(name)
    if not path.endswith(".py"):
        raise UserError(
            f"{path} is no Python file. A LazyConfig saved as YAML can run code that nobody sees; "
            "give the .py file, or a config to load_config."
        )
    cfg = LazyConfig.load(path)
    if trained:
        cfg.train.init_checkpoint = find_model(Path(name).stem).path
    return cfg
