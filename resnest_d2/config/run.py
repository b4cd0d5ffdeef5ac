"""Checks of the keys of training and evaluation: INPUT, DATALOADER, SOLVER, TEST."""

from collections.abc import Sequence

from detectron2.config import CfgNode

from .rules import (
    ABOVE_ZERO,
    COUNT,
    DATASET,
    FRACTION,
    POSITIVE,
    Contradiction,
    Rule,
    Table,
    always,
    ascending,
    between,
    each,
    is_number,
    is_rcnn,
    one_of,
    says,
)

RUN_RANGES = (
    Table(
        always,
        {
            "DATASETS.TRAIN": each(DATASET),
            "DATASETS.TEST": each(DATASET),
            "OUTPUT_DIR": Rule(
                lambda v: isinstance(v, str) and bool(v), says("the path of a folder")
            ),
            "INPUT.MIN_SIZE_TRAIN": each(between(0, what="0 (no resize) or more"), least=1),
            "INPUT.MIN_SIZE_TRAIN_SAMPLING": one_of("choice", "range"),
            "INPUT.MAX_SIZE_TRAIN": POSITIVE,
            "INPUT.RANDOM_FLIP": one_of("none", "horizontal", "vertical"),
            "INPUT.MASK_FORMAT": one_of("polygon", "bitmask"),
            "DATALOADER.NUM_WORKERS": COUNT,
            "DATALOADER.SAMPLER_TRAIN": one_of(
                "TrainingSampler",
                "RepeatFactorTrainingSampler",
                "RandomSubsetTrainingSampler",
                "WeightedTrainingSampler",
            ),
            "DATALOADER.REPEAT_THRESHOLD": COUNT,
            "DATALOADER.MIN_IMAGE_SIZE": COUNT,
            "DATALOADER.MIN_BOX_SIZE": COUNT,
            "SOLVER.LR_SCHEDULER_NAME": one_of(
                "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"
            ),
            "SOLVER.MAX_ITER": POSITIVE,
            "SOLVER.EPOCHS": between(0, what="0 (off) or more"),
            "SOLVER.STEPS": ascending(COUNT),
            "SOLVER.IMS_PER_BATCH": POSITIVE,
            "SOLVER.REFERENCE_WORLD_SIZE": between(0, what="0 (off) or more"),
            "SOLVER.CHECKPOINT_PERIOD": POSITIVE,
            "SOLVER.CHECKPOINT_MINUTES": between(0, what="0 (off) or more"),
            "SOLVER.CHECKPOINTS_TO_KEEP": between(0, what="0 (all) or more"),
            "SOLVER.BASE_LR": COUNT,
            "SOLVER.BASE_LR_END": COUNT,
            "SOLVER.MOMENTUM": FRACTION,
            "SOLVER.WEIGHT_DECAY": COUNT,
            "SOLVER.WEIGHT_DECAY_NORM": COUNT,
            "SOLVER.GAMMA": ABOVE_ZERO,
            "SOLVER.WARMUP_FACTOR": FRACTION,
            "SOLVER.WARMUP_ITERS": COUNT,
            "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
            "TEST.EVAL_PERIOD": between(0, what="0 (at the end only) or more"),
            "TEST.EVAL_EPOCHS": between(0, what="0 (off) or more"),
        },
    ),
    Table(
        lambda cfg: cfg.INPUT.CROP.ENABLED,
        {
            "INPUT.CROP.TYPE": one_of("relative_range", "relative", "absolute", "absolute_range"),
            "INPUT.CROP.SIZE": each(ABOVE_ZERO, number=2),
        },
    ),
    Table(
        lambda cfg: cfg.SOLVER.CLIP_GRADIENTS.ENABLED,
        {
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": one_of("value", "norm"),
            "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ABOVE_ZERO,
            "SOLVER.CLIP_GRADIENTS.NORM_TYPE": ABOVE_ZERO,
        },
    ),
    Table(
        lambda cfg: cfg.SOLVER.EARLY_STOPPING.ENABLED,
        {"SOLVER.EARLY_STOPPING.PATIENCE": POSITIVE},
    ),
    Table(
        lambda cfg: cfg.MODEL.EMA.ENABLED,
        {
            "MODEL.EMA.DECAY": Rule(
                lambda v: is_number(v) and 0 < v < 1, says("between 0 and 1, exclusive")
            )
        },
    ),
    Table(
        lambda cfg: cfg.TEST.PRECISE_BN.ENABLED,
        {"TEST.PRECISE_BN.NUM_ITER": POSITIVE},
    ),
    Table(
        lambda cfg: cfg.TEST.AUG.ENABLED,
        {"TEST.AUG.MIN_SIZES": each(POSITIVE, least=1), "TEST.AUG.MAX_SIZE": POSITIVE},
    ),
)


