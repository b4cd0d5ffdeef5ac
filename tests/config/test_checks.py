"""Every check of a config, a case each."""

import pytest

from resnest_d2 import get_cfg
from resnest_d2.config import check_config, list_configs, load_config
from resnest_d2.config.rules import DEPTHS
from resnest_d2.errors import UserError
from resnest_d2.modeling import ARCHS

RETINA = ["MODEL.META_ARCHITECTURE", "RetinaNet"]
RETINA_P6P7 = [*RETINA, "MODEL.BACKBONE.NAME", "build_retinanet_resnest_fpn_backbone"]
RETINA_P6P7 += ["MODEL.FPN.IN_FEATURES", ["res3", "res4", "res5"]]
AUTO = ["MODEL.ANCHOR_GENERATOR.AUTO", True]
AGNOSTIC = "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"
CASCADE = ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads", AGNOSTIC, True]
EMA = ["MODEL.EMA.ENABLED", True]
INT8 = ["MODEL.DEPLOY.ENABLED", True, "MODEL.DEPLOY.PRECISION", "int8"]
STOP = ["SOLVER.EARLY_STOPPING.ENABLED", True]
AUG = ["TEST.AUG.ENABLED", True]
CROP = ["INPUT.CROP.ENABLED", True]
CLIP = ["SOLVER.CLIP_GRADIENTS.ENABLED", True]

