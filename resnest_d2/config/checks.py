"""Checks all keys of a config before any heavy work starts.

The tables of checks are in :mod:`.backbone`, in :mod:`.detector` and :mod:`.contradictions`, and,
for training and evaluation, in :mod:`.run` and :mod:`.augmentation`.
"""

import logging
from collections.abc import Iterable

from detectron2.config import CfgNode

from resnest_d2.errors import UserError

from .augmentation import AUGMENTATION_CONTRADICTIONS, AUGMENTATION_RANGES
from .backbone import BACKBONE_CONTRADICTIONS, BACKBONE_RANGES
from .contradictions import DETECTOR_CONTRADICTIONS, UNSAFE_KEYS
from .detector import DETECTOR_RANGES
from .keys import ABSENT, get_key, with_defaults
from .rules import Contradiction, Table
from .run import (
    RUN_CONTRADICTIONS,
    RUN_RANGES,
    SCHEDULE_CONTRADICTIONS,
    TRAINED_CONTRADICTIONS,
)

_PUBLISHED_DEEP = 128  # output channels of the stem, from depth 101 on


def check_config(cfg: CfgNode, *, predicting: bool = False, fitted: bool = True) -> None:
    """Checks that a config can work, independently of its datasets.

    Args:
        cfg: config; it is not changed.
        predicting: skip the checks that only concern training and evaluation.
        fitted: whether the schedule is the one that runs; its checks are skipped if it is not.

    Raises:
        UserError: a key has an impossible value, or keys contradict each other.
    """
    cfg = with_defaults(cfg)
    parts = [
        (BACKBONE_RANGES, BACKBONE_CONTRADICTIONS, "resnest" in cfg.MODEL.BACKBONE.NAME),
        (DETECTOR_RANGES, DETECTOR_CONTRADICTIONS, True),
        (RUN_RANGES, RUN_CONTRADICTIONS, not predicting),
        (AUGMENTATION_RANGES, AUGMENTATION_CONTRADICTIONS, not predicting),
        ((), SCHEDULE_CONTRADICTIONS, fitted and not predicting),
        ((), TRAINED_CONTRADICTIONS, predicting),
    ]
    asked = [part for part in parts if part[2]]
    for tables, _, _ in asked:  # all values first: contradictions rely on their types
        _check_values(cfg, tables)
    for _, contradictions, _ in asked:
        _check_together(cfg, contradictions)


def check_trained(cfg: CfgNode) -> None:
    """Checks only what the config of a trained detector must have, e.g. for an evaluation.

    Raises:
        UserError: a key that a training resolves is unresolved.
    """
    _check_together(with_defaults(cfg), TRAINED_CONTRADICTIONS)


def check_unsafe_keys(cfg: CfgNode) -> None:
    """Checks only that no key has detectron2 run a file's code when it reads the data.

    Raises:
        UserError: a key does.
    """
    _check_together(with_defaults(cfg), UNSAFE_KEYS)


def check_backbone(cfg: CfgNode) -> None:
    """Checks only the keys that a ResNeSt backbone is built from.

    Raises:
        UserError: see :func:`check_config`.
    """
    cfg = with_defaults(cfg)
    _check_values(cfg, BACKBONE_RANGES)
    _check_together(cfg, BACKBONE_CONTRADICTIONS)


def _check_values(cfg: CfgNode, tables: Iterable[Table]) -> None:
    for table in tables:
        if not table.concerns(cfg):
            continue
        for key, rule in table.rules.items():
            value = get_key(cfg, key, ABSENT)  # missing in another version of detectron2
            if value is not ABSENT and not rule.holds(value):
                raise UserError(f"{key} is {value!r}; choose {rule.choices()}.")


def _check_together(cfg: CfgNode, contradictions: Iterable[Contradiction]) -> None:
    for contradiction in contradictions:
        if fault := contradiction(cfg):
            raise UserError(fault)


def resolve_backbone(cfg: CfgNode) -> CfgNode:
    """Replaces detectron2 defaults that do not fit a ResNeSt, and logs each replacement.

    STRIDE_IN_1X1 True with AVD is only detectron2's default: the average pool carries the stride,
    as in the authors' configs. So is a deep stem of 64 channels from depth 101 on, for which there
    are no published weights.

    Args:
        cfg: config; it is not changed.

    Returns:
        The same config if nothing needs replacing; else a copy, frozen if ``cfg`` is.
    """
    keys = with_defaults(cfg).MODEL.RESNETS
    new: dict[str, tuple[int, str]] = {}
    if keys.AVD and keys.STRIDE_IN_1X1:
        new["STRIDE_IN_1X1"] = (False, "AVD is True")
    if keys.DEEP_STEM and keys.DEPTH >= 101 and keys.STEM_OUT_CHANNELS == 64:
        new["STEM_OUT_CHANNELS"] = (_PUBLISHED_DEEP, f"DEPTH is {keys.DEPTH}")
    if not new:
        return cfg
    resolved = cfg.clone()
    resolved.defrost()
    for key, (value, reason) in new.items():
        before, resolved.MODEL.RESNETS[key] = resolved.MODEL.RESNETS[key], value
        logging.getLogger(__name__).info(
            f"MODEL.RESNETS.{key} is {value} and not detectron2's {before}, because {reason}."
        )
    if cfg.is_frozen():
        resolved.freeze()
    return resolved
