"""Registers a config's datasets and derives NUM_CLASSES, DATASETS.CLASSES and MASK_FORMAT.

Reading a config does neither. Call :func:`register_datasets` before the data is used; for
prediction alone, :func:`learn_classes` reads the classes and registers nothing.
"""

import difflib
import functools
import logging
import os
from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from resnest_d2.config import fill_defaults, resolve_dataset_paths
from resnest_d2.config.keys import default_of, get_key, set_key
from resnest_d2.errors import UserError

from .categories import facts_of, match_dataset, show_classes
from .coco import read_categories, register_coco
from .keypoints import DEFAULT_SIGMA

_COCOS_KEYPOINTS = 17  # whose sigmas are pycocotools' default
_SAME = "Datasets to train on need the same categories."
_BY_NAME = (
    "Give its annotation file with --data or in DATASETS.COCO: its categories are then matched to "
    "the detector's classes by name."
)
_CLASS_KEYS = {"RetinaNet": "RETINANET"}  # of meta architectures; else ROI_HEADS


def register_datasets(cfg: CfgNode, *, given: Collection[str] = ()) -> None:
    """Registers DATASETS.COCO and takes the classes and the mask format from the data.

    It may be called again. The config is also compared with datasets that others registered.

    Args:
        cfg: config, changed in place if it is not frozen.
        given: keys that the user set, see :func:`resnest_d2.config.given_keys`; an error is raised
            if the data disagrees with them, or with a value that is not detectron2's default.

    Raises:
        MissingFileError: a file or folder is missing.
        UserError: a faulty file, nothing to train on, an unknown name, or a key that disagrees
            with the data.
    """
    frozen = cfg.is_frozen()
    cfg.defrost()
    fill_defaults(cfg)
    resolve_dataset_paths(cfg)
    for entry in cfg.DATASETS.COCO:
        facts = register_coco(*entry)
        if entry[0] in cfg.DATASETS.TRAIN and not facts.num_annotations:
            raise UserError(
                f"{entry[0]} ({entry[1]}) has no annotations to train on (crowds, and boxes that "
                "are empty or outside their image, do not count); correct it, or take another."
            )
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    for name in names:
        if name not in DatasetCatalog:
            close = difflib.get_close_matches(name, DatasetCatalog.list(), n=3) or ["none close"]
            raise UserError(
                f"No data set is named {name} (DATASETS.TRAIN or TEST); DATASETS.COCO registers "
                f"{[entry[0] for entry in cfg.DATASETS.COCO]}; close names: {', '.join(close)}."
            )
    _agree_on_classes(cfg, names, given)
    if cfg.MODEL.MASK_ON:
        _agree_on_masks(cfg, given)
    if cfg.MODEL.KEYPOINT_ON:
        _agree_on_keypoints(cfg, given)
    if frozen:
        cfg.freeze()


def _agree_on_classes(cfg: CfgNode, names: list[str], given: Collection[str]) -> None:
    """Takes the detector's classes from the data, and numbers all datasets as they are numbered.

    Other datasets than ours are registered for all programs, so that they keep their numbers.
    """
    facts = {name: facts_of(name) for name in names}
    classes = {
        n: list(f.classes if f else MetadataCatalog.get(n).get("thing_classes") or ())
        for n, f in facts.items()
    }
    classes = {n: c for n, c in classes.items() if c}
    if not classes:
        return
    first, expected = next(iter(classes.items()))
    agree = functools.partial(_agree, cfg, given=given)
    source, recorded = f"{first} has", list(cfg.DATASETS.CLASSES)
    if recorded:
        if first in cfg.DATASETS.TRAIN and set(expected) != set(recorded):
            agree("DATASETS.CLASSES", expected, because=f"{first} has {show_classes(expected)}")
        source, expected = "DATASETS.CLASSES has", recorded
    agree(_class_key(cfg), len(expected), because=f"{source} {show_classes(expected)}")
    for name, other in classes.items():
        same = facts[name] and set(other) == set(expected)
        if other != expected and not same and (name in cfg.DATASETS.TRAIN or not facts[name]):
            raise UserError(
                f"{source.removesuffix(' has')} and {name} have different classes: "
                f"{show_classes(expected)} and {show_classes(other)}. "
                + (_SAME if name in cfg.DATASETS.TRAIN else _BY_NAME)
            )
    for name in classes:
        if dataset := facts[name]:
            match = match_dataset(name, expected)
            _check_objects(cfg, name, sum(dataset.objects.get(id_, 0) for id_ in match.numbers))
    if any(entry[0] == first for entry in cfg.DATASETS.COCO):  # others are always registered
        agree("DATASETS.CLASSES", expected, because=f"{source} {show_classes(expected)}")
        ids = _category_ids(first)
        if first in cfg.DATASETS.TRAIN or (
            not cfg.DATASETS.CATEGORY_IDS and len(ids) == len(expected)
        ):
            agree("DATASETS.CATEGORY_IDS", ids, because=f"{first} has the category ids {ids}")