# Of one key each: what is set before, the key, its value, words of the error beside the key.
VALUES = [
    ([], "DATASETS.TRAIN", ("../../x",), "without /"),
    ([], "DATASETS.TEST", ("shapes_val", "/etc/x"), "without /"),
    ([], "DATASETS.TEST", ("..",), "without /"),
    ([], "MODEL.DEVICE", "cudo", "cuda:1"),
    ([], "MODEL.META_ARCHITECTURE", "GeneralisedRCNN", "'GeneralizedRCNN'"),
    ([], "MODEL.BACKBONE.NAME", "build_resnest_fpn", "'build_resnest_fpn_backbone'"),
    ([], "MODEL.BACKBONE.FREEZE_AT", 6, "0, 1, 2, 3, 4, 5"),
    ([], "MODEL.RESNETS.DEPTH", 34, "14, 26, 50, 101"),
    ([], "MODEL.RESNETS.NORM", "BatchNorm", "'SyncBN'"),
    ([], "MODEL.RESNETS.RADIX", -1, "0 .plain"),
    ([], "MODEL.RESNETS.NUM_GROUPS", 0, "1 or more"),
    ([], "MODEL.RESNETS.RES5_DILATION", 3, r"\(1, 2\)"),
    ([], "MODEL.RESNETS.ACTIVATION_CHECKPOINT", "all", "'light', 'block'"),
    ([], "MODEL.RESNETS.OUT_FEATURES", ["res6"], "'res5'"),
    ([], "MODEL.RESNETS.DEFORM_ON_PER_STAGE", [True], "four values"),
    ([], "MODEL.FPN.NORM", "bn", "'BN'"),
    ([], "MODEL.FPN.OUT_CHANNELS", 0, "1 or more"),
    ([], "MODEL.FPN.FUSE_TYPE", "max", "'sum'"),
    ([], "MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "above 0"),
    ([], "MODEL.DEPLOY.BACKEND", "tensorrt", "'openvino'"),
    ([], "MODEL.PROPOSAL_GENERATOR.NAME", "RPM", "'TwoSidedRPN'"),
    ([], "MODEL.RPN.HEAD_NAME", "Head", "'StandardRPNHead'"),
    ([], "MODEL.RPN.LOW_QUALITY_MATCHES", "mmdet", "'mmdetection'"),
    ([], "MODEL.RPN.NMS_THRESH", 7.0, "0 to 1"),
    ([], "MODEL.RPN.IOU_THRESHOLDS", [0.7, 0.3], "ascend"),
    ([], "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 0, "1 or more"),
    ([], "MODEL.RPN.POSITIVE_FRACTION", 1.5, "0 to 1"),
    ([], "MODEL.RPN.BBOX_REG_LOSS_TYPE", "l1", "'giou'"),
    ([], "MODEL.RPN.PRE_NMS_TOPK_TRAIN", 0, "1 or more"),
    ([], "MODEL.RPN.POST_NMS_TOPK_TEST", 0, "1 or more"),
    ([], "MODEL.ANCHOR_GENERATOR.NAME", "Anchors", "'DefaultAnchorGenerator'"),
    ([], "MODEL.ANCHOR_GENERATOR.SIZES", [[0]], "above 0"),
    ([], "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [], "one list per level"),
    ([], "MODEL.ROI_HEADS.NAME", "ROIHead", "'StandardROIHeads'"),
    ([], "MODEL.ROI_HEADS.NUM_CLASSES", 0, "1 or more"),
    ([], "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 50.0, "0 to 1"),
    ([], "MODEL.ROI_HEADS.NMS_THRESH_TEST", -0.5, "0 to 1"),
    ([], "MODEL.ROI_HEADS.IOU_THRESHOLDS", [1.5], "0 to 1"),
    ([], "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 0, "1 or more"),
    ([], "MODEL.ROI_BOX_HEAD.NAME", "FastRCNN", "'CheckpointConvFCHead'"),
    ([], "MODEL.ROI_BOX_HEAD.NORM", "syncBN", "'SyncBN'"),
    ([], "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "Align", "'ROIAlignV2'"),
    ([], "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 0, "1 or more"),
    ([], "MODEL.ROI_BOX_HEAD.FC_DIM", 0, "1 or more"),
    ([], "MODEL.ROI_MASK_HEAD.NAME", "MaskHead", "'MaskRCNNConvUpsampleHead'"),
    ([], "MODEL.ROI_MASK_HEAD.NORM", "gn", "'GN'"),
    ([], "MODEL.ROI_MASK_HEAD.CONV_DIM", 0, "1 or more"),
    (["MODEL.KEYPOINT_ON", True], "MODEL.ROI_KEYPOINT_HEAD.NAME", "K", "'KRCNNConvDeconv"),
    (["MODEL.META_ARCHITECTURE", "PanopticFPN"], "MODEL.SEM_SEG_HEAD.NAME", "S", "'SemSegFPNHead'"),
    (["MODEL.META_ARCHITECTURE", "PanopticFPN"], "MODEL.SEM_SEG_HEAD.NORM", "S", "'GN'"),
    (RETINA, "MODEL.RETINANET.NORM", "S", "'GN'"),
    (RETINA, "MODEL.RETINANET.SCORE_THRESH_TEST", 2.0, "0 to 1"),
    ([], "INPUT.FORMAT", "HSV", "'BGR', 'RGB'"),
    ([], "INPUT.RESIZE", "nearest", "'pil', 'cv2'"),
    ([], "INPUT.MIN_SIZE_TRAIN", (), "a list of 1 or more"),
    ([], "INPUT.MIN_SIZE_TRAIN", (-1,), "0 .no resize. or more"),
    ([], "INPUT.MIN_SIZE_TRAIN_SAMPLING", "random", "'choice', 'range'"),
    ([], "INPUT.MAX_SIZE_TRAIN", 0, "1 or more"),
    ([], "INPUT.MIN_SIZE_TEST", -1, "0 .no resize. or more"),
    ([], "INPUT.MAX_SIZE_TEST", 0, "1 or more"),
    ([], "INPUT.RANDOM_FLIP", "both", "'horizontal'"),
    ([], "INPUT.MASK_FORMAT", "rle", "'bitmask'"),
    (CROP, "INPUT.CROP.TYPE", "centre", "'absolute'"),
    (CROP, "INPUT.CROP.SIZE", [0.9], "2 values"),
    ([], "DATALOADER.NUM_WORKERS", -1, "0 or more"),
    ([], "DATALOADER.SAMPLER_TRAIN", "Sampler", "'TrainingSampler'"),
    ([], "DATALOADER.MIN_IMAGE_SIZE", -1, "0 or more"),
    ([], "SOLVER.MAX_ITER", 0, "1 or more"),
    ([], "SOLVER.IMS_PER_BATCH", 0, "1 or more"),
    ([], "SOLVER.CHECKPOINT_PERIOD", 0, "1 or more"),
    ([], "SOLVER.EPOCHS", -1, "0 .off."),
    ([], "SOLVER.STEPS", (9, 3), "ascend"),
    ([], "SOLVER.BASE_LR", -0.1, "0 or more"),
    ([], "SOLVER.BASE_LR", float("nan"), "0 or more"),
    ([], "SOLVER.MOMENTUM", 9.0, "0 to 1"),
    ([], "SOLVER.WEIGHT_DECAY", -1.0, "0 or more"),
    ([], "SOLVER.GAMMA", 0.0, "above 0"),
    ([], "SOLVER.WARMUP_METHOD", "exp", "'linear'"),
    ([], "SOLVER.WARMUP_FACTOR", 2.0, "0 to 1"),
    ([], "SOLVER.LR_SCHEDULER_NAME", "Cosine", "'WarmupCosineLR'"),
    ([], "SOLVER.REFERENCE_WORLD_SIZE", -1, "0 .off."),
    (CLIP, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full", "'norm'"),
    (CLIP, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.0, "above 0"),
    (STOP, "SOLVER.EARLY_STOPPING.PATIENCE", 0, "1 or more"),
    (EMA, "MODEL.EMA.DECAY", 1.0, "between 0 and 1"),
    ([], "TEST.EVAL_PERIOD", -1, "0 .at the end"),
    ([], "TEST.EVAL_EPOCHS", -2, "0 .off."),
    ([], "TEST.DETECTIONS_PER_IMAGE", 0, "-1 for all"),
    (["TEST.PRECISE_BN.ENABLED", True], "TEST.PRECISE_BN.NUM_ITER", 0, "1 or more"),
    (AUG, "TEST.AUG.MIN_SIZES", (), "a list of 1 or more"),
]
# Keys that contradict each other, and words of the error.
TOGETHER = [
    (
        ["MODEL.RESNETS.AVD", False, "MODEL.RESNETS.AVD_FIRST", True],
        "AVD_FIRST is True and .*AVD False",
    ),
    (["MODEL.RESNETS.BOTTLENECK_WIDTH", 40], "WIDTH_PER_GROUP .16. and BOTTLENECK_WIDTH"),
    (["MODEL.RESNETS.STEM_OUT_CHANNELS", 63], "63; DEEP_STEM needs an even number"),
    (
        ["MODEL.RESNETS.ACTIVATION_CHECKPOINT", "light", "MODEL.RESNETS.NORM", "FrozenBN"],
        "ACTIVATION_CHECKPOINT is 'light'.*NORM 'FrozenBN'",
    ),
    (["MODEL.RESNETS.RES5_DILATION", 2], r"strides \[4, 8, 16, 16\]"),
    (["MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4"]], r"needs \['res5'\], but .*OUT_FEAT"),
    (["MODEL.FPN.IN_FEATURES", []], "FPN.IN_FEATURES is empty"),
    (["MODEL.ROI_MASK_HEAD.PER_STAGE", True], "PER_STAGE is True, but .*NAME is StandardROIHeads"),
    (["MODEL.RPN.SKIP_PADDING", True], "SKIP_PADDING is True, but .*NAME is RPN"),
    (RETINA, "RETINANET.IN_FEATURES .*'p7'.*set MODEL.BACKBONE.NAME build_retinanet_resnest_fpn"),
    (["MODEL.RPN.IN_FEATURES", ["p2", "p7"]], r"RPN.IN_FEATURES is \['p2', 'p7'\].* gives \['p2'"),
    (["MODEL.ROI_HEADS.IN_FEATURES", ["res4"]], r"ROI_HEADS.IN_FEATURES is \['res4'\]"),
    (["MODEL.BACKBONE.NAME", "build_resnest_backbone"], r"RPN.IN_FEATURES .* gives \['res2'"),
    (["MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32]]], "SIZES has 3 lists.*names 5 levels"),
    (["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[1.0]] * 2], "ASPECT_RATIOS has 2 lists"),
    ([*AUTO, *RETINA_P6P7], "AUTO is True, .* MODEL.META_ARCHITECTURE RetinaNet"),
    (
        [*AUTO, "MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"],
        "AUTO is True, .* MODEL.PROPOSAL_GENERATOR.NAME 'PrecomputedProposals'",
    ),
    ([*AUTO, "MODEL.ANCHOR_GENERATOR.NAME", "RotatedAnchorGenerator"], "NAME is RotatedAnchorGen"),
    (
        [*AUTO, "MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128, 256]]],
        "AUTO is True, .* as many SIZES in every level",
    ),
    (["MODEL.ROI_BOX_HEAD.NUM_FC", 0], "NUM_CONV and NUM_FC are both 0"),
    (["MODEL.FPN.NORM", "GN"], "FPN.NORM is 'GN', whose 32 groups do not divide .* 16"),
    (["MODEL.ROI_MASK_HEAD.NORM", "GN"], "ROI_MASK_HEAD.NORM is 'GN'.*CONV_DIM 16"),
    (CASCADE[:2], "CascadeROIHeads, which predicts one box .*CLS_AGNOSTIC_BBOX_REG is False"),
    ([*CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.IOUS", (0.5, 0.6)], "BBOX_REG_WEIGHTS has 3 rows"),
    ([*CASCADE, "MODEL.ROI_HEADS.IOU_THRESHOLDS", [0.4]], r"IOUS is .*IOU_THRESHOLDS \[0.4\]"),
    (["MODEL.RPN.IOU_LABELS", [0, 1]], r"RPN.IOU_LABELS \[0, 1\] must have one value more"),
    (["MODEL.PIXEL_MEAN", [1.0]], "PIXEL_MEAN has 1 values and MODEL.PIXEL_STD 3"),
    (["INPUT.FORMAT", "L"], "INPUT.FORMAT is 'L'"),
    (
        [
            "MODEL.DEPLOY.ENABLED",
            True,
            "MODEL.DEPLOY.PRECISION",
            "fp32",
            "MODEL.DEPLOY.AMP",
            True,
        ],
        "DEPLOY.PRECISION is 'fp32', but MODEL.DEPLOY.AMP is True",
    ),
    (
        [*INT8, "MODEL.DEPLOY.BACKEND", "inductor"],
        "PRECISION is 'int8', but MODEL.DEPLOY.BACKEND is 'inductor'",
    ),
    ([*INT8, "TEST.AUG.ENABLED", True], "PRECISION is 'int8', but TEST.AUG.ENABLED is True"),
    (["DATASETS.CLASSES", ["a", "b"], "DATASETS.CATEGORY_IDS", [1]], "2 names .* 1 ids"),
    (STOP, "ENABLED is True, but nothing is evaluated during training.*TEST.EVAL_PERIOD 0"),
    (["TEST.VALIDATION_LOSS", True, "DATASETS.TEST", ()], "DATASETS.TEST is empty"),
    ([*EMA, "TEST.PRECISE_BN.ENABLED", True], "EMA.ENABLED and TEST.PRECISE_BN.ENABLED are"),
    ([*AUG, "MODEL.KEYPOINT_ON", True], "TEST.AUG.ENABLED is True, but"),
    ([*AUG, "MODEL.META_ARCHITECTURE", "PanopticFPN"], "TEST.AUG.ENABLED is True, but"),
    (["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range"], r"MIN_SIZE_TRAIN is \(800,\), but"),
    ([*CROP, "INPUT.CROP.SIZE", [9.0, 9.0]], "CROP.TYPE is relative_range: give fractions"),
    (["SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.0], "NESTEROV is True, but SOLVER.MOMENTUM"),
]


@pytest.mark.parametrize(("before", "key", "value", "words"), VALUES, ids=lambda v: str(v)[:40])
def test_values_out_of_range_are_refused(before, key, value, words, rcnn_cfg):
    check_config(rcnn_cfg)
    rcnn_cfg.merge_from_list([*before, key, value])
    rcnn_cfg.freeze()
    with pytest.raises(UserError, match=rf"^{key} is .*; choose .*{words}"):
        check_config(rcnn_cfg)


@pytest.mark.parametrize(("keys", "words"), TOGETHER, ids=lambda v: str(v)[:60])
def test_keys_that_contradict_each_other_are_refused(keys, words, rcnn_cfg):
    rcnn_cfg.DATASETS.TEST = ("some",)
    rcnn_cfg.merge_from_list(keys)
    with pytest.raises(UserError, match=words):
        check_config(rcnn_cfg)


@pytest.mark.parametrize("name", list_configs())
def test_every_config_that_ships_passes(name):
    check_config(load_config(name))


def test_a_retinanet_passes(rcnn_cfg):
    rcnn_cfg.merge_from_list(RETINA_P6P7)
    check_config(rcnn_cfg)


def test_prediction_asks_nothing_of_a_training(rcnn_cfg):
    rcnn_cfg.SOLVER.MAX_ITER = 0
    rcnn_cfg.TEST.AUG.ENABLED = rcnn_cfg.MODEL.KEYPOINT_ON = True
    check_config(rcnn_cfg, predicting=True)
    with pytest.raises(UserError, match="SOLVER.MAX_ITER is 0"):
        check_config(rcnn_cfg)


@pytest.mark.parametrize(
    "keys",
    [
        ["MODEL.ROI_HEADS.NAME", "Res5ROIHeads", "MODEL.ROI_BOX_HEAD.NAME", ""],  # res5 is its head
        ["MODEL.MASK_ON", False, "MODEL.ROI_MASK_HEAD.NAME", "mine"],
        ["MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals"],
        ["MODEL.ANCHOR_GENERATOR.SIZES", [[8, 16]]],  # for all levels
        ["MODEL.ANCHOR_GENERATOR.SIZES", [8, 16]],
        ["MODEL.DEVICE", "cuda:1"],
        ["TEST.DETECTIONS_PER_IMAGE", -1],
    ],
    ids=str,
)
def test_what_means_something_else_elsewhere_passes(keys, rcnn_cfg):
    rcnn_cfg.merge_from_list(keys)
    check_config(rcnn_cfg)


def test_a_plain_resnet_of_detectron2_passes():
    check_config(get_cfg())  # Faster R-CNN on res4 of a ResNet-50, AVD and STRIDE_IN_1X1 True


def test_the_depths_are_those_of_the_table():
    assert tuple(ARCHS) == DEPTHS
