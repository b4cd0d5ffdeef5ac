"""Config keys of this package.

A key's default is the published ResNeSt-50's where the key is ours; detectron2's defaults stay.
"""

import copy
import functools
from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.config import get_cfg as get_detectron2_cfg


def add_resnest_config(cfg: CfgNode) -> None:
    """Add the keys of this package to a detectron2 config; changes nothing that is there."""
    keys = cfg.MODEL.RESNETS
    # Splits of the 3x3 convolution: 2 is ResNeSt's, 1 a squeeze-and-excitation, 0 a plain ResNet.
    keys.RADIX = 2
    # A 3x3 average pool carries a block's stride instead of a convolution. STRIDE_IN_1X1 means
    # nothing then: True, detectron2's default, is taken for False, which is logged.
    keys.AVD = True
    # That pool stands before the 3x3 convolution instead of after; needs AVD.
    keys.AVD_FIRST = False
    # The shortcut strides by an average pool instead of by its 1x1 convolution.
    keys.AVG_DOWN = True
    # Three 3x3 convolutions instead of one 7x7; STEM_OUT_CHANNELS 64 to depth 50, 128 from 101 on.
    # From 101 on 64, detectron2's default, is taken for 128, which is logged.
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
    # Save a checkpoint when the last one is older than this, in minutes; 0: by iterations only.
    cfg.SOLVER.CHECKPOINT_MINUTES = 15.0
    # Number of numbered checkpoints that are kept, beside the best and the final one; 0: all.
    cfg.SOLVER.CHECKPOINTS_TO_KEEP = 3
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


@functools.cache
def _defaults() -> CfgNode:
    return get_cfg()


def _our_keys() -> Iterator[tuple[str, Any]]:
    """Dotted names of this package's keys, and their defaults."""
    theirs = dict(leaves(get_detectron2_cfg()))
    return ((key, value) for key, value in leaves(_defaults()) if key not in theirs)


def leaves(node: dict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of the leaves of nested dictionaries."""
    for name, value in node.items():
        full = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from leaves(value, f"{full}.")
        else:
            yield full, value


def get_key(cfg: CfgNode, key: str, default: Any = None) -> Any:
    """Value of a key by its dotted name; the default where there is none."""
    node = cfg
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return default
        node = node[part]
    return node


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Sets a key by its dotted name."""
    *path, leaf = key.split(".")
    for part in path:
        cfg = cfg[part]
    cfg[leaf] = value


def default_of(key: str) -> Any:
    """Default of a key by its dotted name."""
    return get_key(_defaults(), key)


def fill_defaults(cfg: CfgNode) -> None:
    """Give a config every key of this package that it lacks, in place.

    A client that reads a file by ``cfg.set_new_allowed(True)`` and ``merge_from_file`` has only the
    keys of the file, and lists where the defaults are tuples.
    """
    for key, value in _lacking(cfg).items():
        *path, leaf = key.split(".")
        node = cfg
        for part in path:
            if part not in node:
                node[part] = CfgNode()
            node = node[part]
        node[leaf] = copy.deepcopy(value)


def with_defaults(cfg: CfgNode) -> CfgNode:
    """A config with every key of this package, as :func:`fill_defaults` gives them.

    Args:
        cfg: any detectron2 config; it is not changed.

    Returns:
        The config itself where nothing is to be done; else a copy, frozen if it was.
    """
    if not _lacking(cfg):
        return cfg
    new = cfg.clone()
    new.defrost()
    fill_defaults(new)
    if cfg.is_frozen():
        new.freeze()
    return new


def _lacking(cfg: CfgNode) -> dict[str, Any]:
    """Keys that are absent or lists for tuples, and what they should be."""
    found = {key: get_key(cfg, key, _ABSENT) for key, _ in OUR_KEYS}
    return {
        key: default if found[key] is _ABSENT else tuple(found[key])
        for key, default in OUR_KEYS
        if found[key] is _ABSENT or (isinstance(default, tuple) and isinstance(found[key], list))
    }


_ABSENT = object()
OUR_KEYS = tuple(_our_keys())
