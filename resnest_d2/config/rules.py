"""Building blocks of the tables of checks: rules for values, and conditions for applying them.

The rules of a table apply only if its keys have an effect: a wrong name of a mask head is harmless
without masks.
"""

import math
import re
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NamedTuple

from detectron2.config import CfgNode

from resnest_d2.outputs import name_fault

ACTIVATION_CHECKPOINTS = ("none", "light", "block")
DEPTHS = (14, 26, 50, 101, 152, 200, 269)  # of resnest_d2.modeling.ARCHS
DEPLOY_BACKENDS = ("eager", "inductor", "openvino")
DEPLOY_PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
LOW_QUALITY_MATCHES = ("detectron2", "mmdetection")
NORMS = ("", "BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN", "FrozenBN", "GN", "LN")
RESIZERS = ("pil", "cv2")


class Rule(NamedTuple):
    """Allowed values of a key: a test, and a description for error messages."""

    holds: Callable[[Any], bool]
    choices: Callable[[], str]


Contradiction = Callable[[CfgNode], str | None]


class Table(NamedTuple):
    """Rules by key, and whether they apply to a config."""

    concerns: Callable[[CfgNode], bool]
    rules: dict[str, Rule]


def says(text: str) -> Callable[[], str]:
    return lambda: text


def between(low: float, high: float = math.inf, what: str = "") -> Rule:
    """A number in a closed range."""
    if not what:
        what = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
    return Rule(lambda v: is_number(v) and low <= v <= high, says(what))


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def one_of(*allowed: object) -> Rule:
    return Rule(lambda v: v in allowed, says(f"from {allowed}"))


def each(rule: Rule, *, number: int | None = None, least: int = 0) -> Rule:
    """A list whose entries all satisfy a rule."""

    def holds(value: Any) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str) or len(value) < least:
            return False
        return number in (None, len(value)) and all(map(rule.holds, value))

    size = f"{number} values" if number else "a list" if not least else f"a list of {least} or more"
    return Rule(holds, lambda: f"{size}, each {rule.choices()}")


def per_level(rule: Rule) -> Rule:
    """Values for all levels, or one list per level."""
    level = each(rule, least=1)
    return Rule(
        lambda v: level.holds(v) or each(level, least=1).holds(v),
        lambda: f"one list per level, as in [[32], [64]], with each value {rule.choices()}",
    )


def ascending(rule: Rule) -> Rule:
    entries = each(rule)
    return Rule(
        lambda v: entries.holds(v) and list(v) == sorted(v),
        lambda: f"ascending values, each {rule.choices()}",
    )


def matching(pattern: str, what: str) -> Rule:
    return Rule(lambda v: isinstance(v, str) and bool(re.fullmatch(pattern, v)), says(what))


def registered(registry: str) -> Rule:
    """A name in a registry of detectron2.modeling, looked up late: others may register names."""

    def names() -> list[str]:
        from detectron2 import modeling  # here, because listing configs does not need it

        return sorted(name for name, _ in getattr(modeling, registry))

    return Rule(lambda v: v in names(), lambda: f"from {', '.join(map(repr, names()))}")


def is_rcnn(cfg: CfgNode) -> bool:
    """Whether the detector has an RPN."""
    without = ("", "PrecomputedProposals")
    rcnns = ("GeneralizedRCNN", "PanopticFPN", "ProposalNetwork")
    return cfg.MODEL.META_ARCHITECTURE in rcnns and cfg.MODEL.PROPOSAL_GENERATOR.NAME not in without


def has_roi_heads(cfg: CfgNode) -> bool:
    """Whether the detector classifies regions."""
    return cfg.MODEL.META_ARCHITECTURE in ("GeneralizedRCNN", "PanopticFPN")


def is_retinanet(cfg: CfgNode) -> bool:
    """Whether the detector is a RetinaNet."""
    return cfg.MODEL.META_ARCHITECTURE == "RetinaNet"


def has_box_head(cfg: CfgNode) -> bool:
    """Whether MODEL.ROI_BOX_HEAD names a head; Res5ROIHeads uses res5 instead."""
    return has_roi_heads(cfg) and not cfg.MODEL.ROI_HEADS.NAME.startswith("Res5")


def always(cfg: CfgNode) -> bool:
    return True


def section(section: str, **rules: Rule) -> dict[str, Rule]:
    return {f"MODEL.{section}.{key}": rule for key, rule in rules.items()}


# Of a data set, that the folder of its results is named after.
DATASET = Rule(
    lambda v: isinstance(v, str) and not name_fault(v),
    says("a name without /, \\ or control characters, of at most 200 bytes, and no device's"),
)
POSITIVE = between(1)
COUNT = between(0)
FRACTION = between(0, 1)
ABOVE_ZERO = Rule(lambda v: is_number(v) and 0 < v < math.inf, says("a number above 0"))
NORM = one_of(*NORMS)
OVERLAPS = ascending(FRACTION)
BOX_LOSSES = one_of("smooth_l1", "giou", "diou", "ciou")
POOLERS = one_of("", "ROIPool", "ROIAlign", "ROIAlignV2", "ROIAlignRotated")
