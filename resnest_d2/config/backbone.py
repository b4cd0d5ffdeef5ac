"""Checks of a backbone's keys: MODEL.RESNETS, and MODEL.FPN on top of it."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch.utils import checkpoint as torch_checkpoint

from .rules import (
    ACTIVATION_CHECKPOINTS,
    DEPTHS,
    NORM,
    POSITIVE,
    Contradiction,
    Rule,
    Table,
    always,
    between,
    each,
    one_of,
    says,
    section,
)

# Builders with an FPN, and the number of levels that they add on top.
FPNS = {"build_resnest_fpn_backbone": 1, "build_retinanet_resnest_fpn_backbone": 2}

BACKBONE_RANGES = (
    Table(
        always,
        {
            "MODEL.BACKBONE.FREEZE_AT": one_of(*range(6)),
            **section(
                "RESNETS",
                DEPTH=one_of(*DEPTHS),
                NORM=NORM,
                ACTIVATION_CHECKPOINT=one_of(*ACTIVATION_CHECKPOINTS),
                RES5_DILATION=one_of(1, 2),
                NUM_GROUPS=POSITIVE,
                BOTTLENECK_WIDTH=POSITIVE,
                WIDTH_PER_GROUP=POSITIVE,
                DEFORM_NUM_GROUPS=POSITIVE,
                RES2_OUT_CHANNELS=POSITIVE,
                STEM_OUT_CHANNELS=POSITIVE,
                RADIX=between(0, what="0 (plain), 1, 2 or 4"),
                DEFORM_ON_PER_STAGE=Rule(
                    lambda v: isinstance(v, list | tuple) and len(v) == 4,
                    says("four values, one each for res2 to res5"),
                ),
                OUT_FEATURES=each(one_of("stem", "res2", "res3", "res4", "res5"), least=1),
            ),
        },
    ),
)


def _pool_first(cfg: CfgNode) -> str | None:
    keys = cfg.MODEL.RESNETS
    if keys.AVD_FIRST and not keys.AVD:
        return (
            "MODEL.RESNETS.AVD_FIRST is True and MODEL.RESNETS.AVD False: there is no average pool "
            "to put first; set AVD True, or AVD_FIRST False."
        )
    return None


def _two_widths(cfg: CfgNode) -> str | None:
    keys = cfg.MODEL.RESNETS
    if keys.WIDTH_PER_GROUP != 64 and keys.BOTTLENECK_WIDTH != 64:
        return (
            f"MODEL.RESNETS.WIDTH_PER_GROUP ({keys.WIDTH_PER_GROUP}) and BOTTLENECK_WIDTH "
            f"({keys.BOTTLENECK_WIDTH}) both set the width of a group; leave one of them at 64."
        )
    return None


def _odd_stem(cfg: CfgNode) -> str | None:
    keys = cfg.MODEL.RESNETS
    if keys.DEEP_STEM and keys.STEM_OUT_CHANNELS % 2:
        return (
            f"MODEL.RESNETS.STEM_OUT_CHANNELS is {keys.STEM_OUT_CHANNELS}; DEEP_STEM needs an even "
            "number."
        )
    return None


def activation_checkpoint_fault(mode: str, norm: str) -> str | None:
    """Explains why activations cannot be recomputed with these settings; None if they can.

    Args:
        mode: one of :data:`resnest_d2.config.rules.ACTIVATION_CHECKPOINTS`.
        norm: name of the block's norms.
    """
    if mode != "light":
        return None
    if norm in ("", "FrozenBN"):
        return (
            "MODEL.RESNETS.ACTIVATION_CHECKPOINT is 'light', which keeps the outputs of the "
            f"convolutions, but with MODEL.RESNETS.NORM {norm!r} training needs none of them, so "
            "it would use more memory than 'none'; set ACTIVATION_CHECKPOINT 'block' or 'none', or "
            "another NORM."
        )
    if not hasattr(torch_checkpoint, "create_selective_checkpoint_contexts"):
        return (
            "MODEL.RESNETS.ACTIVATION_CHECKPOINT is 'light', which needs torch 2.4 or newer, but "
            f"this is {torch.__version__}; set ACTIVATION_CHECKPOINT 'block' or 'none', or install "
            "a newer torch."
        )
    return None


def _activation_checkpoint(cfg: CfgNode) -> str | None:
    keys = cfg.MODEL.RESNETS
    return activation_checkpoint_fault(keys.ACTIVATION_CHECKPOINT, keys.NORM)


def _fpn_inputs(cfg: CfgNode) -> str | None:
    if cfg.MODEL.BACKBONE.NAME not in FPNS:
        return None
    names, there = list(cfg.MODEL.FPN.IN_FEATURES), list(cfg.MODEL.RESNETS.OUT_FEATURES)
    if not names:
        return (
            f"MODEL.FPN.IN_FEATURES is empty, but MODEL.BACKBONE.NAME is "
            f"{cfg.MODEL.BACKBONE.NAME}; set it to ['res2', 'res3', 'res4', 'res5']."
        )
    needed = [*names, *(["res5"] if FPNS[cfg.MODEL.BACKBONE.NAME] == 2 else [])]
    if missing := sorted({*needed} - {*there}):
        return (
            f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} with MODEL.FPN.IN_FEATURES {names} "
            f"needs {missing}, but MODEL.RESNETS.OUT_FEATURES has only {there}; add them there."
        )
    return None


def _fpn_strides(cfg: CfgNode) -> str | None:
    if cfg.MODEL.BACKBONE.NAME not in FPNS:
        return None
    names, dilation = list(cfg.MODEL.FPN.IN_FEATURES), cfg.MODEL.RESNETS.RES5_DILATION
    strides = {"stem": 4, "res2": 4, "res3": 8, "res4": 16, "res5": 32 // dilation}
    if not strides.keys() >= {*names}:
        return None  # another check reports them
    values = [strides[name] for name in names]
    if any(b != 2 * a for a, b in zip(values, values[1:], strict=False)):
        return (
            f"MODEL.FPN.IN_FEATURES {names} have strides {values} with "
            f"MODEL.RESNETS.RES5_DILATION {dilation}; in an FPN each must be twice the one before: "
            "set RES5_DILATION 1, or leave res5 out."
        )
    return None


BACKBONE_CONTRADICTIONS: Sequence[Contradiction] = (
    _pool_first,
    _two_widths,
    _odd_stem,
    _activation_checkpoint,
    _fpn_inputs,
    _fpn_strides,
)
