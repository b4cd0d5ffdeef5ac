"""What a config says of data sets, made true: registered, and its other keys made to agree."""

import difflib
import os
from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from .coco import register_coco

_CLASS_KEYS = {"RetinaNet": "RETINANET"}  # of meta architectures; else ROI_HEADS


def resolve_dataset_paths(cfg: CfgNode, config_dir: str | None = None) -> None:
    """Make the paths in DATASETS.COCO absolute.

    They are relative to DATASETS.ROOT if that is set, else to the config file's folder, else to
    the current folder; a relative ROOT likewise. The first that exists is taken.

    Args:
        cfg: config, changed in place.
        config_dir: folder of the config file; None without one.

    Raises:
        FileNotFoundError: a path is nowhere; all places looked at are named.
        ValueError: an entry is not [name, annotation file, picture folder].
    """
    places = [place for place in (config_dir, os.getcwd()) if place]
    if cfg.DATASETS.ROOT:
        places = [_find(cfg.DATASETS.ROOT, places, "DATASETS.ROOT")]
        cfg.DATASETS.ROOT = places[0]
    entries = []
    for entry in cfg.DATASETS.COCO:
        if not isinstance(entry, list | tuple) or [type(v) for v in entry] != [str] * 3:
            raise ValueError(
                f"DATASETS.COCO holds {entry!r}; each entry must be "
                '["name", "annotation file", "picture folder"].'
            )
        name, *paths = entry
        entries.append([name, *(_find(path, places, f"DATASETS.COCO {name}") for path in paths)])
    cfg.DATASETS.COCO = entries


def _find(path: str, places: list[str], key: str) -> str:
    tried = [os.path.abspath(os.path.join(place, os.path.expanduser(path))) for place in places]
    for candidate in tried:
        if os.path.exists(candidate):
            return candidate
    raise FileNotFoundError(f"{key}: no {path}; looked for " + " and ".join(dict.fromkeys(tried)))


def register_datasets(cfg: CfgNode, *, given: Collection[str] = ()) -> None:
    """Register DATASETS.COCO and take the number of classes and the mask format from the data.

    May be called again. Config and metadata of data sets that others registered are compared too.

    Args:
        cfg: config, changed in place if it is not frozen.
        given: keys that the user set, and that the data must not overrule. A value other than
            detectron2's default counts as set in any case.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: a faulty file, nothing to train on, an unknown name, or a key that disagrees
            with the data.
    """
    frozen = cfg.is_frozen()
    cfg.defrost()
    resolve_dataset_paths(cfg)
    for entry in cfg.DATASETS.COCO:
        facts = register_coco(*entry)
        if entry[0] in cfg.DATASETS.TRAIN and not facts.num_annotations:
            raise ValueError(f"{entry[0]} ({entry[1]}) has no annotations to train on.")
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    for name in names:
        if name not in DatasetCatalog:
            close = difflib.get_close_matches(name, DatasetCatalog.list(), n=3) or ["none close"]
            raise ValueError(
                f"No data set is named {name} (DATASETS.TRAIN or TEST); DATASETS.COCO registers "
                f"{[entry[0] for entry in cfg.DATASETS.COCO]}; close names: {', '.join(close)}."
            )
    _agree_on_classes(cfg, names, given)
    if cfg.MODEL.MASK_ON:
        _agree_on_masks(cfg, given)
    if frozen:
        cfg.freeze()


def _agree_on_classes(cfg: CfgNode, names: list[str], given: Collection[str]) -> None:
    classes = {n: MetadataCatalog.get(n).get("thing_classes") for n in names}
    classes = {n: list(c) for n, c in classes.items() if c}
    if not classes:
        return
    first, expected = next(iter(classes.items()))
    for name, other in classes.items():
        if other != expected:
            raise ValueError(
                f"{first} and {name} have different classes: {_show(expected)} and {_show(other)}. "
                "Data sets of one config need the same categories, in the order of their ids."
            )
    section = _CLASS_KEYS.get(cfg.MODEL.META_ARCHITECTURE, "ROI_HEADS")
    if section in cfg.MODEL:
        key = f"MODEL.{section}.NUM_CLASSES"
        _agree(cfg, key, len(expected), f"{first} has {_show(expected)}", given)


def _agree_on_masks(cfg: CfgNode, given: Collection[str]) -> None:
    for name in cfg.DATASETS.TRAIN:
        mask_format = MetadataCatalog.get(name).get("mask_format")  # None: not one of ours
        if mask_format == "":
            raise ValueError(
                f"MODEL.MASK_ON is True, but annotations of {name} have no segmentation; use a "
                "config without masks (faster_rcnn, cascade_rcnn), or set MODEL.MASK_ON False."
            )
        if mask_format == "bitmask":  # which takes polygons too, so that sets may be mixed
            _agree(cfg, "INPUT.MASK_FORMAT", "bitmask", f"{name} has RLE masks", given)


def _agree(cfg: CfgNode, key: str, value: object, because: str, given: Collection[str]) -> None:
    """Set a key to what the data demands, unless the user set it to something else."""
    *path, leaf = key.split(".")
    node, default = cfg, get_detectron2_cfg()
    for part in path:
        node, default = node[part], default.get(part, {})
    if node[leaf] == value:
        return
    if key in given or node[leaf] != default.get(leaf):
        raise ValueError(
            f"{key} is {node[leaf]!r}, but {because}: it must be {value!r}. Correct it, or leave "
            "it out of the config: it is then taken from the data."
        )
    node[leaf] = value


def _show(classes: list[str]) -> str:
    more = ", ..." if len(classes) > 5 else ""
    return f"{len(classes)} classes ({', '.join(classes[:5])}{more})"
