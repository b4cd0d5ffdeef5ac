"""Finds, lists and reads config files, without side effects.

:func:`resnest_d2.data.registration.register_datasets` registers the datasets of a config.
"""

import os
from collections.abc import Sequence

import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from resnest_d2.errors import MissingFileError, UserError
from resnest_d2.shipped import config_dir, find_config, list_configs

from .checks import resolve_backbone
from .keys import get_cfg, get_key, leaves
from .merging import merge

__all__ = [
    "config_dir",
    "find_config",
    "given_keys",
    "list_configs",
    "load_config",
    "override",
    "resolve_dataset_paths",
]
# Keys in epochs, and the keys in iterations that they replace.
_REPLACED = (
    ("SOLVER.EPOCHS", "SOLVER.MAX_ITER"),
    ("SOLVER.EPOCHS", "SOLVER.STEPS"),
    ("TEST.EVAL_EPOCHS", "TEST.EVAL_PERIOD"),
)
# detectron2's ResNets; the authors' fork of detectron2 builds its ResNeSts under these names.
_PLAIN = (
    "build_resnet_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_resnet_fpn_backbone",
)
_RADIX, _STRIDE = "MODEL.RESNETS.RADIX", "MODEL.RESNETS.STRIDE_IN_1X1"


def load_config(name: str, opts: Sequence = ()) -> CfgNode:
    """Reads a config file.

    Args:
        name: path of the file, or one of :func:`list_configs`.
        opts: overrides ``[key, value, key, value, ...]``, as on train_net.py's command line.

    Returns:
        The config, not frozen. Paths in DATASETS.COCO are absolute; their files may be missing.

    Raises:
        MissingFileError: the config or one of its bases does not exist.
        UserError: the file is not a config, a key does not exist or has another type, or an
            override would be replaced by another key.
    """
    path = find_config(name)
    tree = _read(path)
    cfg = get_cfg()
    if tree.get("VERSION") == 1:
        _upgrade(cfg, path)
    else:
        merge(cfg, dict(leaves(tree)), origin=path)
    override(cfg, opts, name=path)
    _check_overrides(cfg, opts[::2])
    given = {*dict(leaves(tree)), *opts[::2]}
    if "resnest" in cfg.MODEL.BACKBONE.NAME:
        _check_stride(cfg, given, path)
        cfg = resolve_backbone(cfg)
    else:
        _check_other_backbone(cfg, given, path)
    resolve_dataset_paths(cfg, os.path.dirname(os.path.abspath(path)))
    return cfg


def given_keys(name: str, opts: Sequence = ()) -> frozenset[str]:
    """Keys that the user set in the file, its bases or the overrides.

    Args:
        name: see :func:`load_config`.
        opts: see :func:`load_config`.

    Raises:
        MissingFileError, UserError: see :func:`load_config`.
    """
    return frozenset({*dict(leaves(_read(find_config(name)))), *opts[::2]})


def override(cfg: CfgNode, opts: Sequence, *, name: str = "The config") -> None:
    """Sets keys of a config.

    Args:
        cfg: config, changed in place.
        opts: ``[key, value, key, value, ...]``; values may be strings, as on a command line.
        name: name of the config in error messages.

    Raises:
        UserError: a key does not exist, has another type or has no value.
    """
    if len(opts) % 2:
        raise UserError(f"Overrides come in pairs KEY VALUE, got {list(opts)}.")
    merge(cfg, dict(zip(opts[::2], opts[1::2], strict=True)), origin=f"{name} with {list(opts)}")


def resolve_dataset_paths(cfg: CfgNode, config_dir: str | None = None) -> None:
    """Makes the paths in DATASETS.COCO absolute.

    They are relative to DATASETS.ROOT if it is set, else to the folder of the config file, else to
    the current folder; so is a relative ROOT. The first path that exists is used, else the first.

    Args:
        cfg: config, changed in place.
        config_dir: folder of the config file; None if there is no file.

    Raises:
        UserError: an entry is not [name, annotation file, image folder].
    """
    places = [place for place in (config_dir, os.getcwd()) if place]
    if cfg.DATASETS.ROOT:
        cfg.DATASETS.ROOT = _find(cfg.DATASETS.ROOT, places)
        places = [cfg.DATASETS.ROOT]
    entries = []
    for entry in cfg.DATASETS.COCO:
        if not isinstance(entry, list | tuple) or [type(v) for v in entry] != [str] * 3:
            raise UserError(
                f"DATASETS.COCO contains {entry!r}; each entry must be "
                '["name", "annotation file", "image folder"].'
            )
        name, *paths = entry
        entries.append([name, *(_find(path, places) for path in paths)])
    cfg.DATASETS.COCO = entries


