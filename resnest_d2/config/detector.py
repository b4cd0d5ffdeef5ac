"""Table of the allowed values of a detector's keys."""

import math

from .rules import (
    ABOVE_ZERO,
    BOX_LOSSES,
    COUNT,
    DEPLOY_BACKENDS,
    DEPLOY_PRECISIONS,
    FRACTION,
    LOW_QUALITY_MATCHES,
    NORM,
    OVERLAPS,
    POOLERS,
    POSITIVE,
    RESIZERS,
    Rule,
    Table,
    always,
    between,
    each,
    has_box_head,
    has_roi_heads,
    is_number,
    is_rcnn,
    is_retinanet,
    matching,
    one_of,
    per_level,
    registered,
    says,
    section,
)

_ANCHORS = section(
    "ANCHOR_GENERATOR",
    NAME=registered("ANCHOR_GENERATOR_REGISTRY"),
    SIZES=per_level(ABOVE_ZERO),
    ASPECT_RATIOS=per_level(ABOVE_ZERO),
)
# Of a head that pools its regions.
_POOLED = {
    "POOLER_RESOLUTION": POSITIVE,
    "POOLER_SAMPLING_RATIO": COUNT,
    "POOLER_TYPE": POOLERS,
    "NUM_CONV": COUNT,
    "CONV_DIM": POSITIVE,
    "NORM": NORM,
}
DETECTOR_RANGES = (
    Table(
        always,
        {
            "MODEL.DEVICE": matching(
                r"(cpu|cuda|mps|xpu|meta)(:\d+)?", "cpu, cuda, or cuda:1 and so on"
            ),
            "MODEL.META_ARCHITECTURE": registered("META_ARCH_REGISTRY"),
            "MODEL.BACKBONE.NAME": registered("BACKBONE_REGISTRY"),
            "MODEL.PIXEL_MEAN": each(between(-math.inf, what="a number"), least=1),
            "MODEL.PIXEL_STD": each(ABOVE_ZERO, least=1),
            "MODEL.DEPLOY.BACKEND": one_of(*DEPLOY_BACKENDS),
            "MODEL.DEPLOY.PRECISION": one_of(*DEPLOY_PRECISIONS),
            "MODEL.FPN.NORM": NORM,
            "MODEL.FPN.OUT_CHANNELS": POSITIVE,
            "MODEL.FPN.FUSE_TYPE": one_of("sum", "avg"),
            "INPUT.FORMAT": one_of("BGR", "RGB", "L", "YUV-BT.601"),
            "INPUT.RESIZE": one_of(*RESIZERS),
            "INPUT.MIN_SIZE_TEST": between(0, what="0 (no resize) or more"),
            "INPUT.MAX_SIZE_TEST": POSITIVE,
            "TEST.DETECTIONS_PER_IMAGE": Rule(
                lambda v: v == -1 or (is_number(v) and v >= 1), says("1 or more, or -1 for all")
            ),
        },
    ),
    Table(
        is_rcnn,
        {
            "MODEL.PROPOSAL_GENERATOR.NAME": registered("PROPOSAL_GENERATOR_REGISTRY"),
            "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": COUNT,
            **_ANCHORS,
            **section(
                "RPN",
                HEAD_NAME=registered("RPN_HEAD_REGISTRY"),
                LOW_QUALITY_MATCHES=one_of(*LOW_QUALITY_MATCHES),
                IOU_THRESHOLDS=OVERLAPS,
                BATCH_SIZE_PER_IMAGE=POSITIVE,
                POSITIVE_FRACTION=FRACTION,
                BBOX_REG_LOSS_TYPE=BOX_LOSSES,
                SMOOTH_L1_BETA=COUNT,
                PRE_NMS_TOPK_TRAIN=POSITIVE,
                PRE_NMS_TOPK_TEST=POSITIVE,
                POST_NMS_TOPK_TRAIN=POSITIVE,
                POST_NMS_TOPK_TEST=POSITIVE,
                NMS_THRESH=FRACTION,
            ),
        },
    ),
    Table(
        has_roi_heads,
        section(
            "ROI_HEADS",
            NAME=registered("ROI_HEADS_REGISTRY"),
            NUM_CLASSES=POSITIVE,
            LOW_QUALITY_MATCHES=one_of(*LOW_QUALITY_MATCHES),
            IOU_THRESHOLDS=OVERLAPS,
            BATCH_SIZE_PER_IMAGE=POSITIVE,
            POSITIVE_FRACTION=FRACTION,
            SCORE_THRESH_TEST=FRACTION,
            NMS_THRESH_TEST=FRACTION,
        ),
    ),
    Table(
        has_box_head,
        section(
            "ROI_BOX_HEAD",
            NAME=registered("ROI_BOX_HEAD_REGISTRY"),
            BBOX_REG_LOSS_TYPE=BOX_LOSSES,
            SMOOTH_L1_BETA=COUNT,
            NUM_FC=COUNT,
            FC_DIM=POSITIVE,
            **_POOLED,
        ),
    ),
    Table(
        lambda cfg: has_roi_heads(cfg) and cfg.MODEL.MASK_ON,
        section(
            "ROI_MASK_HEAD",
            NAME=registered("ROI_MASK_HEAD_REGISTRY"),
            **_POOLED,
        ),
    ),
    Table(
        lambda cfg: has_roi_heads(cfg) and cfg.MODEL.KEYPOINT_ON,
        section("ROI_KEYPOINT_HEAD", NAME=registered("ROI_KEYPOINT_HEAD_REGISTRY")),
    ),
    Table(
        lambda cfg: cfg.MODEL.META_ARCHITECTURE in ("PanopticFPN", "SemanticSegmentor"),
        section(
            "SEM_SEG_HEAD",
            NAME=registered("SEM_SEG_HEADS_REGISTRY"),
            NORM=NORM,
            CONVS_DIM=POSITIVE,
            NUM_CLASSES=POSITIVE,
        ),
    ),
    Table(
        is_retinanet,
        {
            **_ANCHORS,
            **section(
                "RETINANET",
                NUM_CLASSES=POSITIVE,
                NUM_CONVS=COUNT,
                NORM=NORM,
                IOU_THRESHOLDS=OVERLAPS,
                BBOX_REG_LOSS_TYPE=BOX_LOSSES,
                SCORE_THRESH_TEST=FRACTION,
                NMS_THRESH_TEST=FRACTION,
                TOPK_CANDIDATES_TEST=POSITIVE,
            ),
        },
    ),
)
