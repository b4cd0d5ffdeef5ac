"""Finds, lists and reads config files, without side effects.

:func:`resnest_d2.data.registration.register_datasets` registers the datasets of a config.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from resnest_d2.errors import UserError
from resnest_d2.shipped import config_dir, find_config

from .checks import resolve_backbone
from .keys import get_cfg, get_key, leaves
from .merging import merge
from .pairs import require_pairs
from .reading import read_files
from .rules import DATASET

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
        name: path of the file, or one of :func:`resnest_d2.shipped.list_configs`.
        opts: overrides ``[key, value, key, value, ...]``, as on train_net.py's command line.

    Returns:
        The config, not frozen. Paths in DATASETS.COCO are absolute; their files may be missing.

    Raises:
        MissingFileError: the config or one of its bases does not exist.
        UserError: the file is not a config, a key does not exist or has another type, or an
            override would be replaced by another key.
    """
    path = find_config(name)
    files = read_files(path)
    cfg = get_cfg()
    if files[-1][1].get("VERSION") == 1:
        _upgrade(cfg, path)
    else:
        for file, tree in files:
            merge(cfg, dict(leaves(tree)), origin=file)
    override(cfg, opts, name=path)
    _check_overrides(cfg, opts[::2])
    given = {*_keys(files), *opts[::2]}
    given = set() if _is_whole(given) else given  # by a program, and not by a user
    if "resnest" in cfg.MODEL.BACKBONE.NAME:
        _check_stride(cfg, given, path)
        cfg = resolve_backbone(cfg)
    else:
        _check_other_backbone(cfg, given, path)
    resolve_dataset_paths(cfg, os.path.dirname(os.path.abspath(path)))
    return cfg


def given_keys(name: str, opts: Sequence = ()) -> frozenset[str]:
    """Keys that the user set: in his files, or by overrides.

    Args:
        name: as in :func:`load_config`. Keys of files that ship with the package are a recipe's.
        opts: as in :func:`load_config`.

    Raises:
        MissingFileError, UserError: see :func:`load_config`.
    """
    own = [(path, tree) for path, tree in read_files(find_config(name)) if not _is_shipped(path)]
    return frozenset({*_keys(own), *opts[::2]})


def load_recipe(name: str) -> CfgNode:
    """Config of the shipped files alone that a config is based on.

    Args:
        name: as in :func:`load_config`.

    Returns:
        detectron2's defaults where none of the files ships with the package.

    Raises:
        MissingFileError, UserError: as :func:`load_config`.
    """
    cfg = get_cfg()
    for path, tree in read_files(find_config(name)):
        if _is_shipped(path):
            merge(cfg, dict(leaves(tree)), origin=path)
    return cfg


def is_written_by_a_run(name: str) -> bool:
    """Whether a program wrote a config file: it holds every key, whether a user set it or not."""
    return _is_whole(_keys(read_files(find_config(name))))


def _keys(files: list[tuple[str, dict]]) -> set[str]:
    return {key for _, tree in files for key, _ in leaves(tree)}


def _is_shipped(path: str) -> bool:
    return Path(path).resolve().is_relative_to(config_dir().resolve())


def override(cfg: CfgNode, opts: Sequence, *, name: str = "the config") -> None:
    """Sets keys of a config.

    Args:
        cfg: config, changed in place.
        opts: ``[key, value, key, value, ...]``; values may be strings, as on a command line.
        name: name of the config in error messages.

    Raises:
        UserError: a key does not exist, has another type or has no value.
    """
    require_pairs(opts)
    pairs = dict(zip(opts[::2], opts[1::2], strict=True))
    merge(cfg, pairs, origin=f"An override of {name}")


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
        if not DATASET.holds(name):
            raise UserError(
                f"DATASETS.COCO names a data set {name!r}; choose {DATASET.choices()}, as a folder "
                "of results is named after it."
            )
        entries.append([name, *(_find(path, places) for path in paths)])
    cfg.DATASETS.COCO = entries


def _find(path: str, places: list[str]) -> str:
    tried = [os.path.abspath(os.path.join(place, os.path.expanduser(path))) for place in places]
    return next(filter(os.path.exists, tried), tried[0])


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
    """Raises an error if the user set both STRIDE_IN_1X1 and AVD."""
    if cfg.MODEL.RESNETS.AVD and get_key(cfg, _STRIDE) and _STRIDE in given:
        raise UserError(
            f"{path}: MODEL.RESNETS.AVD and STRIDE_IN_1X1 are both True, but only one of the "
            "average pool and the first 1x1 convolution can carry the stride; set STRIDE_IN_1X1 "
            "False (every published ResNeSt), or AVD False."
        )


def _check_other_backbone(cfg: CfgNode, given: set[str], path: str) -> None:
    """Refuses a ResNeSt's key for a plain ResNet: configs of the authors' fork have them."""
    name = cfg.MODEL.BACKBONE.NAME
    if _RADIX in given and name in _PLAIN:
        raise UserError(
            f"{path}: {_RADIX} is set, but {name} is a plain ResNet, which has none; set "
            f"MODEL.BACKBONE.NAME {name.replace('resnet', 'resnest')}, or leave out RADIX."
        )


def _is_whole(given: set[str]) -> bool:
    return given >= dict(leaves(get_cfg())).keys()