def _check_objects(cfg: CfgNode, name: str, number: int) -> None:
    """Checks that there are objects of the detector's classes to evaluate on."""
    if name not in cfg.DATASETS.TEST or number:
        return
    if name == cfg.DATASETS.TEST[0] and cfg.SOLVER.EARLY_STOPPING.ENABLED:
        raise UserError(
            f"SOLVER.EARLY_STOPPING.ENABLED is True, but {name} has no objects to evaluate on; "
            "its AP is undefined. Take another set, or set it False."
        )
    logging.getLogger(__name__).warning(
        f"{name} has no objects: there is nothing to evaluate on, and its AP is undefined."
    )


def learn_classes(cfg: CfgNode, *, given: Collection[str] = ()) -> None:
    """Fills in DATASETS.CLASSES, CATEGORY_IDS and the number of classes, for prediction.

    Missing values come from the first annotation file or registered dataset that has them; ids only
    from one that has the config's classes. If there is none, the keys stay empty.

    Args:
        cfg: config, changed in place.
        given: as in :func:`register_datasets`.

    Raises:
        UserError: an annotation file without categories, or keys that disagree.
    """
    fill_defaults(cfg)
    resolve_dataset_paths(cfg)
    keys = cfg.DATASETS
    files = {name: path for name, path, _ in keys.COCO if os.path.isfile(path)}
    for name in [*keys.TRAIN, *keys.TEST]:
        if keys.CLASSES and keys.CATEGORY_IDS:
            break
        if name in files:
            categories = read_categories(files[name])
            classes, ids = list(categories.values()), list(categories)
        else:
            classes = list(MetadataCatalog.get(name).get("thing_classes", []))
            ids = _category_ids(name)
        if keys.CLASSES and list(keys.CLASSES) != classes:  # whose ids mean others
            continue
        keys.CLASSES, keys.CATEGORY_IDS = classes, keys.CATEGORY_IDS or ids
    for key, number in (("CLASSES", len(keys.CLASSES)), ("CATEGORY_IDS", len(keys.CATEGORY_IDS))):
        if number:
            because = f"DATASETS.{key} has {number}"
            _agree(cfg, _class_key(cfg), number, because=because, given=given)


def _category_ids(name: str) -> list[int]:
    ids = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id", {})
    return sorted(ids, key=ids.get)


def _class_key(cfg: CfgNode) -> str:
    return f"MODEL.{_CLASS_KEYS.get(cfg.MODEL.META_ARCHITECTURE, 'ROI_HEADS')}.NUM_CLASSES"


def _agree_on_masks(cfg: CfgNode, given: Collection[str]) -> None:
    for name in cfg.DATASETS.TRAIN:
        mask_format = MetadataCatalog.get(name).get("mask_format")  # None: not one of ours
        if mask_format == "":
            raise UserError(
                f"{_no_masks(name)}; draw them, use a config without masks (faster_rcnn, "
                "cascade_rcnn), or set MODEL.MASK_ON False."
            )
        if mask_format == "bitmask":  # which takes polygons too, so that sets may be mixed
            because = f"{name} has RLE masks"
            _agree(cfg, "INPUT.MASK_FORMAT", "bitmask", because=because, given=given)
    for name in cfg.DATASETS.TEST:
        if MetadataCatalog.get(name).get("mask_format") == "":
            raise UserError(
                f"{_no_masks(name)}; masks cannot be evaluated on them. Leave the set out of "
                "DATASETS.TEST, or evaluate boxes only: set MODEL.MASK_ON False."
            )


def _agree_on_keypoints(cfg: CfgNode, given: Collection[str]) -> None:
    for name in [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]:
        metadata = MetadataCatalog.get(name)
        if metadata.get("keypoint_fault"):
            raise UserError(f"MODEL.KEYPOINT_ON is True, but of {name} {metadata.keypoint_fault}.")
        if metadata.get("keypoint_fault") is not None and not metadata.get("keypoint_names"):
            raise UserError(
                f"MODEL.KEYPOINT_ON is True, but {name} has no keypoints; set it False."
            )
        if not (number := len(metadata.get("keypoint_names", ()))):  # not one of ours
            continue
        because = f"{name} has {number} keypoints"
        _agree(cfg, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", number, because=because, given=given)
        sigmas = list(cfg.TEST.KEYPOINT_OKS_SIGMAS)
        if not sigmas and number != _COCOS_KEYPOINTS:
            sigmas = cfg.TEST.KEYPOINT_OKS_SIGMAS = [DEFAULT_SIGMA] * number
            logging.getLogger(__name__).info(
                f"TEST.KEYPOINT_OKS_SIGMAS is empty: {because}, and each gets {DEFAULT_SIGMA}."
            )
        if sigmas and len(sigmas) != number:
            raise UserError(
                f"TEST.KEYPOINT_OKS_SIGMAS has {len(sigmas)} values, but {because}; give one for "
                "each, or none."
            )


def _no_masks(name: str) -> str:
    which = MetadataCatalog.get(name).get("without_mask", "")
    return (
        f"MODEL.MASK_ON is True, but annotations of {name} have no segmentation that can be used"
        + (f": {which}" if which else "")
    )


def _agree(cfg: CfgNode, key: str, value: object, *, because: str, given: Collection[str]) -> None:
    """Sets a key to the value of the data; raises an error if the user set another."""
    before = get_key(cfg, key)
    if before == value:
        return
    if key in given or before != default_of(key):
        raise UserError(
            f"{key} is {before!r}, but {because}: it must be {value!r}. Correct it, or leave "
            "it out of the config: it is then taken from the data."
        )
    set_key(cfg, key, value)