def _find(path: str, places: list[str]) -> str:
    tried = [os.path.abspath(os.path.join(place, os.path.expanduser(path))) for place in places]
    return next(filter(os.path.exists, tried), tried[0])


def _read(path: str, below: tuple[str, ...] = ()) -> dict:
    """Contents of a YAML file, merged into those of its ``_BASE_``."""
    if path.endswith(".py"):
        raise UserError(
            f"{path} is a Python config, as mmdetection uses; this package reads YAML. "
            "`resnest-d2 list configs` lists its configs of mmdetection's ResNeSt detectors, which "
            "load mmdetection's checkpoints unchanged (MODEL.WEIGHTS)."
        )
    if path in below:
        raise UserError(f"{path} is its own _BASE_: {' -> '.join((*below, path))}.")
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
    bases = tree.pop("_BASE_", [])
    bases = bases if isinstance(bases, list) else [bases]
    whole: dict = {}
    for base in bases:
        if not isinstance(base, str):
            raise UserError(f"{path}: _BASE_ is {base!r}; give the path of a config.")
        if "://" not in base:
            base = os.path.join(os.path.dirname(path), os.path.expanduser(base))
        _lay_over(whole, _read(base, (*below, path)))
    _lay_over(whole, tree)
    return whole


def _lay_over(whole: dict, tree: dict) -> None:
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(whole.get(key), dict):
            _lay_over(whole[key], value)
        else:
            whole[key] = value


def _upgrade(cfg: CfgNode, path: str) -> None:
    """Renames the keys of a config of detectron2's first version, as detectron2 does."""
    try:
        cfg.merge_from_file(path, allow_unsafe=False)
    except (AssertionError, KeyError, ValueError) as error:  # raised by yacs for a wrong key
        raise UserError(f"{path}: {error}") from error


def _check_overrides(cfg: CfgNode, overrides: Sequence[str]) -> None:
    """Raises an error if a key in epochs would replace an override in iterations."""
    for epochs, key in _REPLACED:
        if key in overrides and get_key(cfg, epochs):
            raise UserError(
                f"{key} is given, but {epochs} is {get_key(cfg, epochs)} and replaces it; leave "
                f"out {key}, or set {epochs} 0."
            )


def _check_stride(cfg: CfgNode, given: set[str], path: str) -> None:
    """Raises an error if the user set both STRIDE_IN_1X1 and AVD; a dump contains every key."""
    if cfg.MODEL.RESNETS.AVD and get_key(cfg, _STRIDE) and _STRIDE in given and not _dumped(given):
        raise UserError(
            f"{path}: MODEL.RESNETS.AVD and STRIDE_IN_1X1 are both True, but only one of the "
            "average pool and the first 1x1 convolution can carry the stride; set STRIDE_IN_1X1 "
            "False (every published ResNeSt), or AVD False."
        )


def _check_other_backbone(cfg: CfgNode, given: set[str], path: str) -> None:
    """Refuses a ResNeSt's key for a plain ResNet: configs of the authors' fork have them."""
    name = cfg.MODEL.BACKBONE.NAME
    if _RADIX in given and name in _PLAIN and not _dumped(given):
        raise UserError(
            f"{path}: {_RADIX} is set, but {name} is a plain ResNet, which has none; set "
            f"MODEL.BACKBONE.NAME {name.replace('resnet', 'resnest')}, or leave out RADIX."
        )


def _dumped(given: set[str]) -> bool:
    """Whether a program wrote the config: it holds every key, whether a user set it or not."""
    return given >= dict(leaves(get_cfg())).keys()
