"""Every check of a config's keys, before anything heavy begins.

The tables are beside this file: of a ResNeSt in :mod:`.backbone`, of a detector in
:mod:`.detector` and :mod:`.contradictions`, of a training or an evaluation in :mod:`.run`.
"""

import logging
from collections.abc import Iterable

from detectron2.config import CfgNode

from resnest_d2.errors import UserError

from .backbone import BACKBONE_CONTRADICTIONS, BACKBONE_RANGES
from .contradictions import DETECTOR_CONTRADICTIONS
from .detector import DETECTOR_RANGES
from .keys import get_key, with_defaults
from .rules import Contradiction, Table
from .run import RUN_CONTRADICTIONS, RUN_RANGES

_ABSENT = object()
_PUBLISHED_DEEP = 128  # channels of the stem from depth 101 on


def check_config(cfg: CfgNode, *, predicting: bool = False) -> None:
    """Refuse a config that cannot work, whatever data it is for.

    Args:
        cfg: config; it is not changed.
        predicting: leave out what only concerns training and evaluation.

    Raises:
        UserError: naming the keys, what they are and what to choose.
    """
    cfg = with_defaults(cfg)
    parts = [
        (BACKBONE_RANGES, BACKBONE_CONTRADICTIONS, "resnest" in cfg.MODEL.BACKBONE.NAME),
        (DETECTOR_RANGES, DETECTOR_CONTRADICTIONS, True),
        (RUN_RANGES, RUN_CONTRADICTIONS, not predicting),
    ]
    asked = [part for part in parts if part[2]]
    for tables, _, _ in asked:  # all values first: contradictions rely on their types
        _check_values(cfg, tables)
    for _, contradictions, _ in asked:
        _check_together(cfg, contradictions)


def check_backbone(cfg: CfgNode) -> None:
    """The part of :func:`check_config` that a ResNeSt is built from.

    Raises:
        UserError: as :func:`check_config`.
    """
    cfg = with_defaults(cfg)
    _check_values(cfg, BACKBONE_RANGES)
    _check_together(cfg, BACKBONE_CONTRADICTIONS)


def _check_values(cfg: CfgNode, tables: Iterable[Table]) -> None:
    for table in tables:
        if not table.concerns(cfg):
            continue
        for key, rule in table.rules.items():
            value = get_key(cfg, key, _ABSENT)  # absent in another version of detectron2
            if value is not _ABSENT and not rule.holds(value):
                raise UserError(f"{key} is {value!r}; choose {rule.choices()}.")


def _check_together(cfg: CfgNode, contradictions: Iterable[Contradiction]) -> None:
    for contradiction in contradictions:
        if fault := contradiction(cfg):
            raise UserError(fault)


def resolve_backbone(cfg: CfgNode) -> CfgNode:
    """A ResNeSt's config with what detectron2's defaults cannot mean replaced, and logged.

    STRIDE_IN_1X1 True beside AVD is detectron2's default and no choice: the average pool carries
    the stride, as in the authors' configs. So is a deep stem of 64 channels from depth 101 on,
    which no published weights fit.

    Args:
        cfg: config; it is not changed.

    Returns:
        The config itself where nothing is to be done; else a copy, frozen if it was.
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
