"""Config keys of this package, and the checks of keys that contradict each other.

A key's default is the published ResNeSt-50's where the key is ours; detectron2's defaults stay.
"""

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg

from resnest_d2.errors import UserError

# Keys that only one class reads: (key that names a class, that class, keys under MODEL).
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
LOW_QUALITY_MATCHES = ("detectron2", "mmdetection")
ACTIVATION_CHECKPOINTS = ("none", "light", "block")
NORMS = ("", "BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "nnSyncBN", "FrozenBN", "GN", "LN")


def add_resnest_config(cfg: CfgNode) -> None:
    """Add the keys of this package to a detectron2 config; changes nothing that is there."""
    keys = cfg.MODEL.RESNETS
    # Splits of the 3x3 convolution: 2 is ResNeSt's, 1 a squeeze-and-excitation, 0 a plain ResNet.
    keys.RADIX = 2
    # A 3x3 average pool carries a block's stride instead of a convolution; needs STRIDE_IN_1X1 off.
    keys.AVD = True
    # That pool stands before the 3x3 convolution instead of after; needs AVD.
    keys.AVD_FIRST = False
    # The shortcut strides by an average pool instead of by its 1x1 convolution.
    keys.AVG_DOWN = True
    # Three 3x3 convolutions instead of one 7x7; STEM_OUT_CHANNELS 64 to depth 50, 128 from 101 on.
    keys.DEEP_STEM = True
    # Width of a cardinal group in 64ths (timm's "40d" is 40); NUM_GROUPS is the cardinality.
    keys.BOTTLENECK_WIDTH = 64
    # What training computes again in the backward pass to save memory: "none"; "light", norms,
    # activations and attention; "block", whole blocks; in a CheckpointConvFCHead too. The gradients
    # are the same.
    keys.ACTIVATION_CHECKPOINT = "none"

    # What mmdetection's cascades do otherwise than detectron2's, for CascadeMaskROIHeads.
    keys = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    # Factor of each stage's losses, masks included; () for 1 each.
    keys.STAGE_LOSS_WEIGHTS = ()
    # Sample BATCH_SIZE_PER_IMAGE regions anew at every stage, ground truth among them.
    keys.RESAMPLE = False
    # At test time average the stages' class logits instead of their probabilities.
    keys.AVERAGE_LOGITS = False
    # Divide the gradient of the box losses into the features by the number of stages.
    keys.SCALE_FEATURE_GRADIENTS = True
    # Clamp a box's change of size from below too; elsewhere by the names TwoSided{RPN,ROIHeads}.
    keys.TWO_SIDED_CLAMP = False
    # One mask head a stage, trained on its regions; their masks are averaged at test time.
    cfg.MODEL.ROI_MASK_HEAD.PER_STAGE = False

    # Whose an object's best anchors are: "detectron2", of the object that they overlap most;
    # "mmdetection", of that object itself, from the lower IOU_THRESHOLDS up. For TwoSidedRPN.
    cfg.MODEL.RPN.LOW_QUALITY_MATCHES = "detectron2"
    # Do not train on anchors that only a larger image of the batch brings. For TwoSidedRPN.
    cfg.MODEL.RPN.SKIP_PADDING = False
    # The same of proposals, from the upper IOU_THRESHOLDS up; "detectron2" has no such matches. For
    # TwoSidedROIHeads.
    cfg.MODEL.ROI_HEADS.LOW_QUALITY_MATCHES = "detectron2"

    # Leave images with a side under this many pixels out of the training.
    cfg.DATALOADER.MIN_IMAGE_SIZE = 0
    # Leave boxes with a side under this many pixels of the file out of the training.
    cfg.DATALOADER.MIN_BOX_SIZE = 0

    # What resizes images: "pil" as detectron2 does, or "cv2" (bilinear) as mmdetection does.
    cfg.INPUT.RESIZE = "pil"

    # Evaluate (train_net.py --eval-only) the detector made faster, with the same results.
    cfg.MODEL.DEPLOY = CfgNode()
    cfg.MODEL.DEPLOY.ENABLED = False
    # "eager" needs nothing, "inductor" a C++ compiler, "openvino" that package and a CPU.
    cfg.MODEL.DEPLOY.BACKEND = "eager"
    # Mixed precision: float16 on CUDA, bfloat16 on the CPU; results then differ in the third digit.
    cfg.MODEL.DEPLOY.AMP = False

    # Write report.html into OUTPUT_DIR after every evaluation of COCO-format data sets.
    cfg.TEST.REPORT = True
    # Evaluate and keep the moving average of the weights; see docs/training.md.
    cfg.MODEL.EMA = CfgNode()
    cfg.MODEL.EMA.ENABLED = False
    # Weight of the old average in each step, after a warm-up of its own.
    cfg.MODEL.EMA.DECAY = 0.9998

    # Length of the training in passes over its images; 0: SOLVER.MAX_ITER says it. STEPS are
    # moved to the same fractions of the run.
    cfg.SOLVER.EPOCHS = 0
    # Stop when the validation AP gets no better.
    cfg.SOLVER.EARLY_STOPPING = CfgNode()
    cfg.SOLVER.EARLY_STOPPING.ENABLED = False
    # Evaluations to wait for one better than the best before.
    cfg.SOLVER.EARLY_STOPPING.PATIENCE = 10

    # Passes over the training images between evaluations; 0: TEST.EVAL_PERIOD says it.
    cfg.TEST.EVAL_EPOCHS = 0
    # With every evaluation also the losses on DATASETS.TEST, as validation/total_loss and so on.
    cfg.TEST.VALIDATION_LOSS = False

    # COCO-format data sets to register: [name, annotation file, image folder] each.
    cfg.DATASETS.COCO = []
    # Folder that the paths in COCO are relative to; "" for the config file's, else the current one.
    cfg.DATASETS.ROOT = ""
    # Names of the classes in the order of their ids, and those ids. Taken from COCO's files, so
    # that a run knows them where its data is not; given ones must be the data's.
    cfg.DATASETS.CLASSES = []
    cfg.DATASETS.CATEGORY_IDS = []


def get_cfg() -> CfgNode:
    """detectron2's default config with this package's keys."""
    cfg = get_detectron2_cfg()
    add_resnest_config(cfg)
    return cfg


def check_resnest_config(cfg: CfgNode) -> None:
    """Refuse keys under MODEL that contradict each other or are out of range.

    Raises:
        ValueError: naming the keys, what they are and what to choose.
    """
    _check_backbone(cfg)
    _check_classes(cfg)


def _check_classes(cfg: CfgNode) -> None:
    default = get_cfg()
    for name_key, known, keys in _KEYS_OF_CLASSES:
        name = _value(cfg, name_key)
        for key in keys:
            value = _value(cfg, key)
            if name != known and value != _value(default, key):
                raise UserError(
                    f"MODEL.{key} is {value!r}, but MODEL.{name_key} is {name}, which does not "
                    f"know it; set NAME to {known}, or leave the key out."
                )


def _value(cfg: CfgNode, key: str) -> object:
    section, leaf = key.split(".")
    return cfg.MODEL[section][leaf]


def _check_backbone(cfg: CfgNode) -> None:
    keys = cfg.MODEL.RESNETS
    if keys.AVD and keys.STRIDE_IN_1X1:
        raise UserError(
            "MODEL.RESNETS.AVD and MODEL.RESNETS.STRIDE_IN_1X1 are both True, but only one of the "
            "average pool and the first 1x1 convolution can carry the stride; set STRIDE_IN_1X1 "
            "False (every published ResNeSt), or AVD False."
        )
    if keys.AVD_FIRST and not keys.AVD:
        raise UserError(
            "MODEL.RESNETS.AVD_FIRST is True and MODEL.RESNETS.AVD False: there is no average pool "
            "to put first; set AVD True, or AVD_FIRST False."
        )
    if keys.WIDTH_PER_GROUP != 64 and keys.BOTTLENECK_WIDTH != 64:
        raise UserError(
            f"MODEL.RESNETS.WIDTH_PER_GROUP ({keys.WIDTH_PER_GROUP}) and BOTTLENECK_WIDTH "
            f"({keys.BOTTLENECK_WIDTH}) both set the width of a group; leave one of them at 64."
        )
    for name, value, allowed in (
        ("MODEL.RESNETS.NORM", keys.NORM, NORMS),
        ("MODEL.RESNETS.ACTIVATION_CHECKPOINT", keys.ACTIVATION_CHECKPOINT, ACTIVATION_CHECKPOINTS),
        ("MODEL.RESNETS.RES5_DILATION", keys.RES5_DILATION, (1, 2)),
        ("MODEL.BACKBONE.FREEZE_AT", cfg.MODEL.BACKBONE.FREEZE_AT, tuple(range(6))),
        *(
            (
                f"MODEL.{section}.LOW_QUALITY_MATCHES",
                cfg.MODEL[section].LOW_QUALITY_MATCHES,
                LOW_QUALITY_MATCHES,
            )
            for section in ("RPN", "ROI_HEADS")
        ),
    ):
        if value not in allowed:
            raise UserError(f"{name} is {value!r}; choose from {allowed}.")
    for name in ("NUM_GROUPS", "BOTTLENECK_WIDTH", "WIDTH_PER_GROUP", "DEFORM_NUM_GROUPS"):
        if keys[name] < 1:
            raise UserError(f"MODEL.RESNETS.{name} is {keys[name]}; choose 1 or more.")
    if keys.RADIX < 0:
        raise UserError(f"MODEL.RESNETS.RADIX is {keys.RADIX}; choose 0 (plain), 1, 2 or 4.")
    if len(keys.DEFORM_ON_PER_STAGE) != 4:
        raise UserError(
            f"MODEL.RESNETS.DEFORM_ON_PER_STAGE is {keys.DEFORM_ON_PER_STAGE}; give four values, "
            "one each for res2 to res5."
        )
