"""Checks for keys of a detector that contradict each other.

Each check returns an error message, or None if it passes.
"""

from collections.abc import Sequence

from detectron2.config import CfgNode

from .backbone import FPNS
from .keys import default_of, get_key
from .rules import Contradiction, has_box_head, has_roi_heads, is_rcnn, is_retinanet

# Keys that only one class reads: (key that names the class, the class, keys under MODEL).
_KEYS_OF_CLASSES = (
    (
        "ROI_HEADS.NAME",
        "CascadeMaskROIHeads",
        (
            "ROI_BOX_CASCADE_HEAD.STAGE_LOSS_WEIGHTS",
            "ROI_BOX_CASCADE_HEAD.RESAMPLE",
            "ROI_BOX_CASCADE_HEAD.AVERAGE_LOGITS",
            "ROI_BOX_CASCADE_HEAD.SCALE_FEATURE_GRADIENTS",
            "ROI_BOX_CASCADE_HEAD.TWO_SIDED_CLAMP",
            "ROI_MASK_HEAD.PER_STAGE",
        ),
    ),
    ("ROI_HEADS.NAME", "TwoSidedROIHeads", ("ROI_HEADS.LOW_QUALITY_MATCHES",)),
    (
        "PROPOSAL_GENERATOR.NAME",
        "TwoSidedRPN",
        ("RPN.LOW_QUALITY_MATCHES", "RPN.SKIP_PADDING"),
    ),
)
_GN_GROUPS = 32  # of detectron2's "GN"


def _unread_keys(cfg: CfgNode) -> str | None:
    for name_key, known, keys in _KEYS_OF_CLASSES:
        name = get_key(cfg.MODEL, name_key)
        for key in keys:
            value = get_key(cfg.MODEL, key)
            if name != known and value != default_of(f"MODEL.{key}"):
                return (
                    f"MODEL.{key} is {value!r}, but MODEL.{name_key} is {name}, which does not "
                    f"use it; set NAME to {known}, or leave the key out."
                )
    return None


def _levels_of(cfg: CfgNode) -> list[str] | None:
    """Names of the feature maps of one of this package's backbones; None for other backbones."""
    name = cfg.MODEL.BACKBONE.NAME
    if name == "build_resnest_backbone":
        return list(cfg.MODEL.RESNETS.OUT_FEATURES)
    inputs = list(cfg.MODEL.FPN.IN_FEATURES)
    if name not in FPNS or not inputs or not all(n[3:].isdigit() for n in inputs):
        return None
    numbers = [int(n[3:]) for n in inputs]
    numbers += [numbers[-1] + 1 + i for i in range(FPNS[name])]
    return [f"p{number}" for number in numbers]


def _unknown_levels(cfg: CfgNode) -> str | None:
    levels = _levels_of(cfg)
    for concerned, key in (
        (is_rcnn(cfg), "MODEL.RPN.IN_FEATURES"),
        (has_roi_heads(cfg), "MODEL.ROI_HEADS.IN_FEATURES"),
        (is_retinanet(cfg), "MODEL.RETINANET.IN_FEATURES"),
    ):
        names = list(get_key(cfg, key))
        if not concerned or levels is None or {*names} <= {*levels}:
            continue
        other = next(iter({*FPNS} - {cfg.MODEL.BACKBONE.NAME}))
        advice = f"choose from these, or set MODEL.BACKBONE.NAME {other}"
        if cfg.MODEL.BACKBONE.NAME == "build_resnest_backbone":
            advice = "choose from these, add to MODEL.RESNETS.OUT_FEATURES, or use an FPN's NAME"
        if is_retinanet(cfg):
            advice = "set MODEL.BACKBONE.NAME build_retinanet_resnest_fpn_backbone for a RetinaNet"
        return (
            f"{key} is {names}, but MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} gives {levels}; "
            f"{advice}."
        )
    return None


def _anchors(cfg: CfgNode) -> str | None:
    if not is_rcnn(cfg) and not is_retinanet(cfg):
        return None
    key = "MODEL.RETINANET.IN_FEATURES" if is_retinanet(cfg) else "MODEL.RPN.IN_FEATURES"
    levels = len(get_key(cfg, key))
    for name in ("SIZES", "ASPECT_RATIOS"):
        values = cfg.MODEL.ANCHOR_GENERATOR[name]
        nested = isinstance(values[0], list | tuple)
        if nested and len(values) not in (1, levels):
            return (
                f"MODEL.ANCHOR_GENERATOR.{name} has {len(values)} lists, one per level, but {key} "
                f"names {levels} levels; give as many lists, or one for all."
            )
    return None


def _empty_box_head(cfg: CfgNode) -> str | None:
    keys = cfg.MODEL.ROI_BOX_HEAD
    heads = ("FastRCNNConvFCHead", "CheckpointConvFCHead")
    if has_box_head(cfg) and keys.NAME in heads and not keys.NUM_CONV and not keys.NUM_FC:
        return (
            "MODEL.ROI_BOX_HEAD.NUM_CONV and NUM_FC are both 0, so the box head has no layers; set "
            "one of them to 1 or more."
        )
    return None


