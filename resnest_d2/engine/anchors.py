"""Anchors of a new training, fitted to its boxes: MODEL.ANCHOR_GENERATOR.AUTO."""

import logging
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm

from resnest_d2.checkpoint.fitting import build_on_meta
from resnest_d2.config import load_config
from resnest_d2.data.anchors import (
    MATCH,
    AnchorGrid,
    FoundAnchors,
    LevelAnchors,
    find_anchors,
    resize_boxes,
)
from resnest_d2.errors import UserError

_OF_A_RANGE = 5  # sizes of INPUT.MIN_SIZE_TRAIN that stand for a range


class AnchorFit(NamedTuple):
    """Anchors of a training.

    Attributes:
        cfg: its config, AUTO off.
        found: what k-means found.
    """

    cfg: CfgNode
    found: FoundAnchors

    @property
    def kept(self) -> bool:
        """Whether the config's anchors are no worse, and stay."""
        return self.found.recall <= self.found.before

    def __str__(self) -> str:
        keys, found = self.cfg.MODEL.ANCHOR_GENERATOR, self.found
        which = f"SIZES {keys.SIZES}, ASPECT_RATIOS {keys.ASPECT_RATIOS}"
        share = f"of the training boxes overlap an anchor with IoU {MATCH} or more"
        if self.kept:
            return (
                f"{found.before:.1%} {share}, and {found.recall:.1%} with those of k-means: the "
                f"config's {which} stay"
            )
        return f"{found.recall:.1%} {share}, {found.before:.1%} before: {which}"


def fit_anchors(cfg: CfgNode, images: Sequence[dict[str, Any]]) -> AnchorFit | None:
    """Fits the anchors of a new training to its boxes, where AUTO asks for it, and logs them.

    Boxes are taken as resized by INPUT.MIN_SIZE_TRAIN and MAX_SIZE_TRAIN: at every size of a
    choice, and at five of a range.

    Args:
        cfg: config, with the number of classes of the data; it is not changed.
        images: images that are trained on.

    Returns:
        The fit, whose config is frozen if ``cfg`` is; None if AUTO is off.

    Raises:
        UserError: there are no boxes.
    """
    if not cfg.MODEL.ANCHOR_GENERATOR.AUTO:
        return None
    boxes = resize_boxes(images, _short_edges(cfg), cfg.INPUT.MAX_SIZE_TRAIN)
    if not len(boxes.corners):
        raise UserError(
            "MODEL.ANCHOR_GENERATOR.AUTO is True, but DATASETS.TRAIN "
            f"{list(cfg.DATASETS.TRAIN)} has no boxes, crowds left out; set it False."
        )
    grid = _grid(cfg)
    found = find_anchors(boxes, _anchors_of(cfg, len(grid.strides)), grid)
    new = cfg.clone()
    new.defrost()
    keys = new.MODEL.ANCHOR_GENERATOR
    keys.AUTO = False
    fit = AnchorFit(new, found)
    if not fit.kept:
        keys.SIZES = found.anchors.sizes
        keys.ASPECT_RATIOS = found.anchors.ratios[:1]  # the same in all levels
    if cfg.is_frozen():
        new.freeze()
    if comm.is_main_process():
        logging.getLogger(__name__).info(f"Anchors: {fit}.")
    return fit


def _short_edges(cfg: CfgNode) -> list[int]:
    sizes = list(cfg.INPUT.MIN_SIZE_TRAIN)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range":
        return [round(size) for size in np.linspace(sizes[0], sizes[1], _OF_A_RANGE)]
    return sizes


def _grid(cfg: CfgNode) -> AnchorGrid:
    backbone: Any = build_on_meta(cfg).backbone
    shapes = backbone.output_shape()
    strides = [shapes[name].stride for name in cfg.MODEL.RPN.IN_FEATURES]
    return AnchorGrid(strides, cfg.MODEL.ANCHOR_GENERATOR.OFFSET, backbone.size_divisibility)


def _anchors_of(cfg: CfgNode, levels: int) -> LevelAnchors:
    """Anchors of a config, a list for each level where one stands for all."""
    keys = cfg.MODEL.ANCHOR_GENERATOR
    lists = []
    for values in (keys.SIZES, keys.ASPECT_RATIOS):
        nested = values if isinstance(values[0], list | tuple) else [values]
        nested = [list(level) for level in nested]
        lists.append(nested * levels if len(nested) == 1 else nested)
    return LevelAnchors(*lists)


def with_anchors_of_run(cfg: CfgNode) -> CfgNode:
    """The config of a training that is resumed with the anchors that it found.

    Args:
        cfg: config; it is not changed.

    Returns:
        The config itself if AUTO is off, or OUTPUT_DIR has none found.
    """
    earlier = _found_in(cfg.OUTPUT_DIR) if cfg.MODEL.ANCHOR_GENERATOR.AUTO else None
    if earlier is None:
        return cfg
    new = cfg.clone()
    new.defrost()
    new.MODEL.ANCHOR_GENERATOR = earlier
    if cfg.is_frozen():
        new.freeze()
    return new


def check_anchors_of_run(cfg: CfgNode) -> None:
    """Checks that a training is resumed with the anchors that it found.

    Raises:
        UserError: they are others.
    """
    earlier = _found_in(cfg.OUTPUT_DIR)
    if earlier is not None and earlier != cfg.MODEL.ANCHOR_GENERATOR:
        raise UserError(
            f"The run in {cfg.OUTPUT_DIR} began with other anchors than the data has now "
            f"(MODEL.ANCHOR_GENERATOR.SIZES {earlier.SIZES}); resume it with its config.yaml."
        )


def _found_in(folder: str) -> CfgNode | None:
    """MODEL.ANCHOR_GENERATOR of a run's config.yaml, if its AUTO is off."""
    path = os.path.join(folder, "config.yaml")
    if not os.path.isfile(path):
        return None
    keys = load_config(path).MODEL.ANCHOR_GENERATOR
    return None if keys.AUTO else keys
