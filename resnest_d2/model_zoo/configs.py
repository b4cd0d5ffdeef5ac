"""How a config file becomes a config."""

import os
from collections.abc import Sequence

from detectron2.config import CfgNode
from yaml import YAMLError

from resnest_d2.config import get_cfg
from resnest_d2.data.registration import (
    learn_classes,
    register_datasets,
    resolve_dataset_paths,
)
from resnest_d2.errors import UserError
from resnest_d2.shipped import find_config


def load_config(name: str, opts: Sequence[str] = (), *, with_data: bool = True) -> CfgNode:
    """Read a config file, register its data sets and take from them what it leaves out.

    Args:
        name: path of the file, or one of :func:`list_configs`.
        opts: ``[key, value, key, value, ...]`` to override, as on train_net.py's command line.
        with_data: False for prediction: nothing is registered, and files in DATASETS.COCO may be
            missing.

    Returns:
        The config, not frozen, with absolute paths in DATASETS.COCO.

    Raises:
        FileNotFoundError: the config, or a file that it names, is missing.
        ValueError: a key that does not exist or is of another type, or that contradicts the data.
    """
    path = find_config(name)
    cfg = get_cfg()
    try:
        # Unsafe YAML could run code; detectron2 allows it by default.
        cfg.merge_from_file(path, allow_unsafe=False)
        given = {*_keys(CfgNode.load_yaml_with_base(path, allow_unsafe=False)), *opts[::2]}
    except (AssertionError, KeyError, ValueError, YAMLError) as error:
        raise UserError(f"{path}: {error}") from error
    override(cfg, opts, name=path)
    _check_length(cfg, opts[::2])
    folder = os.path.dirname(os.path.abspath(path))
    if with_data:
        resolve_dataset_paths(cfg, folder)
        register_datasets(cfg, given=given)
    else:
        learn_classes(cfg, folder, given=given)
    return cfg


def override(cfg: CfgNode, opts: Sequence, *, name: str = "The config") -> None:
    """Set keys of a config.

    Args:
        cfg: config, changed in place.
        opts: ``[key, value, key, value, ...]``.
        name: of the config, for the error.

    Raises:
        ValueError: a key that does not exist or is of another type, or one without a value.
    """
    if len(opts) % 2:
        raise UserError(f"Overrides come in pairs KEY VALUE, got {list(opts)}.")
    try:
        cfg.merge_from_list(list(opts))
    except (AssertionError, KeyError, ValueError) as error:
        raise UserError(f"{name} with {list(opts)}: {error}") from error


def _check_length(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Refuse an override in iterations of what the config has in epochs, and would overrule."""
    for epochs, key in (
        ("SOLVER.EPOCHS", "SOLVER.MAX_ITER"),
        ("SOLVER.EPOCHS", "SOLVER.STEPS"),
        ("TEST.EVAL_EPOCHS", "TEST.EVAL_PERIOD"),
    ):
        section, name = epochs.split(".")
        if key in overrides and cfg[section][name]:
            raise UserError(
                f"{key} is given, but {epochs} is {cfg[section][name]} and replaces it; leave out "
                f"{key}, or set {epochs} 0."
            )


def _keys(node: dict, prefix: str = "") -> set[str]:
    """Dotted names of the leaves of nested dictionaries."""
    keys = set()
    for name, value in node.items():
        full = f"{prefix}{name}"
        keys |= _keys(value, f"{full}.") if isinstance(value, dict) else {full}
    return keys
