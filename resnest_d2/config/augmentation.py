"""Checks of the keys of augmentation, INPUT.AUG."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from .rules import ABOVE_ZERO, FRACTION, Contradiction, Rule, Table, always, between, each, says

_factors = each(ABOVE_ZERO, number=2)


def _is_transform(value: Any) -> bool:
    """Whether a value is [name, {argument: value}] with the plain name of a class."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 2
        and isinstance(value[0], str)
        and value[0].isidentifier()
        and isinstance(value[1], dict)
        and all(isinstance(name, str) for name in value[1])
    )


AUGMENTATION_RANGES = (
    Table(
        always,
        {
            "INPUT.AUG.SCALE_JITTER": Rule(
                lambda v: not v or (_factors.holds(v) and v[0] <= v[1]),
                says("() for none, or the smallest and the largest factor, such as (0.5, 2.0)"),
            ),
            "INPUT.AUG.ROTATION": between(0, 180, "degrees from 0 (off) to 180"),
            "INPUT.AUG.COLOR_JITTER": FRACTION,
            "INPUT.AUG.MOSAIC": FRACTION,
            "INPUT.AUG.ALBUMENTATIONS": Rule(
                lambda v: isinstance(v, Sequence) and all(map(_is_transform, v)),
                says(
                    "a list of [name of a transform, {argument: value}], such as "
                    "[['RandomRotate90', {}], ['GaussNoise', {'p': 0.3}]]"
                ),
            ),
        },
    ),
)


def _cropped_twice(cfg: CfgNode) -> str | None:
    if cfg.INPUT.AUG.SCALE_JITTER and cfg.INPUT.CROP.ENABLED:
        return (
            f"INPUT.AUG.SCALE_JITTER is {tuple(cfg.INPUT.AUG.SCALE_JITTER)}, which crops the "
            "images, but INPUT.CROP.ENABLED is True, too; set it False, or SCALE_JITTER ()."
        )
    return None


def _flipped_twice(cfg: CfgNode) -> str | None:
    if cfg.INPUT.AUG.VERTICAL_FLIP and cfg.INPUT.RANDOM_FLIP == "vertical":
        return (
            "INPUT.AUG.VERTICAL_FLIP is True, but INPUT.RANDOM_FLIP is 'vertical', too; set "
            "RANDOM_FLIP horizontal for flips both ways."
        )
    return None


def _flipped_keypoints(cfg: CfgNode) -> str | None:
    vertical = cfg.INPUT.AUG.VERTICAL_FLIP or cfg.INPUT.RANDOM_FLIP == "vertical"
    if cfg.MODEL.KEYPOINT_ON and vertical:
        key = "AUG.VERTICAL_FLIP" if cfg.INPUT.AUG.VERTICAL_FLIP else "RANDOM_FLIP"
        return (
            f"INPUT.{key} flips images vertically, but detectron2 swaps left and right keypoints "
            "only in horizontal flips; set VERTICAL_FLIP False and RANDOM_FLIP horizontal, or "
            "use ROTATION."
        )
    return None


def _unmoved_truth(cfg: CfgNode) -> str | None:
    keys, kind = cfg.INPUT.AUG, cfg.MODEL.META_ARCHITECTURE
    moving = [key for key in ("ROTATION", "MOSAIC", "ALBUMENTATIONS") if keys[key]]
    if moving and kind in ("PanopticFPN", "SemanticSegmentor"):
        return (
            f"INPUT.AUG.{moving[0]} is {keys[moving[0]]}, but it does not move the semantic "
            f"segmentation that MODEL.META_ARCHITECTURE {kind} is trained on; leave it out."
        )
    return None


def _no_colors(cfg: CfgNode) -> str | None:
    keys, order = cfg.INPUT.AUG, cfg.INPUT.FORMAT
    used = [key for key in ("COLOR_JITTER", "ALBUMENTATIONS") if keys[key]]
    if used and order == "YUV-BT.601":
        return (
            f"INPUT.AUG.{used[0]} is {keys[used[0]]}, but it needs pixels of 0 to 255, and "
            f"INPUT.FORMAT is {order!r}; set FORMAT BGR, RGB or L, or leave it out."
        )
    return None


AUGMENTATION_CONTRADICTIONS: Sequence[Contradiction] = (
    _cropped_twice,
    _flipped_twice,
    _flipped_keypoints,
    _unmoved_truth,
    _no_colors,
)