def _early_stopping(cfg: CfgNode) -> str | None:
    period, epochs = cfg.TEST.EVAL_PERIOD, cfg.TEST.EVAL_EPOCHS
    evaluated = cfg.DATASETS.TEST and (period or epochs)
    if cfg.SOLVER.EARLY_STOPPING.ENABLED and not evaluated:
        return (
            "SOLVER.EARLY_STOPPING.ENABLED is True, but nothing is evaluated during training: "
            f"DATASETS.TEST is {cfg.DATASETS.TEST}, TEST.EVAL_PERIOD {period}; set both, or "
            "TEST.EVAL_EPOCHS."
        )
    return None


def _validation_loss(cfg: CfgNode) -> str | None:
    if cfg.TEST.VALIDATION_LOSS and not cfg.DATASETS.TEST:
        return "TEST.VALIDATION_LOSS is True, but DATASETS.TEST is empty; set it."
    return None


def _average_and_precise_norms(cfg: CfgNode) -> str | None:
    if cfg.MODEL.EMA.ENABLED and cfg.TEST.PRECISE_BN.ENABLED:
        return (
            "MODEL.EMA.ENABLED and TEST.PRECISE_BN.ENABLED are both True, but precise BN updates "
            "the statistics of the trained weights, not of the average; set one of them False."
        )
    return None


def _augmented_test(cfg: CfgNode) -> str | None:
    kind, keypoints = cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.KEYPOINT_ON
    if cfg.TEST.AUG.ENABLED and (kind != "GeneralizedRCNN" or keypoints):
        return (
            "TEST.AUG.ENABLED is True, but test-time augmentation is for GeneralizedRCNN without "
            f"keypoints, not for {kind} with KEYPOINT_ON {keypoints}; set it False."
        )
    return None


def _range_of_sizes(cfg: CfgNode) -> str | None:
    sizes = tuple(cfg.INPUT.MIN_SIZE_TRAIN)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range" and (len(sizes) != 2 or sizes[0] > sizes[1]):
        return (
            f"INPUT.MIN_SIZE_TRAIN is {sizes}, but INPUT.MIN_SIZE_TRAIN_SAMPLING is 'range'; give "
            "the smallest and the largest size, or set MIN_SIZE_TRAIN_SAMPLING choice."
        )
    return None


def _crop_size(cfg: CfgNode) -> str | None:
    keys = cfg.INPUT.CROP
    if keys.ENABLED and keys.TYPE.startswith("relative") and max(keys.SIZE) > 1:
        return (
            f"INPUT.CROP.SIZE is {keys.SIZE}, but INPUT.CROP.TYPE is {keys.TYPE}: give fractions "
            "of the image, 0 to 1, or set TYPE absolute."
        )
    return None


def _nesterov(cfg: CfgNode) -> str | None:
    if cfg.SOLVER.NESTEROV and not cfg.SOLVER.MOMENTUM:
        return "SOLVER.NESTEROV is True, but SOLVER.MOMENTUM is 0; set NESTEROV False."
    return None


def _fitted_anchors(cfg: CfgNode) -> str | None:
    keys, model = cfg.MODEL.ANCHOR_GENERATOR, cfg.MODEL
    if not keys.AUTO:
        return None
    needs = "MODEL.ANCHOR_GENERATOR.AUTO is True, but it fits the anchors of an RPN"
    if not is_rcnn(cfg):
        return (
            f"{needs}, which MODEL.META_ARCHITECTURE {model.META_ARCHITECTURE} with "
            f"MODEL.PROPOSAL_GENERATOR.NAME {model.PROPOSAL_GENERATOR.NAME!r} has not; set it "
            "False and choose SIZES."
        )
    if keys.NAME != "DefaultAnchorGenerator":
        return f"{needs} by DefaultAnchorGenerator, and NAME is {keys.NAME}; set it False."
    for name in ("SIZES", "ASPECT_RATIOS"):
        if len({len(level) for level in keys[name] if isinstance(level, list | tuple)}) > 1:
            return (
                f"{needs} with as many {name} in every level, which are {keys[name]}; give as "
                "many in each, or set it False."
            )
    return None


def _unknown_anchors(cfg: CfgNode) -> str | None:
    if cfg.MODEL.ANCHOR_GENERATOR.AUTO:
        return (
            "MODEL.ANCHOR_GENERATOR.AUTO is True: a training finds the anchors; take the "
            "config.yaml of that run, which has them."
        )
    return None


# Asked of a detector that is not trained any more.
TRAINED_CONTRADICTIONS: Sequence[Contradiction] = (_unknown_anchors,)
# Asked of a schedule that is fitted to its data: before, TEST.EVAL_PERIOD is a recipe's.
SCHEDULE_CONTRADICTIONS: Sequence[Contradiction] = (_early_stopping,)
RUN_CONTRADICTIONS: Sequence[Contradiction] = (
    _validation_loss,
    _average_and_precise_norms,
    _augmented_test,
    _range_of_sizes,
    _crop_size,
    _nesterov,
    _fitted_anchors,
)