def _group_norms(cfg: CfgNode) -> str | None:
    panoptic = cfg.MODEL.META_ARCHITECTURE == "PanopticFPN"
    for concerned, section, width in (
        ("fpn" in cfg.MODEL.BACKBONE.NAME, "FPN", "OUT_CHANNELS"),
        (has_box_head(cfg) and cfg.MODEL.ROI_BOX_HEAD.NUM_CONV, "ROI_BOX_HEAD", "CONV_DIM"),
        (has_roi_heads(cfg) and cfg.MODEL.MASK_ON, "ROI_MASK_HEAD", "CONV_DIM"),
        (panoptic, "SEM_SEG_HEAD", "CONVS_DIM"),
    ):
        keys = cfg.MODEL[section]
        if concerned and keys.NORM == "GN" and keys[width] % _GN_GROUPS:
            return (
                f"MODEL.{section}.NORM is 'GN', whose {_GN_GROUPS} groups do not divide "
                f"MODEL.{section}.{width} {keys[width]}; choose a multiple of {_GN_GROUPS}, or "
                "another NORM."
            )
    return None


def _cascade_boxes(cfg: CfgNode) -> str | None:
    name = cfg.MODEL.ROI_HEADS.NAME
    if has_roi_heads(cfg) and name.startswith("Cascade"):
        if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
            return (
                f"MODEL.ROI_HEADS.NAME is {name}, which predicts one box for all classes, but "
                "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG is False; set it True."
            )
    return None


def _cascade_stages(cfg: CfgNode) -> str | None:
    name, keys = cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_CASCADE_HEAD
    if not has_roi_heads(cfg) or not name.startswith("Cascade"):
        return None
    weights, stages = tuple(keys.STAGE_LOSS_WEIGHTS), len(keys.IOUS)
    if weights and len(weights) != stages:
        return (
            f"MODEL.ROI_BOX_CASCADE_HEAD.STAGE_LOSS_WEIGHTS {weights} has {len(weights)} values; "
            f"IOUS has {stages} stages."
        )
    if len(keys.BBOX_REG_WEIGHTS) != stages:
        return (
            f"MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS has {len(keys.BBOX_REG_WEIGHTS)} rows; "
            f"IOUS has {stages} stages."
        )
    first = cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS
    if not stages or [keys.IOUS[0]] != list(first):
        return (
            f"MODEL.ROI_BOX_CASCADE_HEAD.IOUS is {tuple(keys.IOUS)}; its first value must equal "
            f"MODEL.ROI_HEADS.IOU_THRESHOLDS {list(first)}."
        )
    return None


def _masks_without_pooler(cfg: CfgNode) -> str | None:
    keys = cfg.MODEL.ROI_MASK_HEAD
    if cfg.MODEL.MASK_ON and keys.PER_STAGE and not keys.POOLER_TYPE:
        return (
            "MODEL.ROI_MASK_HEAD.PER_STAGE needs pooled features, but POOLER_TYPE is empty; set it "
            "to ROIAlignV2, or PER_STAGE False."
        )
    return None


def _labels(cfg: CfgNode) -> str | None:
    for concerned, section in (
        (is_rcnn(cfg), "RPN"),
        (has_roi_heads(cfg), "ROI_HEADS"),
        (is_retinanet(cfg), "RETINANET"),
    ):
        keys = cfg.MODEL[section]
        if concerned and len(keys.IOU_LABELS) != len(keys.IOU_THRESHOLDS) + 1:
            return (
                f"MODEL.{section}.IOU_LABELS {list(keys.IOU_LABELS)} must have one value more than "
                f"IOU_THRESHOLDS {list(keys.IOU_THRESHOLDS)}: a label for each interval."
            )
    return None


def _channels(cfg: CfgNode) -> str | None:
    mean, std, order = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, cfg.INPUT.FORMAT
    if len(mean) != len(std) or (len(mean) == 1) != (order == "L"):
        return (
            f"MODEL.PIXEL_MEAN has {len(mean)} values and MODEL.PIXEL_STD {len(std)}, but "
            f"INPUT.FORMAT is {order!r}; give one of each for every channel."
        )
    return None


def _precision(cfg: CfgNode) -> str | None:
    keys = cfg.MODEL.DEPLOY
    other = {
        "MODEL.DEPLOY.AMP is True": keys.AMP and keys.PRECISION not in ("auto", "bf16", "fp16"),
        "MODEL.DEPLOY.BACKEND is 'inductor'": keys.BACKEND == "inductor"
        and keys.PRECISION == "int8",
        "TEST.AUG.ENABLED is True": keys.PRECISION == "int8" and cfg.TEST.AUG.ENABLED,
    }
    if keys.ENABLED and (name := next((n for n, wrong in other.items() if wrong), None)):
        return f"MODEL.DEPLOY.PRECISION is {keys.PRECISION!r}, but {name}; change one of them."
    return None


def _class_ids(cfg: CfgNode) -> str | None:
    names, ids = cfg.DATASETS.CLASSES, cfg.DATASETS.CATEGORY_IDS
    if names and ids and len(names) != len(ids):
        return (
            f"DATASETS.CLASSES has {len(names)} names and DATASETS.CATEGORY_IDS {len(ids)} ids; "
            "give an id for each name, in the same order, or leave the ids out."
        )
    return None


def _proposals(cfg: CfgNode) -> str | None:
    if cfg.MODEL.LOAD_PROPOSALS:
        return (
            "MODEL.LOAD_PROPOSALS is True: detectron2 reads the files of DATASETS.PROPOSAL_FILES_* "
            "as pickles, which can run any code; set it False and use an RPN."
        )
    return None


# Asked of every config before its data is read, whoever reads it.
UNSAFE_KEYS: Sequence[Contradiction] = (_proposals,)
DETECTOR_CONTRADICTIONS: Sequence[Contradiction] = (
    *UNSAFE_KEYS,
    _unread_keys,
    _unknown_levels,
    _anchors,
    _empty_box_head,
    _group_norms,
    _cascade_boxes,
    _cascade_stages,
    _masks_without_pooler,
    _labels,
    _channels,
    _precision,
    _class_ids,
)
